"""Tables of many variants take time in proportion to their number."""

from pathlib import Path

import growth
import numpy as np
import pytest

from humanline.study.experiments import Cell
from humanline.tables.estimates import compared_p_value, most_seeds, plain_of
from humanline.tables.statistics.scores import Scores, difference


@pytest.fixture
def variants() -> dict:
    cells = [
        Cell(
            task="instruction_following",
            objective="grpo",
            data="offline",
            humanline=number > 0,
            sync_interval=number or None,
            seed=1,
        )
        for number in range(90)
    ]
    return {cell.variant: [(cell, Path(cell.name))] for cell in cells}


def test_rows_are_compared_with_the_plain_run_in_linear_time(variants):
    def compared(count: int) -> None:
        some = dict(list(variants.items())[:count])
        scores = {name: Scores((1,), np.array([50.0])) for name in some}
        plain, most = plain_of(some), most_seeds(scores)
        for name, ((cell, _), *_) in some.items():
            other = plain(cell, "offline")
            assert other == "grpo-offline"
            if other == name:
                continue
            compared_p_value(difference, scores, name, other, "two-sided", most + 1)

    assert growth.is_linear([growth.calls(lambda n=n: compared(n)) for n in (30, 60, 90)])
