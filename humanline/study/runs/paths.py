"""Where the files of a scale lie. Rules and stages ask here, and build no path of their own."""

from dataclasses import dataclass
from pathlib import Path

from humanline.study.experiments import Cell
from humanline.study.tasks import scoring_of


@dataclass(frozen=True)
class Paths:
    """The files of a scale that are of no single run.

    Args:
        results: the folder of the scale's results.
    """

    results: Path

    def prompts(self, task: str, split: str) -> Path:
        """The prompts of a split, JSON Lines."""
        return self.results / "data" / task / f"{split}.jsonl"

    def surprisals(self, seed: int) -> Path:
        """How the figure's policy perceives the outputs of every source, CSV."""
        return self.figures / f"surprisals-s{seed}.csv"

    @property
    def figures(self) -> Path:
        """The folder of the figures of the theory."""
        return self.results / "figures"

    @property
    def tables(self) -> Path:
        """The folder of the tables, and of the verdicts on the claims."""
        return self.results / "tables"

    @property
    def map(self) -> Path:
        """The folder of the map of exploratory runs."""
        return self.results / "map"

    @property
    def tune(self) -> Path:
        """The folder of the learning rates that a search has chosen."""
        return self.results / "tune"

    @property
    def benchmarks(self) -> Path:
        """The folder of what each job took, as Snakemake measures it."""
        return self.results / "benchmarks"


@dataclass(frozen=True)
class RunPaths:
    """The files of a run, and those of others that it reads.

    Args:
        paths: of its scale.
        cell: the run's.
        split: of the prompts that it is evaluated on.
    """

    paths: Paths
    cell: Cell
    split: str

    @property
    def directory(self) -> Path:
        """The folder of the run's own files."""
        return self._directory(self.cell)

    def _directory(self, cell: Cell) -> Path:
        return self.paths.results / "runs" / cell.task / cell.name

    @property
    def model(self) -> Path:
        """The folder of the run's last model, in Hugging Face's format."""
        return self.directory / "model"

    @property
    def base_model(self) -> Path:
        """The folder of the model that the run starts from."""
        return self._directory(self.cell.base) / "model"

    @property
    def base_made(self) -> Path:
        """The file whose presence says that the model is made that the run starts from."""
        return self.base_model / "config.json"

    @property
    def trained_on(self) -> list[Path]:
        """The data that the run reads while it trains."""
        if self.cell.data == "online":
            return [self.prompts]
        return [self.offline_groups, *([self.likelihoods] if self.cell.quartile else [])]

    @property
    def prompts(self) -> Path:
        """The prompts that the task trains on, JSON Lines."""
        return self.paths.prompts(self.cell.task, "train")

    @property
    def evaluation_prompts(self) -> Path:
        """The prompts that the run is evaluated on, JSON Lines."""
        return self.paths.prompts(self.cell.task, self.split)

    @property
    def offline_groups(self) -> Path:
        """The scored completions of the model that the run's offline data are of, JSON Lines."""
        return self._data(f"offline-{self.cell.data_base.name}.jsonl")

    @property
    def likelihoods(self) -> Path:
        """How likely the run's base model finds those completions, JSON Lines."""
        source, base = self.cell.data_base, self.cell.base
        return self._data(f"likelihood-{source.name}-under-{base.name}.jsonl")

    def likelihoods_of(self, source: Cell) -> Path:
        """How likely the run's base model finds the completions of another, JSON Lines."""
        return self._data(f"likelihood-{source.name}-under-{self.cell.base.name}.jsonl")

    def _data(self, name: str) -> Path:
        return self.paths.results / "data" / self.cell.task / name

    @property
    def record(self) -> Path:
        """What training tells of itself, JSON: `TrainingRecord`."""
        return self.directory / "train.json"

    @property
    def log(self) -> Path:
        """What the trainer logged, CSV."""
        return self.directory / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder with a folder of checkpoints for each code, options and inputs."""
        return self.directory / "checkpoints"

    @property
    def made(self) -> Path:
        """The file whose presence says that the run's model is made."""
        is_base = self.cell.objective == "base"
        return self.model / "config.json" if is_base else self.record

    @property
    def samples(self) -> Path:
        """The completions that are evaluated, JSON Lines."""
        return self.directory / "samples.jsonl"

    @property
    def scored(self) -> Path:
        """The file whose presence says that the run is scored."""
        return self.directory / scoring_of(self.cell.task).score_file

    @property
    def annotations(self) -> Path:
        """The judge's verdicts on the last step, JSON in AlpacaEval's format."""
        return self.directory / "annotations.json"

    @property
    def summary(self) -> Path:
        """What these verdicts come to, JSON: `Summary`."""
        return self.directory / "metrics.json"

    @property
    def curve(self) -> Path:
        """The length-controlled win rate of every evaluated step, CSV."""
        return self.directory / "curve.csv"

    @property
    def grades(self) -> Path:
        """Whether each sample of math is correct, CSV."""
        return self.directory / "grades.csv"

    @property
    def answers(self) -> Path:
        """What an endpoint answered as the run's judge, JSON Lines, in alpaca_eval's folder."""
        return self.directory / "judge" / "answers.jsonl"

    @property
    def predictors(self) -> Path:
        """What may predict how well the run's offline data train, JSON: `Predictors`."""
        return self.directory / "predictors.json"
