"""Rewards and judges of a user's own: called as they ask to be, and refused on one line."""

import sys

import numpy as np
import pytest
import torch
from own_code import write

from humanline.files.validation import ConfigError
from humanline.scoring.judge import annotate_in_batches, function_judge, summarize
from humanline.scoring.rewards import load_reward
from humanline.study.scale.judges import FunctionJudge
from humanline.study.scale.rewards import FunctionReward

PROMPTS, COMPLETIONS, ANSWERS = ["p", "q"], ["aa", "b"], ["1", None]


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A working directory with a user's files; `define` writes one more and gives its path."""
    for name in ("my_reward", "my_judge", "own_function"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(write(tmp_path))

    def define(text: str, name: str = "f") -> str:
        monkeypatch.delitem(sys.modules, "own_function", raising=False)
        (tmp_path / "own_function.py").write_text(text)
        return f"own_function.{name}"

    return define


def scored(path: str) -> list[float]:
    return load_reward(FunctionReward(kind="function", path=path))(PROMPTS, COMPLETIONS, ANSWERS)


def test_a_reward_function_scores():
    assert scored("my_reward.brevity") == [1 / 3, 1 / 2]


@pytest.mark.parametrize(
    "text",
    [
        "def f(completions):\n    return [len(c) for c in completions]",
        "def f(prompts, completions, **kwargs):\n    return [len(c) for c in completions]",
        "def f(completions, answer):\n    assert answer == ['1', None]\n    return [2, 1]",
        "def f(answers, **kwargs):\n    assert answers == kwargs['answer']\n    return (2, 1)",
        "class F:\n    def __call__(self, completions):\n        return [2.0, 1.0]\nf = F()",
        "import numpy as np\ndef f(completions):\n    return np.array([2, 1], dtype=np.float32)",
        "import torch\ndef f(completions):\n    return torch.tensor([2.0, 1.0])",
        "async_ = lambda completions: (len(c) for c in completions)\nf = async_",
    ],
)
def test_it_is_called_with_what_it_takes_and_may_return_any_numbers(text, own):
    scores = scored(own(text))
    assert scores == [2, 1] and all(type(score) in (int, float) for score in scores)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def f(completions, tone):\n    pass",
            "missing a required argument: 'tone'; it is called",
        ),
        (
            "def f(completions):\n    return 1 / 0",
            r"ZeroDivisionError: division by zero .HUMANLINE",
        ),
        ("def f(completions):\n    return None", "TypeError: 'NoneType' object is not iterable"),
        ("def f(completions):\n    return [1]", "1 scores for 2 completions"),
        ("def f(completions):\n    return [1, float('nan')]", "nan for a completion of prompt 'q'"),
        ("def f(completions):\n    return [1, None]", "None for a completion of prompt 'q'"),
        ("def f(completions):\n    return ['1', '2']", "'1' for a completion of prompt 'p'"),
        ("f = 3", " is int, not a function"),
        ("import nothing_here\nf = print", "cannot be imported .No module named 'nothing_here'"),
    ],
)
def test_a_reward_that_cannot_be_used_is_told_on_one_line(text, said, own):
    with pytest.raises(ConfigError, match=f"^reward .*own_function.f.*{said}") as error:
        scored(own(text))
    assert "\n" not in str(error.value)


def rows(texts: list[str], generator: str) -> list[dict]:
    usual = {"generator": generator, "dataset": "test"}
    return [{"instruction": f"i{n}", "output": text} | usual for n, text in enumerate(texts)]


def judged(path: str, outputs: list[str], references: list[str], folder):
    return annotate_in_batches(
        rows(outputs, "model"),
        rows(references, "reference"),
        function_judge(path),
        work_dir=folder,
    )


def test_a_judge_function_is_asked_through_alpaca_eval(tmp_path):
    outputs = ["a", "aaaa", "aa", "a", "aaa", "a", "a{output_1}"]
    found = judged("my_judge.shorter", outputs, ["bb"] * 7, tmp_path)
    expected = [1.9, 1.1, 1.5, 1.9, 1.1, 1.9, 1.1]  # 1: the reference is better, 2: the model is
    np.testing.assert_allclose(found["preference"], expected)
    assert summarize(found)["win_rate"] == pytest.approx(100 * np.mean(np.array(expected) - 1))


def test_a_judge_function_does_not_know_which_output_is_the_models(own, tmp_path):
    path = own("def f(instructions, first, second):\n    return [1.0] * len(first)")
    count = 40
    found = judged(path, ["a"] * count, ["b"] * count, tmp_path)["preference"]
    assert set(found) == {1.0, 2.0} and 10 <= (found == 2).sum() <= 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(a, b):\n    pass", "too many positional arguments; it is called with instructions"),
        (
            "def f(a, b, c):\n    return [2.0] * len(a)",
            "2.0 for instruction .*return the probability",
        ),
        ("def f(a, b, c):\n    return [True] * len(a)", "True for instruction 'i."),
        ("def f(a, b, c):\n    return [None] * len(a)", "None for instruction 'i."),
        ("def f(a, b, c):\n    return [float('nan')] * len(a)", "nan for instruction 'i."),
        ("def f(a, b, c):\n    return [0.5]", "1 probabilities for 2 pairs; return one for each"),
        ("def f(a, b, c):\n    raise KeyError('x')", "KeyError: 'x'"),
    ],
)
def test_a_judge_that_cannot_be_used_is_told_on_one_line(text, said, own, tmp_path):
    with pytest.raises(ConfigError, match=f"^judge own_function.f: .*{said}") as error:
        judged(own(text), ["a", "b"], ["c", "d"], tmp_path)
    assert "\n" not in str(error.value)


def test_tensors_are_probabilities_too(own, tmp_path):
    path = own("import torch\ndef f(a, b, c):\n    return torch.full((len(a),), 0.25)")
    found = judged(path, ["a", "b"], ["c", "d"], tmp_path)["preference"]
    assert set(found) <= {1.25, 1.75}
    assert torch.tensor(list(found)).isfinite().all()


@pytest.mark.parametrize("kind", [FunctionReward, FunctionJudge])
def test_an_edit_of_the_function_changes_the_hash_of_the_options(kind, tmp_path):
    path = {FunctionReward: "my_reward.brevity", FunctionJudge: "my_judge.shorter"}[kind]
    config = kind(kind="function", path=path)
    before = config.model_dump()
    with open(tmp_path / f"{path.split('.')[0]}.py", "a") as module:
        module.write("# prose\n")
    assert config.model_dump() == before
    with open(tmp_path / f"{path.split('.')[0]}.py", "a") as module:
        module.write("X = 1\n")
    assert config.model_dump() != before
