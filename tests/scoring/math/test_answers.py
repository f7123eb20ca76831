"""Whether two answers mean the same, over kinds of answers, and what is too large to read."""

import answer_pairs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanline.scoring.math.answers import TooLargeError, equal
from humanline.scoring.math.latex import clean


@pytest.mark.parametrize(("answer", "gold"), answer_pairs.SAME)
def test_the_same(answer, gold):
    assert equal(answer, gold)


@pytest.mark.parametrize(("answer", "gold"), answer_pairs.DIFFERENT)
def test_different(answer, gold):
    assert not equal(answer, gold)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10⁻¹²³", "10^{-123}"),
        ("2½", r"2\frac{1}{2}"),
        ("\u200b\uff15\u2009000", "5000"),
        (r"10,\!000", "10,000"),
        (r"\dfrac{\sqrt3}2", r"\frac{\sqrt{3}}{2}"),
        (r"$\mathbf{7}$.", "7"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ],
)
def test_one_spelling(text, expected):
    assert clean(text).replace(" ", "") == expected.replace(" ", "")


@pytest.mark.parametrize(
    "answer",
    ["9^{9^{9^{9}}}", "10^{10^{10}}", "99999!", "((9!)!)!", "2^{123456}",
     "7" * 700, "1+" * 400 + "1", "(" * 50 + "7" + ")" * 50, "((9^{999})^{999})^{999}"],
)  # fmt: skip
def test_answers_that_would_compute_for_long_are_not_read(answer):
    with pytest.raises(TooLargeError):
        equal(answer, "7")
    assert equal("7", "7")


@settings(deadline=None, max_examples=60)
@given(st.fractions(max_denominator=50), st.fractions(max_denominator=50))
def test_fractions_are_the_same_exactly_when_they_are_equal(one, other):
    def tex(x):
        return rf"\frac{{{x.numerator}}}{{{x.denominator}}}"

    assert equal(tex(one), tex(other)) == (one == other)


@settings(deadline=None, max_examples=60)
@given(st.decimals(-1000, 1000, places=8), st.sampled_from([0, 1e-8, -1e-7, 1e-6, 1]))
def test_decimals_are_never_rounded(value, difference):
    other = value + type(value)(str(difference))
    assert equal(f"{value:f}", f"{other:f}") == (value == other)


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="\\{}$^_,;=<>()[]%!&|+-/. 0179xaie½√", max_size=30))
def test_nothing_that_is_written_breaks_it_and_itself_is_the_same(text):
    try:
        assert equal(text, text) == bool(clean(text))
        assert equal(text, "17") in (True, False)
    except TooLargeError:
        pass
