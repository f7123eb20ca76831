import pytest
from hypothesis import given
from hypothesis import strategies as st

from humanline.files.validation import ConfigError
from humanline.trainers.batches.lookahead import Lookahead


class Loader:
    """Batches that tell their epoch; a new order each epoch, as a seeded sampler gives."""

    def __init__(self, length: int):
        self.length, self.epoch, self.started = length, 0, []

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        self.started.append(self.epoch)
        yield from [(self.epoch, index) for index in range(self.length)]


def train(length: int, accumulation: int, epochs: int, peeks: dict[int, int]):
    """What a Trainer trains on, step by step, that looks `peeks[step]` steps ahead."""
    loader = Loader(length)
    lookahead = Lookahead(loader, accumulation)
    steps, peeked = [], {}
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        lookahead.begin(epoch, iter(loader))
        for _ in range(-(-length // accumulation)):
            steps.append(lookahead.take(epoch))
            for ahead in range(peeks.get(len(steps), 0)):
                peeked[len(steps) + ahead] = lookahead.peek(ahead)
    return steps, peeked, loader


sizes = st.integers(1, 7), st.integers(1, 4), st.integers(1, 4)


@given(*sizes, st.dictionaries(st.integers(1, 12), st.integers(0, 9)))
def test_looking_ahead_changes_nothing_and_shows_what_comes(length, accumulation, epochs, peeks):
    plain, _, _ = train(length, accumulation, epochs, {})
    steps, peeked, _ = train(length, accumulation, epochs, peeks)
    assert steps == plain
    for step, batches in peeked.items():
        if step < len(plain):
            assert batches == plain[step]


def test_the_last_step_of_an_epoch_may_have_fewer_batches():
    steps, peeked, _ = train(length=5, accumulation=2, epochs=2, peeks={1: 4})
    assert [len(batches) for batches in steps] == [2, 2, 1, 2, 2, 1]
    assert peeked[2] == [(0, 4)]
    assert peeked[3] == [(1, 0), (1, 1)]


def test_no_epoch_is_read_twice():
    _, _, loader = train(length=3, accumulation=1, epochs=3, peeks={2: 3})
    assert loader.started == [0, 1, 2]


def test_an_epoch_that_ends_early_gives_no_batches_of_the_next():
    lookahead = Lookahead(Loader(2), 1)
    lookahead.begin(0, iter([1]))
    assert lookahead.take(0) == [1]
    lookahead.peek(0)
    assert lookahead.take(0) == []


def test_an_empty_dataloader_is_an_error():
    with pytest.raises(RuntimeError, match="no batch"):
        Lookahead(Loader(0), 1).peek(0)


def test_an_epoch_that_is_ended_within_a_window_is_told():
    """What was scored ahead would be trained on in place of the next epoch's rows."""
    lookahead = Lookahead(Loader(4), 1)
    lookahead.begin(0, iter(Loader(4)))
    lookahead.take(0), lookahead.peek(1)
    with pytest.raises(ConfigError, match=r"epoch 0 was ended.*reference='model'"):
        lookahead.begin(1, iter(Loader(4)))
