"""Says of TRL's colocated vLLM what it samples before and after its policy changes.

    python follow_policy.py BASE

prints one JSON object. It has a process of its own, which TRL's engine takes over.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator

from humanline.config import Generation, Sampling
from humanline.data.preferences import user_turn
from humanline.generation import TransformersEngine, load_model, sample
from humanline.vllm_engine import PolicyEngine

CONVERSATIONS = [user_turn(f"{a}+{b}-{a}") for a in range(2, 9) for b in range(11, 15)]
GREEDY = Sampling(temperature=0, max_new_tokens=18)
WARM = Sampling(temperature=1.0, max_new_tokens=18)


def policy_engine(model, tokenizer) -> PolicyEngine:
    trainer = SimpleNamespace(model=model, processing_class=tokenizer, accelerator=Accelerator())
    config = Generation(engine="vllm", online_memory_utilization=0.1)
    return PolicyEngine(trainer, config, gpus=1)


def change(model) -> None:
    """Every parameter a little: embeddings, attention, norms and what predicts the tokens."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * parameter.std() * torch.randn_like(parameter)


model, tokenizer = load_model(Path(sys.argv[1]))
engines = TransformersEngine(model, tokenizer), policy_engine(model, tokenizer)
options = {"n": 1, "sampling": GREEDY, "seed": 1}
before = [sample(engine, CONVERSATIONS, **options) for engine in engines]
change(model)
after = [sample(engine, CONVERSATIONS, **options) for engine in engines]
seeded = [sample(engines[1], CONVERSATIONS, n=4, sampling=WARM, seed=seed) for seed in (1, 1, 2)]
print(json.dumps({"before": before, "after": after, "seeded": seeded}))
