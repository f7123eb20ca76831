"""A sample of bad files of other sources: each is told in one line; see `fuzz_sources`."""

import os
from pathlib import Path

import pytest
from study_outcomes import BAD

pytest.importorskip("gguf", reason="pip install 'humanline[workstation]'")
import fuzz_sources
import fuzz_study

CASES = int(os.environ.get("FUZZ_CASES", "24"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it watches processes by /proc")
def test_bad_files_are_told_in_one_line():
    with fuzz_sources.base() as (study, folder):
        # All others are run by hand: they load a judge or a model, which takes seconds.
        every = [
            case
            for case in fuzz_sources.all_cases(study, folder)
            if not case.kind.startswith(("answers: score", "answers: can", "surprisal"))
            and case.name not in ("an endless loop", "ten gigabytes")
        ]
        cases = fuzz_study.sample(every, CASES, seed=int(os.environ.get("FUZZ_SEED", "0")))
        found = list(fuzz_sources.outcomes(cases, study, folder))
    wrong = {f"{case.kind}; {case.name}": out for case, out in found if out.kind in BAD}
    assert len(found) == CASES and wrong == {}
