"""Compare the cost of a training step: TRL's trainers, ours, and the method of the authors' code.

    python benchmarks/trainers.py                    # on this machine's GPU, else on its CPU
    python benchmarks/trainers.py --objectives dpo --k 4 --sizes small --steps 8 --repeats 1

Variants, on the same model of random weights, the same data and batches:

- trl: TRL's own trainer with a frozen reference model. It has no k.
- model: ours with a second model that is synced in place.
- cached: ours, the default, without a second model.
- none: ours with zeros for the reference's scores. Nothing can take less time or memory.
- authors: a second model. Every step copies the full state dict to main memory, and every k-th copy
  is loaded into the second model.

Each measurement has its own process, and so its own peak memory. `--one-process` saves the time to
start them on a GPU, whose peak can be reset. Variants take turns, so a drift of the machine affects
all of them.

Steps are counted in windows of k: a window has one sync, and all the scoring ahead that belongs to
it. A median over single steps would hide both if k > 1.
"""

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from step_clock import PARTS, Clock

OBJECTIVES = ("dpo", "kto", "grpo")
VARIANTS = ("trl", "model", "cached", "authors", "none")
CELL = ["device", "parameters", "optimizer", "size", "objective", "k", "variant"]
WARM_UP = 2  # first steps, which are not counted
GROUP = 4  # completions per prompt of GRPO
# width, intermediate width, layers, heads, vocabulary
SIZES = {
    "cpu": {"small": (128, 344, 4, 4, 4096), "large": (640, 1728, 8, 10, 4096)},
    "cuda": {"small": (768, 2048, 12, 12, 32000), "large": (2048, 5632, 18, 16, 32000)},
}
# By a goal's name: what is compared, of which variants, and at most which ratio is good.
GOALS = {
    "time, cached / trl": ("seconds_per_step", "trl", {"cpu": 1.0, "cuda": 0.95}),
    "time, cached / authors": ("seconds_per_step", "authors", {"cpu": 0.9, "cuda": 0.9}),
    "memory, cached / authors": ("peak_memory_mib", "authors", {"cpu": 0.65, "cuda": 0.65}),
    "memory, cached / none": ("peak_memory_mib", "none", {"cpu": 1.02, "cuda": 1.02}),
}


def main() -> None:
    options = _options()
    if options.measure:
        print(json.dumps(measure(**json.loads(options.measure))))
        return
    import pandas as pd

    options.output.mkdir(parents=True, exist_ok=True)
    windows = []
    for plan in _plans(options):
        windows += measure(**plan) if options.one_process else _in_a_process(plan)
        measurements = _summary(pd.DataFrame(windows), ["repeat", *CELL])
        measurements.to_csv(options.output / "trainers.csv", index=False)
        last = measurements.iloc[-1]
        shown = last[["repeat", "size", "objective", "k", "variant"]]
        print(*shown, f"{last['seconds_per_step']:.4f} s", flush=True)
    report = _report(_summary(pd.DataFrame(windows), CELL), measurements, options)
    (options.output / "trainers.md").write_text(report)
    print(report)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--k", nargs="+", type=int, default=(1, 4, 16))
    parser.add_argument(
        "--sizes", nargs="+", choices=("small", "large"), default=("small", "large")
    )
    parser.add_argument(
        "--steps", type=int, default=16, help="counted steps of a measurement, at least k"
    )
    parser.add_argument("--repeats", type=int, default=3, help="measurements of everything")
    parser.add_argument("--batch", type=int, default=8, help="pairs (dpo) or completions")
    parser.add_argument("--length", type=int, default=64, help="tokens of prompt and completion")
    parser.add_argument(
        "--optimizer",
        help="transformers' name of it, whose default is AdamW, fused if torch is new; adafactor's "
        "state is small, so weights dominate memory",
    )
    parser.add_argument(
        "--one-process", action="store_true", help="measure all in this process; on a GPU alone"
    )
    parser.add_argument(
        "--profile", action="store_true", help="print what a GPU does, and where it is waited for"
    )
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a plan, in a process of its own
    options = parser.parse_args()
    if options.batch % GROUP:
        parser.error(f"--batch {options.batch} is no multiple of GRPO's groups of {GROUP}")
    return options


def _plans(options) -> list[dict]:
    """List all measurements in order: variants are the innermost loop, so they take turns."""
    names = ("steps", "batch", "length", "optimizer", "profile")
    shared = {name: getattr(options, name) for name in names}
    return [
        {"repeat": repeat, "size": size, "objective": objective, "k": k, "variant": variant}
        | shared
        for repeat in range(options.repeats)
        for size in options.sizes
        for objective in options.objectives
        for k in options.k
        for variant in options.variants
        if variant != "trl" or k == options.k[0]
    ]


def _in_a_process(plan: dict) -> list[dict]:
    command = [sys.executable, __file__, "--measure", json.dumps(plan)]
    # The workflow's settings: otherwise glibc returns memory to the system at every step.
    memory = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "68719476736"}
    environment = os.environ | memory | {"TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{plan}: failed\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# One measurement.


def measure(
    repeat: int, size: str, objective: str, k: int, variant: str,
    steps: int, batch: int, length: int, optimizer: str | None, profile: bool,
) -> list[dict]:  # fmt: skip
    """Train, and measure in each window seconds per step, their parts, and peak memory (MiB)."""
    import torch

    import humanline

    getattr(humanline, f"Humanline{objective.upper()}Trainer")  # imports TRL
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = _resident_mib()
    if device == "cuda":
        gc.collect()  # of a measurement before in this process
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with torch.device(device):
        model, tokenizer = _model(SIZES[device][size], length)
    parameters = sum(p.numel() for p in model.parameters())
    end = WARM_UP + -(-steps // k) * k
    total = end + 2 * k  # the plan is longer, so the last sync also scores a whole window ahead
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "output_dir": folder, "max_steps": total, "learning_rate": 1e-6,
            "per_device_train_batch_size": batch, "bf16": device == "cuda", "logging_steps": 10,
            "gradient_checkpointing": False, "save_strategy": "no", "report_to": "none",
            "disable_tqdm": True,
        }  # fmt: skip
        if optimizer:
            options["optim"] = optimizer
        if objective == "grpo":
            options |= {"num_generations": GROUP, "max_completion_length": length // 2}
            options |= {"beta": 0.01}
        rows = _rows(objective, total, batch, length)
        trainer = _trainer(objective, variant, k, model, tokenizer, rows, options)
        clock = Clock(trainer, profile and device == "cuda")
        trainer.add_callback(clock.callback(end, k))
        trainer.train()
        optimizer = trainer.args.optim.value
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else _peak_mib() - before
    cell = {
        "repeat": repeat, "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "parameters": parameters, "optimizer": optimizer, "size": size, "objective": objective,
        "k": k, "variant": variant,
    }  # fmt: skip
    if clock.profile:
        print(json.dumps(cell | clock.profile, indent=1), flush=True)
    tokens = batch * length * {"dpo": 2, "kto": 1, "grpo": 1}[objective]
    return [
        cell
        | {"seconds_per_step": seconds, "tokens_per_second": tokens / seconds}
        | {"peak_memory_mib": peak}
        | parts
        for seconds, parts in clock.windows(WARM_UP, k)
    ]


def _model(size: tuple[int, ...], length: int):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from humanline.worlds.tiny_model import build_tokenizer

    hidden, intermediate, layers, heads, vocabulary = size
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, vocab_size=vocabulary,
        max_position_embeddings=length, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer


def _rows(objective: str, steps: int, batch: int, length: int) -> list[dict]:
    """Make rows of random letters, one token each; half of the length is prompt, all different."""
    letters = random.Random(0)

    def text(tokens: int) -> str:
        return "".join(letters.choices("abcdefgh", k=tokens))

    half = length // 2 - 1  # one more token begins the prompt, and one ends the completion
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


def _trainer(objective, variant, k, model, tokenizer, rows, options):
    import trl
    from datasets import Dataset

    import humanline

    name = objective.upper()
    arguments = {"train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}
    if variant == "trl":
        trainer, config = getattr(trl, f"{name}Trainer"), getattr(trl, f"{name}Config")
        return _trl(objective, trainer, config(**options), model, arguments, rows)
    if variant == "authors":
        ours = {"reference": "model", "sync_interval": None}
    else:
        ours = {"reference": "cached" if variant == "none" else variant, "sync_interval": k}
    config = getattr(humanline, f"Humanline{name}Config")(**options, **ours)
    trainer = getattr(humanline, f"Humanline{name}Trainer")(model, args=config, **arguments)
    if variant == "authors":
        trainer.add_callback(_copy_every_step(trainer, k))
    if variant == "none":
        trainer._scored = lambda batches: [_zeros(trainer._sequences(batch)) for batch in batches]
    return trainer


def _zeros(sequences: dict) -> dict:
    import torch

    return {
        name: one.scored.new_zeros((len(one.scored), one.width), dtype=torch.float32)
        for name, one in sequences.items()
    }


def _trl(objective, trainer, config, model, arguments, rows):
    """Build TRL's trainer with a copy of the policy as reference; GRPO replays stored rollouts."""
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

    # TRL would load the reference from the hub, by the policy's name.
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


def _resident_mib() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def _peak_mib() -> float:
    from humanline.files.provenance import peak_resident

    return peak_resident() / 2**20


# The report.


def _summary(windows, keys: list[str]):
    """Compute medians over windows with the same `keys`, and quartiles of seconds per step."""
    groups = windows.groupby(keys, sort=False)
    quartiles = groups["seconds_per_step"].quantile([0.25, 0.75]).unstack()
    medians = groups[["seconds_per_step", "tokens_per_second", "peak_memory_mib", *PARTS]].median()
    medians.insert(1, "first_quartile", quartiles[0.25])
    medians.insert(2, "third_quartile", quartiles[0.75])
    return medians.reset_index()


def _report(cells, measurements, options) -> str:
    import datetime

    from humanline.files.provenance import describe

    about = describe()
    machine, git = about["machine"], about["git"]
    versions = ", ".join(f"{n} {about['packages'][n]}" for n in ("torch", "transformers", "trl"))
    lines = [
        "# Cost of a training step",
        "",
        f"{datetime.date.today()}, commit {(git['commit'] or 'unknown')[:12]}"
        f"{' with changes' if git['modified'] else ''}, {versions}, Python {machine['python']}, "
        f"{machine['processor']}, {machine['cores']} cores, device {cells['device'].iloc[0]}. "
        f"Batch {options.batch}, {options.length} tokens a sequence, {options.steps} steps after "
        f"{WARM_UP}, {options.repeats} repeats. Medians and quartiles are over windows of k steps "
        "of all repeats.",
        "",
        _table(cells).to_markdown(index=False, disable_numparse=True),
        "",
        "Parts, in seconds per step: forward passes of the policy; scoring by the reference; "
        "backward pass; the optimizer's update; sync; the rest is data, gradient clipping, "
        "metrics and the Trainer itself.",
        "",
        "## Goals",
        "",
        "Ratios within a repeat: their median over repeats, and least and greatest.",
        "",
        _goals(measurements).to_markdown(index=False, disable_numparse=True),
        "",
    ]
    return "\n".join(lines)


def _table(cells):
    """Format the cells for people."""
    formats = {"tokens_per_second": "{:.0f}", "peak_memory_mib": "{:.0f}"}
    table = cells.drop(columns="device")
    table["parameters"] = (cells["parameters"] / 1e6).map("{:.1f} M".format)
    for name in cells.columns.difference(CELL):
        table[name] = cells[name].map(formats.get(name, "{:.4f}").format)
    return table.rename(columns=lambda name: name.replace("_", " "))


def _goals(measurements):
    """Compare the ratios with the goals, by size, objective and k; ratios are within repeats."""
    import pandas as pd

    rows = []
    device = "cpu" if measurements["device"].iloc[0] == "cpu" else "cuda"
    for (size, objective), group in measurements.groupby(["size", "objective"], sort=False):
        trl = group[group["variant"] == "trl"].set_index("repeat")
        for k, at_k in group[group["variant"] != "trl"].groupby("k"):
            variants = {name: runs.set_index("repeat") for name, runs in at_k.groupby("variant")}
            variants |= {"trl": trl} if len(trl) else {}
            row = {"size": size, "objective": objective, "k": k}
            for name, (column, other, most) in GOALS.items():
                if not {"cached", other} <= variants.keys():
                    continue
                ratio = variants["cached"][column] / variants[other][column]
                verdict = "met" if ratio.median() <= most[device] else "missed"
                spread = f"[{ratio.min():.2f}, {ratio.max():.2f}]"
                row[f"{name} (goal {most[device]:g})"] = f"{ratio.median():.3f} {spread} {verdict}"
            rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
