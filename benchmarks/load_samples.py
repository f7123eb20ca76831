"""Measure how scoring and tables take many samples: CPU seconds and peak memory, at several sizes.

    python benchmarks/load_samples.py --samples 10000 50000 200000 1000000

Each size is one judged run with as many prompts of the miniature world. Its samples are drawn by
rule, not by a model. `score` judges it by the scale's local judge; a base model gets a copy of its
verdicts. `table` and `scores` read both, `score_annotations` has the bootstrap. Every command is a
process of its own. It writes `load_samples.csv` and `load_samples.md`.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from load_cells import ROOT, TABLE, TASK, measure, write_study, write_table, write_training

from humanline.study.study import Study, load_study
from humanline.worlds.letters import expert_line, sample_prompt

SEED = 1


def write_samples(study: Study, count: int) -> None:
    """Write the samples of the table's run, line by line."""
    _, run = study.table(TABLE).runs
    write_training(run)
    first, second = random.Random("reference"), random.Random("run")
    with open(run.paths.samples, "w") as file:
        for number, prompt in enumerate(_prompts(count)):
            row = {"step": 8, "prompt_id": number, "prompt": prompt}
            row["reference"] = expert_line(prompt, first, 0.6)
            row["completion"] = expert_line(prompt, second, 0.6)
            file.write(json.dumps(row) + "\n")


def copy_verdicts(study: Study) -> None:
    """Give the base model the verdicts of the run, under its own name."""
    base, run = study.table(TABLE).runs
    base.paths.directory.mkdir(parents=True, exist_ok=True)
    with open(run.paths.annotations) as read, open(base.paths.annotations, "w") as written:
        written.writelines(line.replace(run.name, base.name) for line in read)
    for name in ("summary", "curve"):
        getattr(base.paths, name).write_text(getattr(run.paths, name).read_text())


def _prompts(count: int):
    """Draw different prompts. More than the world has would be alike, so they have a number."""
    rng = random.Random(SEED)
    for number in range(count):
        yield f"{sample_prompt(rng)} {'+'.join('abcdefgh'[int(d)] for d in oct(number)[2:])}+"


def commands(study: Study, config: Path) -> dict[str, list[str]]:
    """The commands to measure, by name and in order."""
    own = [sys.executable, "-m", "humanline"]
    options = ["--scale", "smoke", "--config", str(config), "--results", str(study.root)]
    _, run = study.table(TABLE).runs
    return {
        "score": [*own, "score", TASK, run.name, *options],
        "table": [*own, "table", TABLE, *options],
        "scores": [*own, "scores", *options],
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
            is_new, config = not folder.exists(), folder / "config"
            if is_new:
                write_study(config, cells=1, seeds=1)
            files = config / "smoke.yaml", config / "experiments.yaml"
            study = load_study(*files, folder / "results")
            if is_new:
                write_samples(study, count)
            for name, command in commands(study, config).items():
                if not options.only or name in options.only:
                    rows.append({"command": name, "samples": count} | measure(command))
                    print(rows[-1], flush=True)
                if name == "score":
                    copy_verdicts(study)
    write_table(rows, "samples", options.output / "load_samples")


if __name__ == "__main__":
    main()
