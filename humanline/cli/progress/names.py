"""What a job of the workflow is, for people: its stage, its cell in words, and its kind."""

from collections.abc import Mapping
from dataclasses import dataclass

from humanline.cli.progress.seconds import Kind
from humanline.files.validation import ConfigError
from humanline.study.cells import Cell
from humanline.study.study import Study
from humanline.study.tasks import score_rule
from humanline.study.words import cell_words

# Stages whose time depends on the number of checkpoints.
_EVALUATE = ("generate", "score")


@dataclass(frozen=True)
class Named:
    """A job of the workflow.

    Args:
        stage: its rule; all rules that score are `score`.
        of: what it is about, in words: a cell with its seed, a table, a set of prompts.
        kind: what its seconds depend on.
        is_of_cell: whether it is about one cell.
    """

    stage: str
    of: str
    kind: Kind
    is_of_cell: bool = False

    @property
    def words(self) -> str:
        """Stage and subject: ``table, first taste``, or ``report``."""
        return words(self.stage, self.of)


def words(stage: str, of: str) -> str:
    """Say what a job is, by its stage and its subject, if it has one."""
    return f"{stage}, {of}" if of else stage


class Namer:
    """Names the jobs of a study's workflow.

    Args:
        study: the study.
    """

    def __init__(self, study: Study):
        self._study = study
        self._score_rules = {score_rule(task): task for task in study.scale.tasks}

    def name(self, rule: str, wildcards: Mapping[str, str]) -> Named:
        """Name a job.

        Args:
            rule: the name of its rule.
            wildcards: its wildcards.
        """
        stage, task = rule, wildcards.get("task", "")
        if rule in self._score_rules:
            stage, task = "score", self._score_rules[rule]
        if rule.startswith("table_"):
            return Named("table", _spaced(rule.removeprefix("table_")), Kind("table"))
        run = wildcards.get("run") or wildcards.get("base")
        if task and run:
            try:
                return self._of_cell(stage, task, run)
            except ConfigError:  # the configuration has changed since the workflow began
                pass
        words = [_spaced(name) for name in (task, run) if name]
        words += [f"seed {wildcards['seed']}"] if "seed" in wildcards else []
        words += [_draw_words(wildcards["draw"])] if "draw" in wildcards else []
        return Named(stage, ", ".join(words), Kind(stage, task))

    def _of_cell(self, stage: str, task: str, name: str) -> Named:
        run = self._study.run(task, name)
        cell = run.cell
        evaluations = str(run.evaluations) if stage in _EVALUATE else ""
        kind = Kind(
            stage, task, cell.base_model or "", cell.objective, cell.data or "", evaluations
        )
        return Named(stage, self._words(cell), kind, True)

    def _words(self, cell: Cell) -> str:
        # What differs between jobs comes first: in a narrow terminal the end is cut.
        words = f"{cell_words(cell)}; seed {cell.seed}"
        if len(self._study.scale.tasks) == 1:
            return words
        return f"{words}, {_spaced(cell.task)}"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _draw_words(draw: str) -> str:
    """Say whose prompts a draw is: ``seed 3``, or ``all seeds``."""
    return f"seed {draw.removeprefix('s')}" if draw != "all" else "all seeds"
