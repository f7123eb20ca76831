import json
from pathlib import Path

import pytest
import yaml

from humanline.files.json_files import read_jsonl, write_jsonl
from humanline.files.validation import ConfigError
from humanline.generation.offline import make
from humanline.scoring.math.grading import is_correct
from humanline.study.experiments import Cell
from humanline.study.study import Study, load_study
from humanline.worlds.letters import proxy_reward

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
PROMPTS = {
    "instruction_following": [{"prompt": p, "reference": "ab"} for p in ("a+ ~ L", "b- * S", "c+")],
    "math_reasoning": [{"prompt": f"{i}+1", "answer": str(i + 1)} for i in range(3)],
}


def base(task: str, seed: int = 1) -> Cell:
    return Cell(task=task, objective="base", seed=seed)


@pytest.fixture
def study(tmp_path, model, tokenizer) -> Study:
    """A smoke-scale study with a few prompts, and an untrained base model for seed 1."""
    study = load_study(CONFIG / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path)
    for task, rows in PROMPTS.items():
        for seed in (1, 101):
            write_jsonl(study.paths.prompts(task, f"s{seed}", "train"), rows)
            folder = study.resolve(Cell(task=task, objective="base", seed=seed)).paths.model
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return study


@pytest.mark.parametrize("task", PROMPTS)
def test_every_prompt_gets_a_scored_group(study, task):
    make(study.resolve(base(task)))
    groups = read_jsonl(study.resolve(base(task)).paths.offline_groups)
    assert [group["prompt"] for group in groups] == [row["prompt"] for row in PROMPTS[task]]
    for group in groups:
        assert group.keys() == {"prompt", "completions", "scores"}
        size = study.scale.tasks[task].training.group_size
        assert len(group["completions"]) == len(group["scores"]) == size


def test_instruction_following_is_scored_by_the_proxy(study):
    make(study.resolve(base("instruction_following")))
    for group in read_jsonl(study.resolve(base("instruction_following")).paths.offline_groups):
        expected = [proxy_reward(group["prompt"], c) for c in group["completions"]]
        assert group["scores"] == pytest.approx(expected)


def test_math_is_scored_against_its_own_answer(study, monkeypatch):
    from humanline.generation import engines

    completions = [["\\boxed{1}", "\\boxed{2}", "\\boxed{3}", "3"]] * 3
    monkeypatch.setattr(engines, "sample_text", lambda *args, **kwargs: completions)
    make(study.resolve(base("math_reasoning")))
    groups = read_jsonl(study.resolve(base("math_reasoning")).paths.offline_groups)
    assert [group["scores"] for group in groups] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert is_correct("\\boxed{3}", PROMPTS["math_reasoning"][2]["answer"])


def test_the_seed_draws_the_samples(study):
    task = "instruction_following"
    texts = []
    for seed in (1, 1, 101):
        make(study.resolve(base(task, seed)))
        texts.append(study.resolve(base(task, seed)).paths.offline_groups.read_text())
    assert texts[0] == texts[1] != texts[2]


def test_sampling_is_that_of_training(study, monkeypatch):
    from humanline.generation import engines

    calls = []

    def sample_text(engine, prompts, **options):
        calls.append(options)
        return [["a"] * options["n"]] * len(prompts)

    monkeypatch.setattr(engines, "sample_text", sample_text)
    make(study.resolve(base("instruction_following", 101)))
    training = study.scale.tasks["instruction_following"].training
    assert training.sampling != study.scale.tasks["instruction_following"].evaluation
    asked = {"n": training.group_size, "sampling": training.sampling, "seed": 101}
    assert asked.items() <= calls[0].items()


def test_missing_prompts_are_one_line_that_names_the_file(study):
    path = study.paths.prompts("math_reasoning", "s1", "train")
    path.unlink()
    with pytest.raises(ConfigError) as caught:
        make(study.resolve(base("math_reasoning")))
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_stored_completions_of_the_hub_are_used_as_they_are(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [
        {
            "prompt_id": str(i),
            "prompt": f"prompt {i}",
            "all_generated_responses": ["a", "b", "c", "d"],
            "all_rm_scores": [0.5, 0.25, float(i), 0.0],
            "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
            "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "b"}],
        }
        for i in range(6)
    ]
    write_jsonl(tmp_path / "uf" / "train.jsonl", rows)
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    source = {"kind": "hub", "repo": str(tmp_path / "uf"), "revision": None}
    scale["tasks"]["instruction_following"] |= {
        "data": {"kind": "hub", "train": source, "evaluation": source, "validation": 2},
        "base_model": source,
        "base_models": dict.fromkeys(("weaker", "stronger", "larger", "other"), source),
        "reward": source,
        "judge": {
            "kind": "openai",
            "model": "a",
            "max_dollars": 0,
            "prices": {"a": {"input": 0, "output": 0}},
        },
    }
    (tmp_path / "smoke.yaml").write_text(json.dumps(scale))
    study = load_study(tmp_path / "smoke.yaml", CONFIG / "experiments.yaml", tmp_path / "results")
    make(study.resolve(base("instruction_following")))
    groups = {
        g["prompt"]: g
        for g in read_jsonl(study.resolve(base("instruction_following")).paths.offline_groups)
    }
    for row in rows[2:]:
        group = groups[row["prompt"]]
        assert group["completions"] == row["all_generated_responses"]
        assert group["scores"] == row["all_rm_scores"]
    write_jsonl(tmp_path / "uf" / "train.jsonl", [_without_one(row) for row in rows])
    with pytest.raises(ConfigError, match="prompts have 3 completions, but GRPO needs"):
        make(study.resolve(base("instruction_following")))


def _without_one(row: dict) -> dict:
    return row | {key: row[key][1:] for key in ("all_generated_responses", "all_rm_scores")}
