import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanline.grading import is_correct


@pytest.mark.parametrize(
    "completion",
    ["\\boxed{7}", "3,8,\\boxed{7}", "so $\\boxed{7}$.", "\\boxed{ 7 }", "\\boxed{7.0}"],
)
def test_right(completion):
    assert is_correct(completion, "7") is True


@pytest.mark.parametrize(
    "completion",
    ["\\boxed{8}", "\\boxed{-7}", "\\boxed{77}", "\\boxed{}", "\\boxed{seven thousand}"],
)
def test_wrong(completion):
    assert is_correct(completion, "7") is False


@pytest.mark.parametrize("completion", ["", "7", "$7$", "boxed{7}", "\\boxed 7", "\\boxed{7"])
def test_without_a_box_it_is_wrong(completion):
    assert is_correct(completion, "7") is False


def test_the_last_box_counts():
    assert is_correct("\\boxed{1} no, \\boxed{7}", "7")
    assert not is_correct("\\boxed{7} no, \\boxed{1}", "7")


def test_text_after_the_box_does_not_count():
    assert is_correct("\\boxed{7}, not 8", "7")


@pytest.mark.parametrize(
    ("given_answer", "gold"),
    [
        ("0.5", "\\frac{1}{2}"),
        ("\\frac{2}{4}", "\\frac12"),
        ("\\dfrac{1}{2}", "\\frac{1}{2}"),
        ("\\sqrt{8}", "2\\sqrt{2}"),
        ("x + 1", "1+x"),
        ("(x+1)^2", "x^2+2x+1"),
        ("1,000", "1000"),
        ("\\left(1, 2\\right)", "(1,2)"),
    ],
)
def test_equivalent_forms_are_right(given_answer, gold):
    assert is_correct(f"\\boxed{{{given_answer}}}", gold)


@pytest.mark.parametrize(
    "answer",
    [
        "\\frac{1}{2}",
        "\\frac{1}{\\sqrt{2}}",
        "\\frac{\\sqrt{3}}{2}",
        "\\frac{1}{\\sqrt{1+\\frac{1}{2}}}",
        "\\left( 3, \\frac{\\pi}{2} \\right)",
        "x^{2^{3^{4}}}",
    ],
)
def test_nested_braces_belong_to_the_box(answer):
    assert is_correct(f"so \\boxed{{{answer}}}.", answer)
    assert not is_correct(f"so \\boxed{{{answer}}} or \\boxed{{17}}", answer)
    assert not is_correct(f"\\boxed{{17}} then \\boxed{{{answer}}}", "17")


@settings(deadline=None, max_examples=40)
@given(st.integers(-999, 999), st.integers(-999, 999))
def test_integers_are_right_exactly_when_equal(given_answer, gold):
    assert is_correct(f"1,2\\boxed{{{given_answer}}}", str(gold)) == (given_answer == gold)


@settings(deadline=None, max_examples=40)
@given(st.text(alphabet="\\boxed{}$^_%&#frac12 ", max_size=40))
def test_no_completion_breaks_grading(completion):
    assert is_correct(completion, "7") in (True, False)
