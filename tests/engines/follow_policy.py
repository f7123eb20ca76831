"""Says of TRL's colocated vLLM what it samples before and after its policy changes.

    torchrun --nproc-per-node N follow_policy.py BASE OUTPUT

N processes share the engine's model, tensor parallel, and each writes ``OUTPUT/RANK.json``. They
are processes of their own because TRL's engine takes them over.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator

from humanline.generation.engines import TransformersEngine, load_model, sample
from humanline.generation.vllm_engine import PolicyEngine
from humanline.study.scale.sampling import Generation, Sampling
from humanline.trainers.rows.preferences import user_turn

CONFIG = Generation(engine="vllm", online_memory_utilization=0.1)
GREEDY = Sampling(temperature=0, max_new_tokens=18)
WARM = Sampling(temperature=1.0, max_new_tokens=18)
RANK, PROCESSES = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
# Each process has prompts of its own.
PROMPTS = [user_turn(f"{a}+{b}-{a}") for a in range(2 + 7 * RANK, 9 + 7 * RANK) for b in range(4)]


def change(model) -> None:
    """Every parameter a little: embeddings, attention, norms and what predicts the tokens."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * parameter.std() * torch.randn_like(parameter)


def greedy(engine) -> list[dict]:
    return sample(engine, PROMPTS, n=1, sampling=GREEDY, seed=RANK)


model, tokenizer = load_model(Path(sys.argv[1]))
accelerator = Accelerator(cpu=not torch.cuda.is_available())
trainer = SimpleNamespace(model=model, processing_class=tokenizer, accelerator=accelerator)
engines = TransformersEngine(model, tokenizer), PolicyEngine(trainer, CONFIG, PROCESSES)
before = [greedy(engine) for engine in engines]
change(model)
after = [greedy(engine) for engine in engines]
# As rounds do, each process asks with a seed of its own.
seeds = [PROCESSES * draw + RANK for draw in (1, 1, 2)]
seeded = [sample(engines[1], PROMPTS, n=4, sampling=WARM, seed=seed) for seed in seeds]
found = {"before": before, "after": after, "seeded": seeded}
Path(sys.argv[2], f"{RANK}.json").write_text(json.dumps(found))
