"""Trains runs, as one process or as one of several; `test_distributed.py` compares them.

    python distributed.py MODEL FOLDER RUN...
    torchrun --nproc-per-node 2 distributed.py MODEL FOLDER RUN...

A run is named OBJECTIVE-REFERENCE, with -lora or -resumed; FOLDER gets a file for each, with what
it logged and its weights at the end. A run may also be the file of a recipe.
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from tiny import GROUP, make_trainer, rows
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForCausalLM, AutoTokenizer

from humanline.training.recipes import recipe as recipes

IS_SHARDED = "ACCELERATE_USE_FSDP" in os.environ
BATCH = 8  # over all processes; two groups of GRPO's
STOP = 3  # where a run is resumed: within a window, and within the second epoch
OPTIONS = {
    "max_steps": 7,
    "sync_interval": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 5e-3,
    "log_eps_p": -0.3,
    "log_eps_r": 0.3,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "use_cpu": True,
}


def dataset(objective: str) -> Dataset:
    """40 rows of pairs or of labelled completions, or 16 groups.

    Five batches to an epoch, of which processes take every second, do not fill three accumulations.
    """
    groups = [
        {
            "prompt": f"{i % 10}+{i // 10}",
            "completions": [letter * (1 + i % 3) for letter in "abcd"],
            "scores": [float((3 * i + j * j) % 5) for j in range(GROUP)],
        }
        for i in range(40)
    ]
    if objective == "kto":
        return mismatched_alike(rows("kto", groups).select(range(40)))
    return rows(objective, groups if objective == "dpo" else groups[:16])


def mismatched_alike(dataset: Dataset) -> Dataset:
    """KTO's KL term has a completion move on by one, the last of a process's batch to its first.

    One process with a batch of eight and two with four make the same of it if the fourth and the
    eighth row have the same completion.
    """
    completions = list(dataset["completion"])
    completions[BATCH - 1 :: BATCH] = completions[BATCH // 2 - 1 :: BATCH]
    return dataset.remove_columns("completion").add_column("completion", completions)


def train(name: str, model_folder: str, folder: Path) -> None:
    trainer = build(name, model_folder, folder)
    trainer.train()
    if name.endswith("-resumed"):
        trainer = build(name, model_folder, folder)
        trainer.train(resume_from_checkpoint=str(folder / name / f"checkpoint-{STOP}"))
    # GRPO's kl is a mean of the processes' means, so not the same.
    logged = ["loss", "grad_norm", "eval_loss", *["kl"] * name.startswith("kto")]
    log = {key: [row[key] for row in trainer.state.log_history if key in row] for key in logged}
    assert isinstance(trainer.model, FSDPModule) == IS_SHARDED
    weights = {n: whole(w) for n, w in trainer.model.named_parameters() if ".ref." not in n}
    if trainer.is_world_process_zero():
        torch.save({"log": log, "weights": weights}, folder / f"{name}.pt")


def build(name: str, model_folder: str, folder: Path):
    objective, reference, *more = name.split("-")
    batch = BATCH // int(os.environ.get("WORLD_SIZE", 1))
    options = OPTIONS | {"reference": reference}
    options |= {f"per_device_{mode}_batch_size": batch for mode in ("train", "eval")}
    if objective == "grpo":
        options["beta"] = 0.1
    if "resumed" in more:
        options |= {"save_strategy": "steps", "save_steps": STOP}
    data = dataset(objective)
    extra = {"eval_dataset": data.select(range(BATCH))}
    if "lora" in more:
        from peft import LoraConfig

        options["learning_rate"] = 5e-2
        targets = ["q_proj", "v_proj"]
        extra["peft_config"] = LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    torch.manual_seed(0)
    return make_trainer(objective, model, tokenizer, data, folder / name, extra=extra, **options)


def whole(weight: torch.Tensor) -> torch.Tensor:
    return (weight.full_tensor() if hasattr(weight, "full_tensor") else weight).detach().clone()


def run_on_cpus() -> None:
    """Let accelerate train on several CPUs as it does on several GPUs."""
    start = PartialState.__init__

    def start_on_cpus(self, *args, **kwargs):
        start(self, *args, **kwargs)
        self.device = torch.device("cpu")  # "cpu:0" is none for torch.load, and so for a resume
        if IS_SHARDED and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU  # accelerate shards on these alone

    PartialState.__init__ = start_on_cpus


if __name__ == "__main__":
    run_on_cpus()
    model_folder, folder, *names = sys.argv[1:]
    for name in names:
        if name.endswith(".yaml"):
            recipes.run(Path(name), [])
        else:
            train(name, model_folder, Path(folder))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    # Threads of gloo now and then abort an interpreter that ends; all is written, so leave at once.
    sys.stdout.flush()
    os._exit(0)
