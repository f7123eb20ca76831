"""A sample of bad configurations: each is refused in one line, or read right; see `fuzz_study`."""

import os
from pathlib import Path

import fuzz_study
import pytest
from study_outcomes import BAD

CASES = int(os.environ.get("FUZZ_CASES", "100"))
# All others are run by hand: among them are commands that import torch.
KINDS = ("text", "file", "field")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it watches processes by /proc")
def test_bad_configurations_are_told_in_one_line(tmp_path):
    base = fuzz_study.make_base(tmp_path / "base")
    every = [case for case in fuzz_study.all_cases(base) if case.kind.startswith(KINDS)]
    cases = fuzz_study.sample(every, CASES, seed=int(os.environ.get("FUZZ_SEED", "0")))
    found = list(fuzz_study.outcomes(cases, base, tmp_path / "cases"))
    wrong = {f"{case.kind}; {case.name}": out for case, out in found if out.kind in BAD}
    assert len(found) == CASES and wrong == {}
