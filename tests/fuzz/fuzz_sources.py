"""Bad files of other sources than the configuration and the stages: each is told in one line.

They are the files that `decide`, `map`, `figures`, `power` and `surprisal` read, annotations of a
person, models of the hub's cache, of a local folder and of a package, and an endpoint's answers.
A sample runs with the other tests. All of them by hand, with a table by kind:

    python tests/fuzz/fuzz_sources.py --out outcomes.tsv
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # by hand; pytest has it already

import fuzz_study
import model_cases
import small_study
import source_cases
from endpoint import KEY, Endpoint, serving
from study_outcomes import BAD, Case, Outcome, run

# What the commands write, below the folder of the scale.
WRITTEN = {
    "decide": ("decide/*",),
    "map": ("map/*.csv",),
    "figures": ("figures/implied_capacity.csv",),
    "power": ("power/*.csv", "power/pilot.yaml"),
    "surprisal": ("figures/surprisals-*.csv",),
    "score": ("runs/*/base-s1/annotations.json", "runs/*/base-s1/[mc]*"),
    "base_model": ("runs/*/base-s1/model/*",),
    "compare": ("comparison/*.csv",),
}


def act(case: Case) -> int:
    """Do a case in the current folder: its words are a command of `humanline`."""
    from huggingface_hub import constants

    from humanline.cli.commands import main

    home = Path("home").absolute()
    constants.HF_HOME, constants.HF_HUB_CACHE = str(home), str(home / "hub")
    constants.HF_HUB_OFFLINE = True
    os.environ |= {"OPENAI_API_KEY": KEY, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    return main(list(case.words or ()))


class Verifier:
    """Compares what a case has written and printed with what the files as they should be give."""

    def __init__(self, base: Path, folder: Path):
        self._base, self._folder = base, folder
        self._right: dict[tuple[str, ...], tuple[dict[str, bytes], str]] = {}

    def __call__(self, case: Case, folder: Path, text: str, is_accepted: bool) -> bool:
        words = case.words or ()
        found = self._found(words, folder, text)
        if not is_accepted:
            return _without(case, found[0]) == _without(case, self._found(words, self._base, "")[0])
        if case.expected == "right":
            return True
        right = self._made(words)
        return _without(case, found[0]) == _without(case, right[0]) and found[1] == right[1]

    def _made(self, words: tuple[str, ...]) -> tuple[dict[str, bytes], str]:
        if words not in self._right:
            found: list[tuple[dict[str, bytes], str]] = []

            def keep(_: Case, folder: Path, text: str, is_accepted: bool) -> bool:
                found.append(self._found(words, folder, text))
                return is_accepted

            case = Case("as it should be", " ".join(words), words=words, expect="right")
            outcome = run(case, self._base, self._folder / "right", act, keep)
            if outcome.kind in BAD:
                raise AssertionError(f"{words}: {outcome}")
            self._right[words] = found[0]
            shutil.rmtree(self._folder / "right")
        return self._right[words]

    def _found(self, words: tuple[str, ...], folder: Path, text: str):
        scale = next(word for word in (*words, "--scale=none") if word.startswith("--scale="))
        results = folder / "results" / scale.removeprefix("--scale=")
        paths = [p for glob in WRITTEN.get(words[0], ()) for p in results.glob(glob)]
        files = {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.is_file()}
        return files, _said(text) if words[0] in ("decide", "score_annotations") else ""


def _without(case: Case, files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name not in case.files}


def _said(text: str) -> str:
    """Leave out what differs each time."""
    lines = [line for line in text.splitlines() if "decide:" in line or "rate" in line]
    return re.sub(r"[\d.]+ s$|of the [\d.]+", "", "\n".join(lines), flags=re.MULTILINE)


@contextmanager
def base() -> Iterator[tuple[Path, Path]]:
    """Make the study that cases change, with its endpoint, and a folder for the cases."""
    warm()
    endpoint = Endpoint(lambda message: {"M": -0.7, "m": -0.69})
    with tempfile.TemporaryDirectory() as folder, serving(endpoint):
        yield small_study.make(Path(folder, "base"), endpoint.url), Path(folder, "cases")


def all_cases(base: Path, folder: Path) -> list[Case]:
    """Make every case; the answers that are damaged come from a run in a folder."""
    answers = _answers(base, folder / "answers")
    cases = [*source_cases.cases(base), *source_cases.answers(answers)]
    return [*cases, *model_cases.cases(base, _converted(base, folder / "converted"))]


def _answers(base: Path, folder: Path) -> list[bytes]:
    """Let the endpoint judge, and return the lines of the file of its answers."""
    (content,) = _left(base, folder, source_cases.SCORE, source_cases.ANSWERS).values()
    return content.splitlines(keepends=True)


def _converted(base: Path, folder: Path) -> dict[str, bytes]:
    """Let a package's model be converted, and return what is in the cache, by its path."""
    words = ("prefetch", "--config=models", "--scale=packed", "--results=results")
    return _left(base, folder, words, f"{model_cases.MODELS}/**/*")


def _left(base: Path, folder: Path, words: tuple[str, ...], glob: str) -> dict[str, bytes]:
    """Run a command in a folder of its own, and return files that it leaves."""
    found: dict[str, bytes] = {}

    def keep(case: Case, place: Path, text: str, is_accepted: bool) -> bool:
        paths = [path for path in place.glob(glob) if path.is_file() and path.suffix != ".lock"]
        found.update({str(path.relative_to(place)): path.read_bytes() for path in paths})
        return is_accepted

    outcome = run(Case("made", words[0], words=words, expect="right"), base, folder, act, keep)
    shutil.rmtree(folder)
    if outcome.kind in BAD or not found:
        raise AssertionError(outcome)
    return found


def outcomes(cases: list[Case], base: Path, folder: Path) -> Iterator[tuple[Case, Outcome]]:
    """Run cases, each in a folder of its own."""
    verify = Verifier(base, folder)
    for number, case in enumerate(cases):
        own = folder / str(number)
        yield case, run(case, base, own, act, verify)
        shutil.rmtree(own, ignore_errors=True)


def warm() -> None:
    """Import what the cases import, so that children do not."""
    from importlib import import_module

    fuzz_study.warm()
    for name in ("decide", "local.run_locks"):
        import_module(f"humanline.cli.{name}")
    for name in (
        "analysis.figures", "analysis.map", "analysis.surprisal", "data.gguf", "data.prefetch",
        "generation.engines", "report.power", "report.compare.page", "scoring.api_judge",
        "scoring.likelihood.tokens", "scoring.score", "tables.annotations", "training.base_model",
    ):  # fmt: skip
        import_module(f"humanline.{name}")
    for name in ("alpaca_eval", "gguf", "matplotlib.pyplot", "scipy.stats", "transformers"):
        import_module(name)
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401


def main() -> int:
    """Run all cases, print the table, and list what is bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="", help="only kinds that fit a regular expression")
    parser.add_argument("--out", type=Path, help="a file for every outcome, tab-separated")
    arguments = parser.parse_args()
    with base() as (study, folder):
        cases = [case for case in all_cases(study, folder) if re.search(arguments.kind, case.kind)]
        found = []
        out = open(arguments.out, "w") if arguments.out else None  # noqa: SIM115
        for case, outcome in outcomes(cases, study, folder):
            found.append((case, outcome))
            text = outcome.text.replace(str(folder), "")[-1500:]
            row = (outcome.kind, case.kind, case.name, f"{outcome.seconds:.2f}", repr(text))
            line = "\t".join(" ".join(part.split()) for part in row)
            if out:
                print(line, file=out, flush=True)
            if outcome.kind in BAD:
                last = (text.strip().splitlines() or [""])[-1]
                print(outcome.kind, case.kind, case.name, last[-300:], sep=" | ", flush=True)
    print(fuzz_study.summary(found))
    return int(any(outcome.kind in BAD for _, outcome in found))


if __name__ == "__main__":
    sys.exit(main())
