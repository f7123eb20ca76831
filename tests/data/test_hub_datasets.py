"""Tiny local folders in exactly the format of the hub's datasets."""

import json
import re

import pandas as pd
import pytest

from humanline.data import hub_datasets
from humanline.data.hub import rows_fingerprint
from humanline.files.validation import ConfigError
from humanline.study.scale.data import HubData, HubDataset

REVISION = "a1" * 20
COMPLETIONS = ["first", "second ☃", "third\nline", "", "fifth"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def preference_row(i: int) -> dict:
    """A row as in princeton-nlp/llama3-ultrafeedback-armorm."""
    user = {"content": f"prompt {i}", "role": "user"}
    scores = [0.1 + i, 0.25, -0.5, 0.125, 0.0625]
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    return {
        "prompt_id": f"{i:064x}",
        "prompt": f"prompt {i}",
        "all_generated_responses": [f"{text} {i}" for text in COMPLETIONS],
        "all_rm_scores": scores,
        "chosen": [user, {"content": f"{COMPLETIONS[best]} {i}", "role": "assistant"}],
        "rejected": [user, {"content": f"{COMPLETIONS[worst]} {i}", "role": "assistant"}],
    }


def math_row(i: int) -> dict:
    """A row as in HuggingFaceH4/MATH-500."""
    return {
        "problem": f"What is ${i}+\\frac{{1}}{{2}}$?",
        "solution": f"It is \\boxed{{{i}.5}}.",
        "answer": f"{i}.5",
        "subject": "Algebra",
        "level": 1 + i % 5,
        "unique_id": f"test/algebra/{i}.json",
    }


def alpaca_row(i: int) -> dict:
    """A row as in tatsu-lab/alpaca_eval, which holds a file for each baseline, and a script."""
    return {
        "instruction": f"instruction {i}",
        "output": f"output {i}",
        "generator": "text_davinci_003",
        "dataset": "helpful_base",
    }


def write(folder, name: str, rows: list[dict]) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder)


def source(repo: str, split: str = "train", **options) -> HubDataset:
    options = {"revision": None} | options
    return HubDataset(kind="hub", repo=repo, split=split, **options)


PREFERENCE_FILES = ["train.jsonl", "data/train-00000-of-00001.parquet"]


@pytest.fixture(params=PREFERENCE_FILES)
def instruction(request, tmp_path) -> HubData:
    train = write(tmp_path / "uf", request.param, [preference_row(i) for i in range(12)])
    folder = tmp_path / "alpaca_eval"
    write(folder, "alpaca_eval_gpt4_baseline.json", [alpaca_row(i) for i in range(5)])
    write(folder, "alpaca_eval.json", [alpaca_row(i) | {"output": "another's"} for i in range(5)])
    (folder / "alpaca_eval.py").write_text("raise SystemError('a loading script was run')")
    evaluation = source(str(folder), "eval", file="alpaca_eval_gpt4_baseline.json")
    return HubData(kind="hub", train=source(train), evaluation=evaluation, validation=4)


@pytest.fixture(params=["jsonl", "parquet"])
def math(request, tmp_path) -> HubData:
    train = write(tmp_path / "math", f"train.{request.param}", [math_row(i) for i in range(9)])
    test = [math_row(100 + i) for i in range(3)]
    evaluation = write(tmp_path / "math500", f"test.{request.param}", test)
    return HubData(
        kind="hub", train=source(train), evaluation=source(evaluation, "test"), validation=2
    )


def test_instruction_following(instruction):
    rows = hub_datasets.splits("instruction_following", instruction)
    assert {split: len(r) for split, r in rows.items()} == {
        "train": 8,
        "validation": 4,
        "evaluation": 5,
    }
    assert rows["evaluation"][2] == {"prompt": "instruction 2", "reference": "output 2"}
    assert rows["validation"] == [
        {"prompt": f"prompt {i}", "reference": preference_row(i)["chosen"][-1]["content"]}
        for i in range(4)
    ]
    assert [row["prompt"] for row in rows["train"]] == [f"prompt {i}" for i in range(4, 12)]


def test_a_part_of_a_split(instruction):
    """As one_gpu.yaml takes it of data that are larger than it needs."""
    part = instruction.train.model_copy(update={"split": "train[:6]"})
    rows = hub_datasets.splits(
        "instruction_following", instruction.model_copy(update={"train": part})
    )
    assert [row["prompt"] for row in rows["train"]] == ["prompt 4", "prompt 5"]


def test_math(math):
    rows = hub_datasets.splits("math_reasoning", math)
    assert [row["answer"] for row in rows["validation"]] == ["0.5", "1.5"]
    assert [row["answer"] for row in rows["train"]] == [f"{i}.5" for i in range(2, 9)]
    assert rows["evaluation"] == [
        {"prompt": math_row(i)["problem"], "answer": f"{i}.5"} for i in range(100, 103)
    ]


def test_splits_are_json(instruction, math):
    for task, config in (("instruction_following", instruction), ("math_reasoning", math)):
        rows = hub_datasets.splits(task, config)
        assert json.loads(json.dumps(rows)) == rows


def test_groups_are_the_stored_completions_and_scores(instruction):
    groups = list(hub_datasets.groups(instruction))
    assert groups[0].keys() == {"prompt", "completions", "scores"}
    by_prompt = {group["prompt"]: group for group in groups}
    for i in range(4, 12):
        row = preference_row(i)
        assert by_prompt[row["prompt"]]["completions"] == row["all_generated_responses"]
        assert by_prompt[row["prompt"]]["scores"] == row["all_rm_scores"]
    assert json.loads(json.dumps(groups)) == groups


def test_offline_training_does_not_see_validation_prompts(instruction):
    """Tuning is evaluated on `validation`, so those prompts must be in no training data."""
    held_out = {
        row["prompt"]
        for row in hub_datasets.splits("instruction_following", instruction)["validation"]
    }
    assert not held_out & {group["prompt"] for group in hub_datasets.groups(instruction)}


def test_an_empty_reference_leaves_validation(tmp_path):
    rows = [preference_row(i) for i in range(6)]
    rows[1]["chosen"][-1] = {"content": "", "role": "assistant"}
    train = source(write(tmp_path / "uf", "train.jsonl", rows))
    config = HubData(kind="hub", train=train, evaluation=train, validation=3)
    validation = hub_datasets.splits("instruction_following", config)["validation"]
    assert [row["prompt"] for row in validation] == ["prompt 0", "prompt 2"]


def fault(read) -> str:
    with pytest.raises(ConfigError) as caught:
        read()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("repo", ["humanline-tests/there-is-no-such-data", "no-such-folder"])
def test_a_missing_repository_is_one_line_that_says_what_to_prefetch(repo):
    message = fault(lambda: hub_datasets.load(source(repo, revision=REVISION)))
    assert repo in message and REVISION in message and "snakemake prefetch" in message


def test_a_repository_without_a_revision_is_not_asked_for(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked"))
    message = fault(lambda: hub_datasets.load(source("owner/name")))
    assert "git ls-remote https://huggingface.co/datasets/owner/name HEAD" in message


def test_a_missing_split_is_one_line_that_names_the_repository(tmp_path):
    repo = write(tmp_path / "math", "train.jsonl", [math_row(0)])
    assert repo in fault(lambda: hub_datasets.load(source(repo, "no_such_split")))


def test_a_missing_file_is_one_line_that_names_the_repository(tmp_path):
    repo = write(tmp_path / "alpaca_eval", "alpaca_eval.json", [alpaca_row(0)])
    assert repo in fault(
        lambda: hub_datasets.load(source(repo, "eval", file="alpaca_eval_gpt5.json"))
    )


@pytest.mark.parametrize("file", ["c.json", None])
def test_the_hub_is_asked_for_the_revision(file, monkeypatch, tmp_path):
    import huggingface_hub

    calls = []

    def snapshot_download(repo, **options):
        calls.append((repo, options))
        return write(tmp_path, "c.json", [math_row(0)])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    hub_datasets.load(source("a/b", revision=REVISION, file=file))
    ((repo, options),) = calls
    patterns = [file] if file else None
    expected = {"repo_type": "dataset", "revision": REVISION, "allow_patterns": patterns}
    assert repo == "a/b" and expected.items() <= options.items()


@pytest.mark.parametrize("name", ["train.jsonl", "data/train-00000-of-00001.parquet"])
def test_offline_the_cache_is_read(name, hub_cache, tmp_path):
    rows = [preference_row(i) for i in range(3)]
    write(tmp_path / "uf", name, rows)
    hub_cache(tmp_path / "uf", "owner/name", REVISION, "dataset")
    assert list(hub_datasets.load(source("owner/name", revision=REVISION))) == rows
    other = REVISION.replace("a", "b")
    assert other in fault(lambda: hub_datasets.load(source("owner/name", revision=other)))


def test_a_file_that_the_cached_revision_lacks(hub_cache, tmp_path):
    write(tmp_path / "alpaca_eval", "alpaca_eval.json", [alpaca_row(0)])
    hub_cache(tmp_path / "alpaca_eval", "owner/name", REVISION, "dataset")
    asked = source("owner/name", "eval", revision=REVISION, file="alpaca_eval_gpt5.json")
    assert "alpaca_eval_gpt5.json" in fault(lambda: hub_datasets.load(asked))


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet", "train.json"])
def test_a_fingerprint_is_of_the_rows_not_of_the_file(name, tmp_path):
    rows = [preference_row(i) for i in range(3)]
    reordered = [dict(reversed(row.items())) for row in rows]
    fingerprint = rows_fingerprint(rows)
    repo = write(tmp_path / "uf", name, reordered)
    assert len(hub_datasets.load(source(repo, fingerprint=fingerprint))) == 3
    changed = write(tmp_path / "changed", name, [*reordered[:2], preference_row(7)])
    message = fault(lambda: hub_datasets.load(source(changed, fingerprint=fingerprint)))
    assert fingerprint in message and "fetch it anew" in message


def test_an_empty_folder_is_one_line_that_names_it(tmp_path):
    assert str(tmp_path) in fault(lambda: hub_datasets.load(source(str(tmp_path))))


def test_another_datasets_columns_are_one_line_that_names_repository_and_field(tmp_path):
    repo = write(tmp_path / "other", "train.jsonl", [{"question": "1+2", "answer": "3"}] * 3)
    config = HubData(kind="hub", train=source(repo), evaluation=source(repo), validation=1)
    message = fault(lambda: hub_datasets.splits("math_reasoning", config))
    assert repo in message and "problem" in message


def test_setting_aside_every_prompt_is_refused(tmp_path):
    repo = write(tmp_path / "math", "train.jsonl", [math_row(i) for i in range(3)])
    config = HubData(kind="hub", train=source(repo), evaluation=source(repo), validation=3)
    assert "validation" in fault(lambda: hub_datasets.splits("math_reasoning", config))


def test_a_prompt_is_in_one_split_and_once(tmp_path):
    rows = [preference_row(i) for i in (0, 1, 2, 0, 3, 2)]
    train = source(write(tmp_path / "uf", "train.jsonl", rows))
    config = HubData(kind="hub", train=train, evaluation=train, validation=1)
    found = hub_datasets.splits("instruction_following", config)
    assert [row["prompt"] for row in found["validation"]] == ["prompt 0"]
    expected = ["prompt 1", "prompt 2", "prompt 3"]
    assert [row["prompt"] for row in found["train"]] == expected
    assert [group["prompt"] for group in hub_datasets.groups(config)] == expected


def test_completions_of_another_model(tmp_path):
    """Its data may have other prompts, in another order, and those set aside too."""
    train = source(write(tmp_path / "uf", "train.jsonl", [preference_row(i) for i in range(6)]))
    theirs = [preference_row(i) | {"all_generated_responses": list("abcde")} for i in (7, 5, 1, 3)]
    stored = {"other": source(write(tmp_path / "gemma", "train.jsonl", theirs))}
    config = HubData(kind="hub", train=train, evaluation=train, validation=2, stored=stored)
    found = list(hub_datasets.groups(config, "other"))
    assert [group["prompt"] for group in found] == ["prompt 7", "prompt 5", "prompt 3"]
    assert all(group["completions"] == list("abcde") for group in found)


@pytest.mark.parametrize(
    ("size", "kept"),
    [(2, ["worst", "best"]), (3, ["worst", "middle", "best"]), (5, None)],
)
def test_groups_are_thinned_from_the_best_to_the_worst(size, kept, tmp_path):
    texts = ["good", "worst", "middle", "best", "bad"]
    row = preference_row(0) | {"all_generated_responses": texts, "all_rm_scores": [3, 0, 2, 4, 1]}
    train = source(write(tmp_path / "uf", "train.jsonl", [preference_row(1), row]))
    config = {"train": train, "evaluation": train, "validation": 1, "stored_group_size": size}
    found = [group["completions"] for group in hub_datasets.groups(HubData(kind="hub", **config))]
    assert found == [kept or texts]


@pytest.mark.parametrize(
    ("sizes", "stored_group_size", "reason"),
    [
        ([5, 5], 6, "no prompt is left that has 6 completions; lower stored_group_size"),
        ([5, 4], None, "prompts have 4 or 5 completions, but GRPO needs one number for all"),
        ([1, 1], None, "prompts have 1 completions, but GRPO needs .* 2 or more"),
        ([5, 5], None, "divides batch_size, 8; set stored_group_size"),
        ([5, 4], 4, None),
    ],
)
def test_groups_that_grpo_cannot_train_on(sizes, stored_group_size, reason, tmp_path):
    rows = [preference_row(i) for i in range(3)]
    for row, size in zip(rows[1:], sizes, strict=True):
        for field in ("all_generated_responses", "all_rm_scores"):
            row[field] = row[field][:size]
    repo = write(tmp_path / "uf", "train.jsonl", rows)
    options = {"validation": 1, "stored_group_size": stored_group_size}
    config = HubData(kind="hub", train=source(repo), evaluation=source(repo), **options)
    if reason is None:
        assert len(hub_datasets.groups(config, batch_size=8)) == 2
    else:
        message = fault(lambda: hub_datasets.groups(config, batch_size=8))
        assert repo in message and re.search(reason, message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", [{"role": "user", "content": "1"}]),
        ("chosen", "text"),
        ("chosen", []),
        ("all_rm_scores", None),
        ("all_rm_scores", [1.0, None, 2.0, 3.0, 4.0]),
        ("all_rm_scores", [1.0]),
        ("all_generated_responses", "text"),
    ],
)
def test_a_field_of_another_kind_is_one_line_that_names_it(field, value, tmp_path):
    rows = [preference_row(i) | {field: value} for i in range(2)]
    train = source(write(tmp_path / "uf", "train.json", rows))
    config = HubData(kind="hub", train=train, evaluation=train, validation=1)
    splits = lambda config: hub_datasets.splits("instruction_following", config)  # noqa: E731
    read = hub_datasets.groups if field.startswith("all") else splits
    message = fault(lambda: read(config))
    assert message.startswith(f"dataset {train.repo}: split train: row 0: {field}")
    assert "change it" in message or "mend the row" in message


def binary_row(i: int, j: int, **more) -> dict:
    """A row as HALOs' `train/label.py` writes it."""
    prompt = [{"role": "user", "content": f"prompt {i}"}]
    output = [{"role": "assistant", "content": f"output {j}"}]
    row = {"prompt_id": f"{i:04x}", "prompt": prompt, "output": output, "label": j % 2}
    return row | {"reward": float(j), "type": "binary_feedback"} | more


def test_a_feedback_file(tmp_path):
    rows = [binary_row(i, j) for j in range(3) for i in range(4)]
    rows.append(binary_row(9, 9, split="test"))
    repo = write(tmp_path / "feedback", "feedback.json", rows)
    train = source(repo, file="feedback.json")
    config = HubData(kind="hub", train=train, evaluation=train, validation=2)
    assert list(hub_datasets.groups(config)) == [
        {
            "prompt": f"prompt {i}",
            "completions": ["output 0", "output 1", "output 2"],
            "scores": [0.0, 1.0, 2.0],
        }
        for i in (2, 3)
    ]
    found = hub_datasets.splits("instruction_following", config)
    assert found["validation"] == [
        {"prompt": f"prompt {i}", "reference": "output 2"} for i in range(2)
    ]


@pytest.mark.parametrize("change", [{"reward": None}, {"output": "text"}, {"prompt": "text"}])
def test_a_feedback_file_with_a_field_of_another_kind(change, tmp_path):
    repo = write(tmp_path / "feedback", "feedback.json", [binary_row(0, 0, **change)])
    train = source(repo, file="feedback.json")
    config = HubData(kind="hub", train=train, evaluation=train, validation=2)
    (field,) = change
    message = fault(lambda: hub_datasets.groups(config))
    assert message.startswith(f"dataset {repo}: split train: row 0: {field}: ")


def test_a_feedback_file_of_other_splits(tmp_path):
    repo = write(tmp_path / "feedback", "feedback.json", [binary_row(0, 0, split="test")])
    train = source(repo, file="feedback.json")
    config = HubData(kind="hub", train=train, evaluation=train, validation=2)
    assert "split train: no rows; choose another" in fault(lambda: hub_datasets.groups(config))


def test_a_feedback_file_whose_prompts_have_several_turns(tmp_path):
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    repo = write(tmp_path / "feedback", "feedback.json", [binary_row(0, 0, prompt=turns)])
    train = source(repo, file="feedback.json")
    config = HubData(kind="hub", train=train, evaluation=train, validation=2)
    assert "3 turns" in fault(lambda: hub_datasets.splits("instruction_following", config))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), None])
@pytest.mark.parametrize("name", ["train.parquet", "train.json"])
def test_scores_that_are_no_numbers(name, score, tmp_path):
    rows = [preference_row(i) for i in range(4)]
    rows[2]["all_rm_scores"] = [0.1, score, 0.2, 0.3, 0.4]
    train = source(write(tmp_path / "uf", name, rows))
    config = HubData(kind="hub", train=train, evaluation=train, validation=1)
    message = fault(lambda: hub_datasets.groups(config))
    assert message.startswith(f"dataset {train.repo}: ")
    assert "row 2: all_rm_scores" in message or "cannot be read" in message  # NaN is not JSON


@pytest.mark.parametrize(
    ("task", "row", "field"),
    [
        ("instruction_following", preference_row, "prompt"),
        ("instruction_following", alpaca_row, "instruction"),
        ("instruction_following", alpaca_row, "output"),
        ("math_reasoning", math_row, "problem"),
        ("math_reasoning", math_row, "answer"),
    ],
)
@pytest.mark.parametrize("text", ["", " \n", None])
def test_an_empty_text(task, row, field, text, tmp_path):
    rows = [row(i) for i in range(4)]
    rows[3][field] = text
    train = source(write(tmp_path / "data", "train.jsonl", rows))
    config = HubData(kind="hub", train=train, evaluation=train, validation=1)
    message = fault(lambda: hub_datasets.splits(task, config))
    assert message.startswith(f"dataset {train.repo}: split train: row 3: {field}: ")
