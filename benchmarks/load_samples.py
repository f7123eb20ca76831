"""Measure how scoring and tables take many samples: CPU seconds and peak memory, at several sizes.

    python benchmarks/load_samples.py --samples 10000 50000 200000 1000000

Each size is one judged run with as many prompts of the miniature world, and a base model with the
same prompts. Its samples are drawn by rule, not by a model. `score` judges it by the scale's local
judge, `table` and `scores` read both runs, `score_annotations` has the bootstrap. Every command is
a process of its own. It writes `load_samples.csv` and `load_samples.md`.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import pandas as pd
from load_cells import ROOT, TABLE, TASK, measure, write_study, write_training

from humanline.study.study import Study, load_study
from humanline.worlds.letters import expert_line, sample_prompt

SEED = 1


def write_samples(study: Study, count: int) -> None:
    """Write the prompts of a seed and the samples of the table's first runs, line by line."""
    base, run = study.table(TABLE).runs[:2]
    prompts = dict.fromkeys(_prompts(count))
    paths = [own.paths.samples for own in (base, run)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    rngs = [random.Random(name) for name in ("reference", "base", "run")]
    with open(paths[0], "w") as first, open(paths[1], "w") as second:
        for number, prompt in enumerate(prompts):
            reference, *lines = (expert_line(prompt, rng, 0.6) for rng in rngs)
            row = {"prompt_id": number, "prompt": prompt, "reference": reference}
            for file, step, line in zip((first, second), (0, 8), lines, strict=True):
                file.write(json.dumps({"step": step, **row, "completion": line}) + "\n")
    write_training(run)


def _prompts(count: int):
    """Draw different prompts. More than the world has would be alike, so they have a number."""
    rng = random.Random(SEED)
    for number in range(count):
        yield f"{sample_prompt(rng)} {'+'.join('abcdefgh'[int(d)] for d in oct(number)[2:])}+"


def commands(config: Path, results: Path) -> dict[str, list[str]]:
    """The commands to measure, by name and in order."""
    own = [sys.executable, "-m", "humanline"]
    study = ["--scale", "smoke", "--config", str(config), "--results", str(results)]
    loaded = load_study(config / "smoke.yaml", config / "experiments.yaml", results)
    base, run = loaded.table(TABLE).runs[:2]
    return {
        "score, base model": [*own, "score", TASK, base.name, *study],
        "score": [*own, "score", TASK, run.name, *study],
        "table": [*own, "table", TABLE, *study],
        "scores": [*own, "scores", *study],
        "score_annotations": [*own, "score_annotations", str(run.paths.annotations)],
    }


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sizes = [10_000, 50_000, 200_000, 1_000_000]
    parser.add_argument("--samples", type=int, nargs="+", default=sizes)
    parser.add_argument("--only", nargs="+", help="some of the commands")
    parser.add_argument("--folder", type=Path, help="for the files, which stay; default: none do")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks")
    options = parser.parse_args()
    rows = []
    for count in options.samples:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.folder or Path(temporary)) / str(count)
            if not folder.exists():
                config = write_study(folder / "config", cells=1, seeds=1)
                study = load_study(
                    config / "smoke.yaml", config / "experiments.yaml", folder / "results"
                )
                write_samples(study, count)
            for name, command in commands(folder / "config", folder / "results").items():
                if not options.only or name in options.only:
                    rows.append({"command": name, "samples": count} | measure(command))
                    print(rows[-1], flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows).sort_values(["command", "samples"], kind="stable")
    frame.to_csv(options.output / "load_samples.csv", index=False)
    (options.output / "load_samples.md").write_text(frame.to_markdown(index=False) + "\n")


if __name__ == "__main__":
    main()
