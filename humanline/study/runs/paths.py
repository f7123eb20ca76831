"""The paths of a scale's files. Rules and stages take them from here and build none themselves."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from humanline.files.validation import ConfigError
from humanline.study.experiments import Cell
from humanline.study.tasks import scoring_of

_UNPRINTABLE = ("Cc", "Cs")  # control characters, and bytes that are not UTF-8
_LONGEST = 255 - len(".provenance.json.1234567.tmp")  # bytes of a name, with what we append to it


def require_folder(name: str, folder: Path) -> None:
    """Refuse a folder that no file can be written into, whatever its rights and place on the disk.

    Args:
        name: what an error's line calls it.
        folder: the folder; it need not exist.

    Raises:
        ConfigError: if it is a file or in one, or if its path is no text or too long.
    """
    if any(unicodedata.category(c) in _UNPRINTABLE for c in str(folder)):
        reason = "has a line break, a control character or a byte that is not UTF-8"
        raise ConfigError(f"{name}: {str(folder)!r} {reason}; use another folder")
    long = max(folder.parts, key=len, default="")
    if len(long.encode()) > _LONGEST or len(str(folder.absolute()).encode()) > 3000:
        reason = "is too long for a path with the files below it"
        raise ConfigError(f"{name}: {long[:40]!r}...: {reason}; use a shorter folder")
    try:
        first = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not first.is_dir():
            raise ConfigError(f"{name}: {str(first)!r} is a file; name a folder")
    except OSError as error:
        reason = f"cannot be looked at ({error.strerror})"
        raise ConfigError(f"{name}: {str(folder)!r} {reason}; use another folder") from None


@dataclass(frozen=True)
class Paths:
    """The files of a scale that do not belong to a single run.

    Args:
        results: the folder of the scale's results.
    """

    results: Path

    def prompts(self, task: str, draw: str, split: str) -> Path:
        """Locate the prompts of a split, JSON Lines.

        Args:
            task: the task's name.
            draw: the name of a set of prompts; see `study.scale.data`.
            split: a name in `SPLITS`.
        """
        return self.results / "data" / task / draw / f"{split}.jsonl"

    def pretrained(self, task: str, name: str) -> Path:
        """Locate a model that the base models of all seeds start from, a Hugging Face folder.

        Args:
            task: the task's name.
            name: the hash of all that determines it; see `Hashes.pretrained`.
        """
        return self.results / "pretrained" / task / name

    def surprisals(self, seed: int) -> Path:
        """Locate the log-ratios of the figure's policy on the outputs of every source, CSV."""
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
    def page(self) -> Path:
        """The page that shows all results, one HTML file."""
        return self.results / "report" / "index.html"

    @property
    def logs(self) -> Path:
        """The folder of the jobs' logs."""
        return self.results / "logs"

    @property
    def map(self) -> Path:
        """The folder of the map of exploratory runs."""
        return self.results / "map"

    @property
    def tune(self) -> Path:
        """The folder of the tuned learning rates."""
        return self.results / "tune"

    @property
    def power(self) -> Path:
        """The folder of the claims' power, and of the pilot that it comes from."""
        return self.results / "power"

    @property
    def pilot(self) -> Path:
        """The pilot that `snakemake power` measures, YAML."""
        return self.power / "pilot.yaml"

    @property
    def looks(self) -> Path:
        """The record of the looks that `snakemake decide` has taken, JSON."""
        return self.results / "decide" / "looks.json"

    @property
    def benchmarks(self) -> Path:
        """The folder of Snakemake's measurements of each job: seconds and memory."""
        return self.results / "benchmarks"


@dataclass(frozen=True)
class RunPaths:
    """The files of a run, and the files of other runs that it reads.

    Args:
        paths: the files of its scale.
        cell: the run's cell.
        draw: the name of the set of prompts of its seed.
        split: the split of the prompts for its evaluation.
    """

    paths: Paths
    cell: Cell
    draw: str
    split: str

    @property
    def directory(self) -> Path:
        """The folder of the run's own files."""
        return self._directory(self.cell)

    def _directory(self, cell: Cell) -> Path:
        return self.paths.results / "runs" / cell.task / cell.name

    @property
    def model(self) -> Path:
        """The folder of the run's final model, in Hugging Face's format."""
        return self.directory / "model"

    @property
    def base_model(self) -> Path:
        """The folder of the model that the run starts from."""
        return self._directory(self.cell.base) / "model"

    @property
    def base_made(self) -> Path:
        """The file whose presence says that the run's base model is ready."""
        return self.base_model / "config.json"

    @property
    def trained_on(self) -> list[Path]:
        """The data files that training reads."""
        if self.cell.data == "online":
            return [self.prompts]
        return [self.offline_groups, *([self.likelihoods] if self.cell.quartile else [])]

    @property
    def prompts(self) -> Path:
        """The training prompts of the run's seed, JSON Lines."""
        return self._prompts("train")

    @property
    def evaluation_prompts(self) -> Path:
        """The prompts for the run's evaluation, JSON Lines."""
        return self._prompts(self.split)

    def _prompts(self, split: str) -> Path:
        return self.paths.prompts(self.cell.task, self.draw, split)

    @property
    def offline_groups(self) -> Path:
        """The run's offline data: scored completions of one base model, JSON Lines."""
        return self._data(f"offline-{self.cell.data_base.name}.jsonl")

    @property
    def likelihoods(self) -> Path:
        """The likelihoods of the offline data under the run's base model, JSON Lines."""
        source, base = self.cell.data_base, self.cell.base
        return self._data(f"likelihood-{source.name}-under-{base.name}.jsonl")

    def likelihoods_of(self, source: Cell) -> Path:
        """Locate the likelihoods of another model's completions under the run's, JSON Lines."""
        return self._data(f"likelihood-{source.name}-under-{self.cell.base.name}.jsonl")

    def _data(self, name: str) -> Path:
        return self.paths.results / "data" / self.cell.task / name

    @property
    def record(self) -> Path:
        """The record of the training, JSON: `TrainingRecord`."""
        return self.directory / "train.json"

    @property
    def log(self) -> Path:
        """The trainer's log, CSV: `LogRow`."""
        return self.directory / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints; each combination of code, options and inputs has its own."""
        return self.directory / "checkpoints"

    @property
    def made(self) -> Path:
        """The file whose presence says that the run's model is ready."""
        is_base = self.cell.objective == "base"
        return self.model / "config.json" if is_base else self.record

    @property
    def samples(self) -> Path:
        """The completions for the evaluation, JSON Lines."""
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
        """The summary of the verdicts, JSON: `Summary`."""
        return self.directory / "metrics.json"

    @property
    def curve(self) -> Path:
        """The length-controlled win rate of every evaluated step, CSV."""
        return self.directory / "curve.csv"

    @property
    def grades(self) -> Path:
        """The outcome of grading each sample, CSV."""
        return self.directory / "grades.csv"

    @property
    def answers(self) -> Path:
        """The answers of the judge's endpoint, JSON Lines, in alpaca_eval's folder."""
        return self.directory / "judge" / "answers.jsonl"

    @property
    def predictors(self) -> Path:
        """The measured predictors of how well the offline data train, JSON: `Predictors`."""
        return self.directory / "predictors.json"
