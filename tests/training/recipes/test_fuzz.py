"""Bad recipes, rows and folders: each ends in one line that names the fault, or in a trained model.

A sample runs with the tests. A share of all cases, with a summary by kind, from this folder:

    PYTHONPATH=.:../../.. python test_fuzz.py 1 [KIND ...]
"""

import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import recipe_cases
import row_cases
from recipe_cases import Case, write

GOOD = RIGHT, REFUSED = ("right", "refused")
TRACEBACK, SILENT, VAGUE, STRICT, SLOW = "traceback", "silent", "vague", "strict", "slow"
SECONDS = 60  # of a core; a case that takes longer is slow
PATIENCE = 600.0  # seconds that a busy machine may take for a case
PARTS, SHARE = 3, 0.02
ARCHITECTURE = {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2, "seed": 0}
_LINE = re.compile(r"^humanline: error: .*", re.MULTILINE)


def run(case: Case, model: Path) -> tuple[str, str]:
    """Run a case in a child process.

    Returns:
        Its verdict, and the error's line or what else it said last.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        folder = Path(name)
        path = write(case, folder, model)
        before = _bytes(folder / "out")
        status, said = _in_a_child(lambda: _main(path, case.argv, folder), folder)
        is_trained = status == 0 and _is_trained(folder, model)
        is_kept = status == 0 or before.items() <= _bytes(folder / "out").items()
        for each in folder.rglob("*"):
            if each.is_dir() and not each.is_symlink():
                each.chmod(0o755)  # else it could not be removed
    if not is_kept:
        return SILENT, "it lost a file of the output folder"
    return judge(case, status, said, is_trained)


def judge(case: Case, status: int | None, said: str, is_trained: bool) -> tuple[str, str]:
    """Judge how a run ended.

    Args:
        case: the case.
        status: its exit status; None: not in time.
        said: all that it printed.
        is_trained: whether it left a model that differs from the one it began with.

    Returns:
        The verdict: "right" and "refused" (in one line that names the fault) are good. "traceback"
        is any other failure, "silent" an acceptance without a word, "vague" a line that does not
        name the fault, "strict" a refusal of what is right, "slow" no end in time.
    """
    lines = _LINE.findall(said)
    last = lines[-1] if lines else said.strip()[-600:]
    if status is None:
        return SLOW, last
    if "Traceback (most recent call last)" in said or status < 0 or (status and len(lines) != 1):
        return TRACEBACK, last
    if status == 0:
        if not is_trained:
            return SILENT, f"exit status 0, and no trained model; {last}"
        return (SILENT if isinstance(case.names, str) else RIGHT), last
    if case.names is None:
        return STRICT, last
    word = case.names if isinstance(case.names, str) else case.names[0]
    return (REFUSED if word in last else VAGUE), last


def _main(path: Path, argv: tuple[str, ...], folder: Path) -> int:
    from humanline.cli.commands import main

    os.chdir(folder)
    return main(["recipe", str(path), *argv])


def _in_a_child(work: Callable[[], int], folder: Path) -> tuple[int | None, str]:
    """Call a function in a child; return its status, None if it takes too long, and its words."""
    output = folder / "said.txt"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        _call(work, output)
    end = time.monotonic() + PATIENCE
    status = None
    while status is None and time.monotonic() < end:
        found, code = os.waitpid(child, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(code)
        else:
            time.sleep(0.005)
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if status in (-signal.SIGXCPU, -signal.SIGKILL):  # by the limit below
        status = None
    return status, output.read_text(encoding="utf-8", errors="replace")


def _call(work: Callable[[], int], output: Path) -> None:
    """The child's life: call the function with its words in a file, and end."""
    import traceback

    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    status = 70
    try:
        words = os.open(output, os.O_CREAT | os.O_WRONLY)
        os.dup2(words, 1)
        os.dup2(words, 2)
        sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        status = work()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)


def _bytes(folder: Path) -> dict[str, bytes]:
    """The files of a folder, before and after."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _is_trained(folder: Path, model: Path) -> bool:
    """Say whether a model was saved whose weights are finite and changed, or an adapter."""
    from safetensors.torch import load_file

    found = [path for path in folder.glob("*/*.safetensors") if "checkpoint" not in path.name]
    if not found:
        return False
    after = {name: value for path in found for name, value in load_file(path).items()}
    if not all(value.isfinite().all() for value in after.values()):
        return False
    before = load_file(model / "model.safetensors")
    return before.keys() != after.keys() or any((before[n] != after[n]).any() for n in before)


def _import_all() -> None:
    """Import what a recipe imports, once for all children."""
    for name in ("cli.commands", "training.recipes.recipe", "trainers.dpo", "trainers.kto"):
        import_module(f"humanline.{name}")
    import_module("humanline.trainers.grpo")


def drawn(cases: list[Case], share: float) -> list[Case]:
    """Draw a share of cases, the same ones each time."""
    return [case for case in cases if random.Random(ascii(str(case))).random() < share]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_sample_ends_well(part, model_folder):
    _import_all()
    cases = drawn(recipe_cases.all_cases() + row_cases.all_cases(), SHARE)[part::PARTS]
    assert len(cases) > 10
    verdicts = {str(case): run(case, model_folder) for case in cases}
    assert {case: found for case, found in verdicts.items() if found[0] not in GOOD} == {}


def test_an_earlier_training_is_kept(model_folder):
    """It is lost only if the recipe says so, and its checkpoints are not resumed then."""
    _import_all()
    cases = [case for case in recipe_cases.all_cases() if case.kind == "output"]
    overwrites = {"overwrite_output_dir": True}
    for prepare in (recipe_cases.finished, recipe_cases.half_done):
        cases.append(Case("output", prepare.__name__, options=overwrites, prepare=prepare))
    verdicts = {str(case): run(case, model_folder) for case in cases}
    assert {case: found for case, found in verdicts.items() if found[0] not in GOOD} == {}


@pytest.mark.parametrize(
    ("status", "said", "is_trained", "names", "verdict"),
    [
        (0, "", True, None, RIGHT),
        (0, "", True, "beta", SILENT),
        (0, "", False, None, SILENT),
        (1, "humanline: error: r.yaml: beta: mend it", False, "beta", REFUSED),
        (1, "humanline: error: r.yaml: oh", False, "beta", VAGUE),
        (1, "humanline: error: r.yaml: beta", False, None, STRICT),
        (1, "humanline: error: beta\nhumanline: error: beta", False, "beta", TRACEBACK),
        (1, "Traceback (most recent call last)\nhumanline: error: beta", False, "beta", TRACEBACK),
        (1, "oh", False, "beta", TRACEBACK),
        (-11, "", False, "beta", TRACEBACK),
        (None, "", False, "beta", SLOW),
    ],
)
def test_the_judge(status, said, is_trained, names, verdict):
    assert judge(Case("kind", "name", names=names), status, said, is_trained)[0] == verdict


def _by_hand(share: float = 1.0, *kinds: str) -> None:
    """Run all cases of some kinds, print those that end badly, and count."""
    from humanline.worlds.tiny_model import build_model, build_tokenizer

    _import_all()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzzmodel") as name:
        model = Path(name)
        build_tokenizer().save_pretrained(model)
        build_model(**ARCHITECTURE).save_pretrained(model)
        for case in drawn(recipe_cases.all_cases() + row_cases.all_cases(), float(share)):
            if kinds and not any(str(case).startswith(kind) for kind in kinds):
                continue
            verdict, line = run(case, model)
            counts[case.kind, verdict] += 1
            if verdict not in GOOD or os.environ.get("FUZZ_ALL"):
                shown = ascii(str(case))[1:-1]
                print(f"{verdict}: {shown}\n    {' '.join(line.split())[-400:]}", flush=True)
    for kind in dict.fromkeys(kind for kind, _ in counts):
        found = {verdict: n for (of, verdict), n in sorted(counts.items()) if of == kind}
        print(f"{kind}: {sum(found.values())}: {found}")


if __name__ == "__main__":
    _by_hand(*sys.argv[1:])
