"""What a training step costs: TRL's trainers, ours, and what the authors' code does, side by side.

    python benchmarks/trainers.py                    # on this machine's GPU, else on its CPU
    python benchmarks/trainers.py --objectives dpo --k 4 --sizes small --steps 8 --repeats 1

Variants, on the same model of random weights, the same data and batches:

- trl: TRL's own trainer with a frozen reference model. It has no k.
- model: ours with a second model that is synced in place.
- cached: ours, the default, without a second model.
- authors: a second model, and at every step a copy of the full state dict in main memory, of which
  every k-th is loaded into the second model.

Each measurement is a process of its own, so that its peak memory is its own, and variants take
turns, so that a drift of the machine hits all alike.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

OBJECTIVES = ("dpo", "kto", "grpo")
VARIANTS = ("trl", "model", "cached", "authors")
WARM_UP = 2  # steps that are not counted
GROUP = 4  # completions per prompt of GRPO
# width, intermediate width, layers, heads, vocabulary
SIZES = {
    "cpu": {"small": (128, 344, 4, 4, 4096), "large": (640, 1728, 8, 10, 4096)},
    "cuda": {"small": (768, 2048, 12, 12, 32000), "large": (2048, 5632, 18, 16, 32000)},
}
GOALS = {"time, cached / trl": 1.0, "time, cached / authors": 0.9, "memory, cached / authors": 0.65}


def main() -> None:
    options = _options()
    if options.measure:
        print(json.dumps(measure(**json.loads(options.measure))))
        return
    import pandas as pd

    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for plan in _plans(options):
        rows.append(_in_a_process(plan))
        measurements = pd.DataFrame(rows)
        measurements.to_csv(options.output / "trainers.csv", index=False)
        shown = {key: rows[-1][key] for key in ("size", "objective", "k", "variant")}
        print(*shown.values(), f"{rows[-1]['seconds_per_step']:.4f} s", flush=True)
    report = _report(measurements, options)
    (options.output / "trainers.md").write_text(report)
    print(report)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    parser.add_argument("--k", nargs="+", type=int, default=(1, 4, 16))
    parser.add_argument(
        "--sizes", nargs="+", choices=("small", "large"), default=("small", "large")
    )
    parser.add_argument("--steps", type=int, default=16, help="counted steps of a measurement")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of everything")
    parser.add_argument("--batch", type=int, default=8, help="pairs (dpo) or completions")
    parser.add_argument("--length", type=int, default=64, help="tokens of prompt and completion")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a plan, in a process of its own
    options = parser.parse_args()
    if options.batch % GROUP:
        parser.error(f"--batch {options.batch} is no multiple of GRPO's groups of {GROUP}")
    return options


def _plans(options) -> list[dict]:
    """All measurements, in order: variants innermost, so that they take turns."""
    shared = {"steps": options.steps, "batch": options.batch, "length": options.length}
    return [
        {"size": size, "objective": objective, "k": k, "variant": variant, **shared}
        for _ in range(options.repeats)
        for size in options.sizes
        for objective in options.objectives
        for k in options.k
        for variant in VARIANTS
        if variant != "trl" or k == options.k[0]
    ]


def _in_a_process(plan: dict) -> dict:
    command = [sys.executable, __file__, "--measure", json.dumps(plan)]
    # As the workflow sets them: without, glibc hands memory back to the system at every step.
    memory = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "68719476736"}
    environment = os.environ | memory | {"TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{plan}: failed\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# One measurement.


def measure(size: str, objective: str, k: int, variant: str, steps: int, batch: int, length: int):
    """Train for some steps: seconds and tokens per step, peak memory in MiB, where time goes."""
    import torch

    import humanline

    getattr(humanline, f"Humanline{objective.upper()}Trainer")  # imports TRL
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = _resident_mib()
    model, tokenizer = _model(SIZES[device][size])
    parameters = sum(p.numel() for p in model.parameters())
    counted = -(-steps // k) * k  # whole windows: each has one sync, and what it scores ahead
    total = WARM_UP + counted + k  # the last window has nothing ahead, and is not counted
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(
            objective, variant, k, model, tokenizer, _rows(objective, total, batch, length),
            folder, max_steps=total, batch=batch, length=length, on_gpu=device == "cuda",
        )  # fmt: skip
        clock = _Clock(trainer)
        trainer.add_callback(clock.callback())
        trainer.train()
    seconds = clock.step_seconds[WARM_UP : WARM_UP + counted]
    mean = sum(seconds) / len(seconds)  # a mean: with k > 1 some steps have a sync, most have none
    tokens = batch * length * {"dpo": 2, "kto": 1, "grpo": 1}[objective]
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else _peak_mib() - before
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "parameters": parameters, "size": size, "objective": objective, "k": k,
        "variant": variant, "seconds_per_step": mean, "tokens_per_second": tokens / mean,
        "peak_memory_mib": peak, **clock.shares(WARM_UP, WARM_UP + counted),
    }  # fmt: skip


def _model(size: tuple[int, ...]):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from humanline.data.vocabulary import build_tokenizer

    hidden, intermediate, layers, heads, vocabulary = size
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, vocab_size=vocabulary,
        tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer


def _rows(objective: str, steps: int, batch: int, length: int) -> list[dict]:
    """Random letters, each a token, half of the length as prompt; no prompt twice."""
    letters = random.Random(0)

    def text(tokens: int) -> str:
        return "".join(letters.choices("abcdefgh", k=tokens))

    half = length // 2 - 1  # and one token each to begin and to end
    if objective == "dpo":
        keys = ("prompt", "chosen", "rejected")
        return [{key: text(half) for key in keys} for _ in range(steps * batch)]
    if objective == "kto":
        return [
            {"prompt": text(half), "completion": text(half), "label": i % 2 == 0}
            for i in range(steps * batch)
        ]
    return [
        {
            "prompt": text(half),
            "completions": [text(half) for _ in range(GROUP)],
            "scores": [float(j) for j in range(GROUP)],
        }
        for _ in range(steps * batch // GROUP)
    ]


def _trainer(
    objective, variant, k, model, tokenizer, rows, folder, *, max_steps, batch, length, on_gpu
):
    import trl
    from datasets import Dataset

    import humanline

    options = {
        "output_dir": folder, "max_steps": max_steps, "per_device_train_batch_size": batch,
        "learning_rate": 1e-6, "bf16": on_gpu, "gradient_checkpointing": False,
        "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 10,
    }  # fmt: skip
    if objective == "grpo":
        options |= {"num_generations": GROUP, "max_completion_length": length // 2, "beta": 0.01}
    name = objective.upper()
    arguments = {"train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}
    if variant == "trl":
        trainer, config = getattr(trl, f"{name}Trainer"), getattr(trl, f"{name}Config")
        return _trl(objective, trainer, config(**options), model, arguments, rows)
    if variant == "authors":
        ours = {"reference": "model", "sync_interval": None}
    else:
        ours = {"reference": variant, "sync_interval": k}
    config = getattr(humanline, f"Humanline{name}Config")(**options, **ours)
    trainer = getattr(humanline, f"Humanline{name}Trainer")(model, args=config, **arguments)
    if variant == "authors":
        trainer.add_callback(_copy_every_step(trainer, k))
    return trainer


def _trl(objective, trainer, config, model, arguments, rows):
    """TRL's trainer, its reference a copy of the policy; GRPO replays stored rollouts as ours."""
    import copy

    from trl.trainer import grpo_trainer

    if objective != "grpo":
        return trainer(model, copy.deepcopy(model), args=config, **arguments)
    stored = {row["prompt"]: row["completions"] for row in rows}

    def replay(prompts, trainer):
        texts = [stored[prompt][i % GROUP] for i, prompt in enumerate(prompts)]
        tokenizer = trainer.processing_class
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        completions = [[*row, tokenizer.eos_token_id] for row in ids]
        prompt_ids = trainer._tokenize_prompts(prompts)[0]
        return {"prompt_ids": prompt_ids, "completion_ids": completions, "logprobs": None}

    def reward(prompts, **_):
        return [float(i % GROUP) for i in range(len(prompts))]

    # TRL would load the reference from the hub by the name of the policy.
    load = grpo_trainer.create_model_from_path
    grpo_trainer.create_model_from_path = lambda *_, **__: copy.deepcopy(model)
    try:
        arguments["train_dataset"] = arguments["train_dataset"].select_columns("prompt")
        return trainer(model, reward, args=config, rollout_func=replay, **arguments)
    finally:
        grpo_trainer.create_model_from_path = load


def _copy_every_step(trainer, k: int):
    from transformers import TrainerCallback

    class CopyEveryStep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            weights = trainer.model.state_dict()
            copied = {name: w.detach().to("cpu", copy=True) for name, w in weights.items()}
            if (state.global_step + 1) % k == 0:
                trainer.ref_model.load_state_dict(copied)

    return CopyEveryStep()


class _Clock:
    """Seconds of each step, and of its parts."""

    def __init__(self, trainer):
        self.step_seconds: list[float] = []
        self._parts: list[dict[str, float]] = [defaultdict(float)]
        for model in filter(None, (trainer.model, getattr(trainer, "ref_model", None))):
            model.forward = self._timed_forward(model.forward)
        trainer.accelerator.backward = self._timed("backward", trainer.accelerator.backward)
        for handler in trainer.callback_handler.callbacks:
            name = "on_pre_optimizer_step"
            if type(handler).__name__ in ("FollowPolicy", "CopyEveryStep"):
                setattr(handler, name, self._timed("sync", getattr(handler, name)))

    @contextmanager
    def _part(self, name: str):
        started = _now()
        yield
        self._parts[-1][name] += _now() - started

    def _timed(self, name: str, function):
        def timed(*args, **kwargs):
            with self._part(name):
                return function(*args, **kwargs)

        return timed

    def _timed_forward(self, forward):
        import functools

        import torch

        @functools.wraps(forward)
        def timed(*args, **kwargs):
            name = "forward" if torch.is_grad_enabled() else "forward without gradient"
            with self._part(name):
                return forward(*args, **kwargs)

        return timed

    def callback(self):
        from transformers import TrainerCallback

        clock = self

        class Steps(TrainerCallback):
            def on_train_begin(self, *args, **kwargs):
                clock._last = _now()

            def on_pre_optimizer_step(self, *args, **kwargs):
                clock._optimizer_began = _now()

            def on_optimizer_step(self, *args, **kwargs):
                clock._parts[-1]["optimizer"] += _now() - clock._optimizer_began

            def on_step_end(self, *args, **kwargs):
                now = _now()
                clock.step_seconds.append(now - clock._last)
                clock._last = now
                clock._parts.append(defaultdict(float))

        return Steps()

    def shares(self, first: int, end: int) -> dict[str, float]:
        """Mean seconds per step of each part, and of the rest."""
        counted = self._parts[first:end]
        names = ("forward", "forward without gradient", "backward", "optimizer", "sync")
        means = {name: sum(p[name] for p in counted) / len(counted) for name in names}
        steps = self.step_seconds[first:end]
        means["rest"] = sum(steps) / len(steps) - sum(means.values())
        return means


def _now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _peak_mib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# The report.


def _report(measurements, options) -> str:
    import datetime

    from humanline.provenance import describe

    about = describe()
    machine, git = about["machine"], about["git"]
    versions = ", ".join(f"{n} {about['packages'][n]}" for n in ("torch", "transformers", "trl"))
    device = measurements["device"].iloc[0]
    lines = [
        "# Cost of a training step",
        "",
        f"{datetime.date.today()}, commit {(git['commit'] or 'unknown')[:12]}"
        f"{' with changes' if git['modified'] else ''}, {versions}, Python {machine['python']}, "
        f"{machine['processor']}, {machine['cores']} cores, device {device}. "
        f"Batch {options.batch}, {options.length} tokens a sequence, {options.steps} steps after "
        f"{WARM_UP}, {options.repeats} repeats; medians over repeats.",
        "",
    ]
    keys = ["size", "objective", "k", "variant"]
    medians = measurements.drop(columns="device").groupby(keys, sort=False).median().reset_index()
    shown = medians.assign(parameters=(medians["parameters"] / 1e6).map("{:.1f} M".format))
    formats = {"tokens_per_second": "{:.0f}", "peak_memory_mib": "{:.0f}"}
    for name in shown.columns.difference([*keys, "parameters"]):
        shown[name] = medians[name].map(formats.get(name, "{:.4f}").format)
    shown.columns = [name.replace("_", " ") for name in shown.columns]
    lines += [shown.to_markdown(index=False, disable_numparse=True), "", "## Goals", ""]
    lines += [_goals(medians).to_markdown(index=False, disable_numparse=True), ""]
    lines += ["Seconds per step of parts: forward of the policy; forward without gradient is"]
    lines += ["mostly the reference's scoring; rest is data, metrics and the Trainer itself."]
    return "\n".join(lines) + "\n"


def _goals(medians):
    import pandas as pd

    rows = []
    for (size, objective), group in medians.groupby(["size", "objective"], sort=False):
        trl = group[group["variant"] == "trl"]["seconds_per_step"].item()
        for k, at_k in group[group["variant"] != "trl"].groupby("k"):
            by_variant = at_k.set_index("variant")
            seconds, memory = by_variant["seconds_per_step"], by_variant["peak_memory_mib"]
            ratios = (
                seconds["cached"] / trl,
                seconds["cached"] / seconds["authors"],
                memory["cached"] / memory["authors"],
            )
            row = {"size": size, "objective": objective, "k": k}
            for (name, goal), ratio in zip(GOALS.items(), ratios, strict=True):
                verdict = "met" if ratio <= goal else "missed"
                row[f"{name} (goal {goal:g})"] = f"{ratio:.2f} {verdict}"
            rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
