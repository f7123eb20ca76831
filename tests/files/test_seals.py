"""Seals tell files of other runs, and let copies of results be read elsewhere."""

import shutil

import pytest

from humanline.files.json_files import write_text
from humanline.files.seals import require_seal, seal_of
from humanline.files.validation import ConfigError


def _sealed(folder, name):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "step\n1\n", sealed=True)
    return path


def _copied(path, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)
    shutil.copy(seal_of(path), seal_of(to))
    return to


RUN, TABLE = "results/laptop/runs/math/grpo-s1/curve.csv", "results/laptop/tables/cost.csv"


@pytest.mark.parametrize(
    ("file", "copy"),
    [
        (TABLE, "results/laptop_before/tables/cost.csv"),
        (TABLE, "data/mine/tables/cost.csv"),
        (TABLE, "mine/cost.csv"),
        (RUN, "elsewhere/laptop/runs/math/grpo-s1/curve.csv"),
        (RUN, "for_the_paper/grpo/curve.csv"),
        ("results/laptop/data/math/offline-x.jsonl", "x/y/offline-x.jsonl"),
    ],
)
def test_a_copy_of_results_is_read(tmp_path, file, copy):
    require_seal(_copied(_sealed(tmp_path, file), tmp_path / copy))


@pytest.mark.parametrize(
    ("file", "copy"),
    [
        (TABLE, "results/laptop/tables/scale.csv"),
        (RUN, "results/laptop/runs/math/grpo-s2/curve.csv"),
        (RUN, "results/laptop/runs/other/grpo-s1/curve.csv"),
        ("r/laptop/data/math/s1/test.jsonl", "r/laptop/data/math/s2/test.jsonl"),
        ("r/laptop/data/math/x.jsonl", "r/laptop/data/other/x.jsonl"),
    ],
)
def test_a_file_of_another_run_or_name_is_refused(tmp_path, file, copy):
    path = _copied(_sealed(tmp_path, file), tmp_path / copy)
    with pytest.raises(ConfigError, match=r": place: .*make it again"):
        require_seal(path)


def test_a_changed_file_is_refused_wherever_it_is(tmp_path):
    path = _copied(_sealed(tmp_path, TABLE), tmp_path / "mine/cost.csv")
    path.write_text("step\n2\n")
    with pytest.raises(ConfigError, match=r": sha256: "):
        require_seal(path)
