"""GRPO in many ways to divide rows into batches, steps, rollouts, windows, epochs and processes.

    torchrun --nproc-per-node 2 combinations.py MODEL FOLDER NAME...

trains those of `SPREAD`, `ROUNDS` and `PAIRS`, and writes what each logged, and its weights at the
end, to FOLDER, as `train` does in one process.
"""

import os
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset, IterableDataset
from tiny import make_trainer, rows, weights
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

import humanline
from humanline.trainers.batches.rounds import Rounds
from humanline.trainers.rows.preferences import user_turn

PROCESSES = int(os.environ.get("WORLD_SIZE", 1))
LOGGED = ("loss", "grad_norm", "reward", "entropy", "kl", "eval_loss", "eval_reward")


@dataclass(frozen=True)
class Combination:
    """How to train; a batch is that of all processes."""

    groups: int = 8
    size: int = 4  # of a group
    batch: int = 4
    accumulation: int = 1
    rollout: int = 1  # batches
    iterations: int = 1
    steps: int = 8
    online: bool = False
    humanline: bool = True
    interval: int | None = 1
    reference: str = "cached"
    streams: bool = False
    options: dict = field(default_factory=dict)
    stop: int | None = None  # where it is saved and resumed

    def dataset(self) -> Dataset | IterableDataset:
        groups = [
            {
                "prompt": f"{i % 10}+{i // 10}",
                "completions": ["abcdef"[j] * (1 + (i + j) % 3) for j in range(self.size)],
                "scores": [float((3 * i + j * j) % 5) for j in range(self.size)],
            }
            for i in range(self.groups)
        ]
        dataset = Dataset.from_list(groups)
        dataset = dataset.select_columns(["prompt"]) if self.online else dataset
        return dataset.to_iterable_dataset(num_shards=2) if self.streams else dataset

    def trainer(self, model_folder, folder, extra=None, dataset=None, **more):
        extra = dict(extra or {})
        if self.online:
            extra = {"reward_funcs": summed} | extra
        if "eval_steps" in self.options:
            extra["eval_dataset"] = replace(self, groups=4).dataset()
        options = {
            "num_generations": self.size,
            "per_device_train_batch_size": self.batch // PROCESSES,
            "per_device_eval_batch_size": 2 * self.size // PROCESSES,
            "gradient_accumulation_steps": self.accumulation,
            "steps_per_generation": self.rollout,
            "num_iterations": self.iterations,
            "max_steps": self.steps,
            "humanline": self.humanline,
            "sync_interval": self.interval,
            "reference": self.reference,
            "learning_rate": 5e-3,
            "log_eps_p": -0.3,
            "log_eps_r": 0.3,
            "use_cpu": True,
        }
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        dataset = self.dataset() if dataset is None else dataset
        trainer = make_trainer(
            "grpo", model, tokenizer, dataset, folder, extra, **options | self.options | more
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


def summed(completions, **_) -> list[float]:
    return [float(sum(map(ord, text)) % 7) for text in completions]


def drawn_by_place(prompts, trainer) -> dict:
    """A `rollout_func` whose tokens depend on the prompt and the place in its group alone."""
    size = trainer.num_generations
    first = trainer.accelerator.process_index * len(prompts)
    completions = []
    for i, prompt in enumerate(prompts):
        draws = torch.Generator().manual_seed(100 * sum(map(ord, prompt)) + (first + i) % size)
        length = int(torch.randint(1, 7, (), generator=draws))
        completions.append(torch.randint(5, 25, (length,), generator=draws).tolist())
    ids = trainer.processing_class(prompts, add_special_tokens=False)["input_ids"]
    return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None}


# On two processes the first four split groups, of which the others have whole ones.
SPREAD = {
    "given": Combination(humanline=False, reference="model", stop=6),
    "split": Combination(
        rollout=3, accumulation=2, interval=3, groups=6, stop=5,
        options={"eval_strategy": "steps", "eval_steps": 3, "beta": 0.1},
    ),
    "split-online": Combination(
        online=True, rollout=2, iterations=2, interval=3, reference="model", stop=5, groups=4,
        options={"loss_type": "grpo"},
    ),
    "split-stream": Combination(
        streams=True, rollout=2, iterations=2, accumulation=2, interval=3, steps=6, stop=3,
        options={"remove_unused_columns": True},
    ),
    "stream-online": Combination(
        streams=True, batch=8, online=True, rollout=2, groups=7, steps=6, stop=5, reference="model",
        options={"loss_type": "cispo", "importance_sampling_level": "sequence",
                 "top_entropy_quantile": 0.5},
    ),
    "whole": Combination(batch=8, rollout=3, accumulation=2, interval=2, groups=12, stop=7),
    "whole-online-trl": Combination(
        batch=8, online=True, humanline=False, rollout=2, groups=8, stop=5, options={"beta": 0.1}
    ),
}  # fmt: skip
ROUNDS = ("dpo", "kto")
PAIRS = "pairs"  # stored ones: three batches to an epoch, resumed within the second


def in_rounds(objective: str, model_folder: str, folder: Path, **options):
    """A trainer of rounds of two steps, whose every third prompt gives no pair."""

    def sample(trainer, prompts, draw):
        texts = [prompt[-1]["content"] for prompt in prompts]
        ids = [trainer.processing_class(text)["input_ids"] for text in texts]
        return [{"prompt_ids": one, "completion_ids": [one[:1], one[-1:] * 2]} for one in ids]

    def score(prompts, completions):
        texts = [prompt[-1]["content"] for prompt in prompts]
        return [
            float(int(text[0]) % 3 and len(completion))
            for text, completion in zip(texts, completions, strict=True)
        ]

    name = objective.upper()
    cls = getattr(humanline, f"Humanline{name}Trainer")
    args = getattr(humanline, f"Humanline{name}Config")(
        output_dir=str(folder), max_steps=6, per_device_train_batch_size=8 // PROCESSES,
        gradient_accumulation_steps=2, learning_rate=5e-3, report_to="none", logging_steps=1,
        bf16=False, use_cpu=True, disable_tqdm=True, gradient_checkpointing=False,
        **{"sync_interval": 3, "save_strategy": "no"} | options,
    )  # fmt: skip
    prompts = [user_turn(f"{i % 10}+{i}") for i in range(40)]
    rounds = Rounds(prompts, sample, score, 2, folder / "rounds", 0.01)
    return cls(
        AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
        args=args,
        train_dataset=cls.placeholder(args),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
        rounds=rounds,
    )


def on_pairs(model_folder: str, folder: Path, **options):
    """A trainer of DPO, whose reference is not read ahead."""
    groups = Combination(groups=24).dataset().to_list()
    return make_trainer(
        "dpo",
        AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(model_folder),
        rows("dpo", groups),
        folder,
        max_steps=6,
        per_device_train_batch_size=8 // PROCESSES,
        reference="model",
        use_cpu=True,
        **options,
    )


def train(name: str, model_folder: str, folder: Path) -> None:
    """Train to the end, and from a checkpoint to the end."""
    if name == PAIRS:
        build, stop = partial(on_pairs, model_folder, folder / name), 4
    elif name in ROUNDS:
        build, stop = partial(in_rounds, name, model_folder, folder / name), 3
    else:
        combination, stop = SPREAD[name], SPREAD[name].stop
        extra = {"rollout_func": drawn_by_place} if combination.online else {}
        build = partial(combination.trainer, model_folder, folder / name, extra)
    trainer, resumed = build(save_strategy="steps", save_steps=stop), build()
    trainer.train()
    resumed.train(resume_from_checkpoint=str(folder / name / f"checkpoint-{stop}"))
    if trainer.is_world_process_zero():
        history = trainer.state.log_history
        log = {key: [row[key] for row in history if key in row] for key in LOGGED}
        ends = {"weights": weights(trainer.model), "resumed": weights(resumed.model)}
        torch.save({"log": log} | ends, folder / f"{name}.pt")


if __name__ == "__main__":
    from distributed import run_on_cpus

    run_on_cpus()
    for name in sys.argv[3:]:
        train(name, sys.argv[1], Path(sys.argv[2]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # see distributed.py
