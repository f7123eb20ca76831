"""The real MATH-500 through loading, prompting and grading."""

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import SHARED

from humanline.data import hub_datasets
from humanline.files.json_files import write_jsonl
from humanline.scoring.math.grading import is_correct
from humanline.scoring.score import grade
from humanline.study.experiments import Cell
from humanline.study.scale.data import HubData, HubDataset
from humanline.study.study import load_study
from humanline.trainers.rows.conversations import encode_prompt
from humanline.trainers.rows.preferences import user_turn

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
FILE = SHARED / "data" / "math500.jsonl"
pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason=f"{FILE} is missing: it is handed out beside the repository"
)


@pytest.fixture(scope="module")
def problems(tmp_path_factory) -> list[dict]:
    """The evaluation prompts that the tables would see."""
    import datasets

    source = HubDataset(
        kind="hub", repo=str(FILE.parent), revision=None, split="test", file=FILE.name
    )
    config = HubData(kind="hub", train=source, evaluation=source, validation=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        return hub_datasets.splits("math_reasoning", config)["evaluation"]


@pytest.fixture(scope="module")
def tokenizer():
    """Qwen's chat template over a tokenizer that knows bytes alone."""
    import trl
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *special]
    model = models.BPE({token: i for i, token in enumerate(tokens)}, [])
    bytewise = Tokenizer(model)
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    template = Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja"
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=template.read_text(encoding="utf-8"),
    )


def test_every_problem_is_loaded_as_it_is(problems):
    lines = FILE.read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert len(problems) == len(rows) == 500
    expected = [{"prompt": row["problem"], "answer": row["answer"]} for row in rows]
    assert problems == expected


def test_every_problem_is_the_users_turn(problems, tokenizer):
    for row in problems:
        text = tokenizer.decode(encode_prompt(tokenizer, user_turn(row["prompt"])))
        asked = f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        assert text.endswith(asked)


def test_gold_answers_are_right_against_themselves(problems, tmp_path):
    """At least 99 % of them; the test's message lists the others. All are, by now."""
    study = load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path)
    cell = Cell(task="math_reasoning", objective="base", seed=1)
    samples = [
        {"step": 0, "prompt_id": i, **row, "completion": f"So it is $\\boxed{{{row['answer']}}}$."}
        for i, row in enumerate(problems)
    ]
    write_jsonl(study.resolve(cell).paths.samples, samples)
    grade(study.resolve(cell))
    grades = pd.read_csv(study.resolve(cell).paths.grades)
    wrong = [problems[i]["answer"] for i in grades.loc[grades["correct"] == 0, "problem_id"]]
    assert len(grades) == 500 and len(wrong) <= 5, wrong


@pytest.mark.parametrize("shift", [1, 7, 100])
def test_shuffled_answers_are_wrong(problems, shift):
    """But where two problems have the same answer, as `5` and `x=5`."""
    answers = [row["answer"] for row in problems]
    others = answers[shift:] + answers[:shift]
    pairs = [pair for pair in zip(others, answers, strict=True) if pair[0] != pair[1]]
    right = [(a, b) for a, b in pairs if is_correct(f"\\boxed{{{a}}}", b)]
    assert len(pairs) > 450
    assert all(a.removeprefix("x=") == b.removeprefix("x=") for a, b in right), right
