"""Compare transformers' `generate` with and without `lean_generate`: seconds of CPU, and samples.

    python benchmarks/sampling.py MODEL PROMPTS --prompts 128 --completions 8 --new-tokens 18

MODEL is a folder with a model and its tokenizer, PROMPTS a JSONL file with a field `prompt`. Both
ways sample in turns in one process, from the same seed. The best of the repeats is printed.
"""

import argparse
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from humanline.files.json_files import read_jsonl
from humanline.generation.engines import load_model
from humanline.trainers.rows.conversations import encode_prompts
from humanline.trainers.rows.preferences import user_turn
from humanline.trainers.shared.sampling import lean_generate


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("prompts_file", type=Path, metavar="prompts")
    for name, default in (("prompts", 128), ("completions", 8), ("new-tokens", 18), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    model, tokenizer = load_model(options.model)
    rows = read_jsonl(options.prompts_file)[: options.prompts]
    ids = encode_prompts(tokenizer, [user_turn(row["prompt"]) for row in rows])
    inputs = tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
    ways = {"transformers": nullcontext, "lean_generate": lambda: lean_generate(model)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    samples = {}
    for _ in range(options.repeats):
        for name, way in ways.items():
            torch.manual_seed(0)
            started = time.process_time()
            with way(), torch.no_grad():
                samples[name] = model.eval().generate(
                    **inputs.to(model.device),
                    do_sample=True,
                    top_k=0,
                    num_return_sequences=options.completions,
                    max_new_tokens=options.new_tokens,
                    pad_token_id=tokenizer.pad_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                )
            seconds[name].append(time.process_time() - started)
    for name, measured in seconds.items():
        print(f"{name:14} {min(measured):.3f} s for {len(rows) * options.completions} completions")
    own, lean = samples.values()
    equal = (own == lean).all(1).float().mean() if own.shape == lean.shape else torch.zeros(())
    print(f"equal samples: {100 * equal:.2f} %")


if __name__ == "__main__":
    main()
