"""Trains runs, as one process or as one of several; `test_distributed.py` compares them.

    torchrun --nproc-per-node 2 distributed.py MODEL FOLDER WAY/RUN...

A run is named OBJECTIVE-REFERENCE, with -lora or -resumed, and trained in one of the `WAYS`. FOLDER
gets a folder for each way, with a file for each run: what it logged, and its weights at the end.
Who resumes a run writes the file of the run that is not cut, too. A run may also be the file of a
recipe.
"""

import os
import sys
from pathlib import Path
from unittest import mock

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from tiny import GROUP, make_trainer, rows
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForCausalLM, AutoTokenizer

from humanline.training.recipes import recipe as recipes

ROOT = Path(__file__).parents[2]
BATCH = 8  # over all processes; two groups of GRPO's
RESUMED = "-resumed"
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


def fsdp(**changes) -> dict[str, str]:
    """What `accelerate launch` makes of the shipped configuration, with changes."""
    config = yaml.safe_load((ROOT / "recipes" / "accelerate" / "fsdp2.yaml").read_text())
    options = config["fsdp_config"] | changes
    variables = {key.upper(): str(value) for key, value in options.items()}
    return variables | {"ACCELERATE_USE_FSDP": "true"}


# How processes share a model: the environment that says so.
WAYS = {
    "replicas": {},
    "shards": fsdp(),
    # A forward leaves the whole weights behind.
    "gathered": fsdp(fsdp_reshard_after_forward=False),
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
    """Train a run, and go on from a checkpoint of it if its name says so."""
    run = name.removesuffix(RESUMED)
    saving = {"save_strategy": "steps", "save_steps": STOP} if name != run else {}
    trainer = build(run, model_folder, folder, **saving)
    trainer.train()
    write(trainer, run, folder)
    if name != run:
        trainer = build(run, model_folder, folder)
        trainer.train(resume_from_checkpoint=str(folder / run / f"checkpoint-{STOP}"))
        write(trainer, name, folder)


def write(trainer, name: str, folder: Path) -> None:
    # GRPO's kl is a mean of the processes' means, so not the same.
    logged = ["loss", "grad_norm", "eval_loss", *["kl"] * name.startswith("kto")]
    log = {key: [row[key] for row in trainer.state.log_history if key in row] for key in logged}
    assert is_shared_as_asked(trainer)
    weights = {n: whole(w) for n, w in trainer.model.named_parameters() if ".ref." not in n}
    if trainer.is_world_process_zero():
        torch.save({"log": log, "weights": weights}, folder / f"{name}.pt")


def is_sharded() -> bool:
    return "ACCELERATE_USE_FSDP" in os.environ


def is_shared_as_asked(trainer) -> bool:
    if not is_sharded():
        return not isinstance(trainer.model, FSDPModule)
    reshards = trainer.accelerator.state.fsdp_plugin.reshard_after_forward
    asked = os.environ["FSDP_RESHARD_AFTER_FORWARD"] == "True"
    return isinstance(trainer.model, FSDPModule) and reshards == asked


def build(name: str, model_folder: str, folder: Path, **saving):
    objective, reference, *more = name.split("-")
    batch = BATCH // int(os.environ.get("WORLD_SIZE", 1))
    options = OPTIONS | {"reference": reference} | saving
    options |= {f"per_device_{mode}_batch_size": batch for mode in ("train", "eval")}
    if objective == "grpo":
        options["beta"] = 0.1
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
        if is_sharded() and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU  # accelerate shards on these alone

    PartialState.__init__ = start_on_cpus


if __name__ == "__main__":
    run_on_cpus()
    model_folder, folder, *names = sys.argv[1:]
    for name in names:
        way, _, run = name.partition("/")
        own = Path(folder, way)
        own.mkdir(exist_ok=True)
        with mock.patch.dict(os.environ, WAYS[way]):
            if run.endswith(".yaml"):
                recipes.run(Path(run), [])
            else:
                train(run, model_folder, own)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    # Threads of gloo now and then abort an interpreter that ends; all is written, so leave at once.
    sys.stdout.flush()
    os._exit(0)
