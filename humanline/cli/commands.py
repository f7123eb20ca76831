"""The commands: what the workflow's rules call, and a person can type.

Every command reads the scale's configuration, does one stage for one cell, and writes that
stage's files. With ``--log`` it writes what it prints to a file, and if it fails shows the file's
last lines.
"""

import argparse
import contextlib
import json
import os
import sys
import time
import traceback
from collections import deque
from pathlib import Path

from humanline.files.validation import TRACEBACK, ConfigError, pick
from humanline.study.runs.pins import require_pinned
from humanline.study.runs.resolved import Run
from humanline.study.study import Study, load_study, schemas
from humanline.study.tasks import TASKS, find_task

CONFIG_DIRECTORY = Path("workflow/config")
SCHEMA_DIRECTORY = Path("workflow/schemas")
TELLS_LATER = 15.0  # seconds
TAIL = 15  # lines of a failed job's log that are shown


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit status."""
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from humanline.cli.run_locks import hold_as_job  # here: it is no part of any command's work

    hold_as_job()
    with _logging_to(arguments.log) as log:
        try:
            study = _study(arguments) if "scale" in arguments else None
            if study and "task" in arguments:  # the other commands read nothing of the hub
                pick(f"scale {study.scale.scale}: tasks", arguments.task, study.scale.tasks)
                name = getattr(arguments, "run_name", None)
                run = study.run(arguments.task, name) if name else None
                stage = arguments.command.replace("-", "_")
                require_pinned(study.scale, stage, arguments.task, run)
            started = time.time()
            arguments.run(study, arguments)
            if not getattr(arguments, "json", False):
                print(f"{arguments.command}: {time.time() - started:.1f} s", flush=True)
            return 0
        except ConfigError as error:
            _tell(error)
        except Exception:
            traceback.print_exc()
    if log:
        _show_tail(Path(log))
    return 1


def _tell(error: ConfigError) -> None:
    """Print a user's error, once a machine: processes that train together have the same one.

    A process that is not its machine's first waits to be ended with the first, and tells what only
    itself has met.
    """
    if int(os.environ.get("LOCAL_RANK", 0)):
        time.sleep(TELLS_LATER)
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exc()
    print(f"humanline: error: {error}", file=sys.stderr, flush=True)


def _study(arguments) -> Study:
    return load_study(
        arguments.config / f"{arguments.scale}.yaml",
        arguments.config / "experiments.yaml",
        arguments.results,
    )


def _prefetch(study: Study, arguments) -> None:
    from humanline.cli.prefetch import prefetch

    prefetch(study)


def _data(study: Study, arguments) -> None:
    from humanline.data import hub
    from humanline.data.stage_files import Prompt
    from humanline.files.records import write_rows
    from humanline.worlds import miniature

    config = study.scale.tasks[arguments.task].data
    source = hub if config.kind == "hub" else miniature
    for split, rows in source.splits(arguments.task, config).items():
        write_rows(study.paths.prompts(arguments.task, split), Prompt, rows)


def _base_model(study: Study, arguments) -> None:
    from humanline.data.stage_files import prompts_of
    from humanline.files.records import read_rows
    from humanline.training import base_model

    run, task = _run(study, arguments), arguments.task
    held_out = {
        row["prompt"]
        for split in ("validation", "evaluation")
        for row in read_rows(study.paths.prompts(task, split), prompts_of(task))
    }
    lengths = getattr(run.data, "lengths", None)
    base_model.make(task, run.model, run.cell.seed, run.paths.model, held_out, lengths)


def _offline(study: Study, arguments) -> None:
    from humanline.generation import offline

    offline.make(_run(study, arguments))


def _likelihood(study: Study, arguments) -> None:
    from humanline.generation import offline

    source = study.run(arguments.task, arguments.source)
    offline.measure_likelihood(source, _run(study, arguments))


def _train(study: Study, arguments) -> None:
    run = _run(study, arguments)  # a wrong name is told before the slow import
    if arguments.devices > 1:
        _launch_training(run, arguments)
        return
    from humanline.training.cell import train

    train(run)


def _launch_training(run: Run, arguments) -> None:
    from humanline.cli.launch import launch

    run.batch_share(arguments.devices)  # told once, before as many processes start
    names = ("scale", "config", "results")
    options = [word for name in names for word in (f"--{name}", str(getattr(arguments, name)))]
    words = ["train", run.cell.task, run.name, *options]
    launch(words, arguments.devices, bf16=run.training.bf16)


def _generate(study: Study, arguments) -> None:
    run = _run(study, arguments)
    from humanline.generation.samples import generate

    generate(run)


def _score(study: Study, arguments) -> None:
    run = _run(study, arguments)
    from humanline.scoring.score import score

    score(run)


def _score_annotations(study: None, arguments) -> None:
    from humanline.scoring.annotations import read_annotations
    from humanline.tables.annotations import describe, told

    figures = describe(read_annotations(arguments.file), replicates=arguments.replicates)
    if not figures["n_total"]:
        raise ConfigError(f"{arguments.file}: no row has a preference; judge the outputs first")
    if arguments.json:
        print(json.dumps({"file": str(arguments.file)} | figures, indent=1, ensure_ascii=False))
    else:
        print(told(arguments.file, figures))


def _judge_cost(study: Study, arguments) -> None:
    from humanline.scoring import judge_cost

    judged = {task: study.scale.tasks[task] for task in study.scored_by("judge")}
    targets = {
        target: [study.resolve(cell) for cell in study.evaluated(target) if cell.task in judged]
        for target in ("all", "explore", "tune")
    }
    print(judge_cost.describe(study.scale.scale, judged, targets))


def _table(study: Study, arguments) -> None:
    from humanline.report.tables import make_table

    make_table(study.table(arguments.table))


def _surprisal(study: Study, arguments) -> None:
    from humanline.analysis import surprisal

    seed = arguments.seed
    surprisal.make(study.perceived(seed), seed, study.paths.surprisals(seed))


def _predictors(study: Study, arguments) -> None:
    run = _run(study, arguments)
    from humanline.analysis import predictors

    predictors.measure(run)


def _map(study: Study, arguments) -> None:
    from humanline.analysis.map import make_map

    make_map(study.mapped(), study.paths.explore, scale=study.scale.scale)


def _figures(study: Study, arguments) -> None:
    from humanline.analysis.figures import make_figures

    defaults = study.experiments.defaults[study.experiments.implied_capacity.task]
    make_figures(
        {seed: study.paths.surprisals(seed) for seed in study.figure_seeds()},
        (defaults.log_eps_p, defaults.log_eps_r),
        study.paths.figures,
        scale=study.scale.scale,
    )


def _ledger(study: Study, arguments) -> None:
    from humanline.report.tables import make_ledger

    make_ledger(study.compared())


def _tuning(study: Study, arguments) -> None:
    from humanline.tables.tune import choose_learning_rates

    runs = [study.resolve(cell) for cell in study.evaluated("tune")]
    seeds = study.scale.seeds.tune
    choose_learning_rates(runs, study.paths.tuning, seeds=seeds, scale=study.scale.scale)


def _plan(study: Study, arguments) -> None:
    from humanline.cli import plan

    print(plan.describe(study))


def _check(study: Study, arguments) -> None:
    cells = study.all_cells()
    print(f"{study.scale.scale}: {len(cells)} cells, {len(study.experiments.tables)} tables; valid")


def _schema(study: None, arguments) -> None:
    from humanline.files.json_files import write_json

    for name, schema in schemas().items():
        write_json(arguments.folder / name, schema)


def _recipe(study: None, arguments) -> None:
    from humanline.training.recipes import recipe

    recipe.run(arguments.file, arguments.overrides)


def _worker(study: None, arguments) -> None:
    # What the commands would import, each for itself.
    import humanline.generation.offline
    import humanline.scoring.judge
    import humanline.scoring.score
    import humanline.training.base_model
    import humanline.training.cell  # noqa: F401
    from humanline.cli.worker import serve
    from humanline.trainers.classes import load
    from humanline.trainers.registry import OBJECTIVES

    for row in OBJECTIVES.values():
        load(row.trainer)
    place = arguments.socket
    if not place.parent.exists():  # the workflow has ended meanwhile, and took it away
        return
    try:
        serve(place, main)
    finally:  # the workflow, which made the folder for it, may be killed
        place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            place.parent.rmdir()


def _run(study: Study, arguments) -> Run:
    return study.run(arguments.task, arguments.run_name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="humanline", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, text, *options, scale=True):
        sub = commands.add_parser(name, help=text, description=text)
        for option, kwargs in options:
            sub.add_argument(option, **kwargs)
        if scale:
            sub.add_argument("--scale", default="laptop", help="a file of the configuration folder")
            sub.add_argument("--config", type=Path, default=CONFIG_DIRECTORY, metavar="FOLDER")
            sub.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER")
        sub.add_argument("--log", metavar="FILE", help="write output to FILE")
        sub.set_defaults(run=run)

    known = f"{', '.join(TASKS)}, or the dotted path of a module of your own"
    task = ("task", {"metavar": "TASK", "type": _task, "help": known})
    base = ("run_name", {"metavar": "BASE", "help": "for example base-s1"})
    run = ("run_name", {"metavar": "RUN", "help": "as results/SCALE/runs/TASK names it"})
    command("prefetch", _prefetch, "fetch the hub's data and models, print their fingerprints")
    command("data", _data, "write the prompts of a task", task)
    command("base-model", _base_model, "make the model that training starts from", task, base)
    command("offline", _offline, "sample and label a base model's completions", task, base)
    of = ("--of", {"dest": "source", "required": True, "metavar": "BASE"})
    command("likelihood", _likelihood, "how likely a base model finds completions", task, base, of)
    count = {"type": int, "default": 1, "help": "GPUs to train on together (default: 1; 0: none)"}
    devices = ("--devices", {"metavar": "N"} | count)
    command("train", _train, "train a cell", task, run, devices)
    command("generate", _generate, "sample a run's evaluation completions", task, run)
    command("score", _score, "judge or grade a run's completions", task, run)
    command("judge-cost", _judge_cost, "what an endpoint's judgements would cost, and have cost")
    command("table", _table, "write a table", ("table", {"help": "a table of experiments.yaml"}))
    seed = ("seed", {"type": int})
    command("surprisal", _surprisal, "how the figures' policy perceives outputs", seed)
    command("predictors", _predictors, "what may predict how well offline data train", task, run)
    command("map", _map, "plot exploratory scores against their predictors")
    command("figures", _figures, "plot the figures of the theory")
    command("ledger", _ledger, "write the verdicts on the paper's claims")
    command("tuning", _tuning, "choose learning rates from the tuning runs")
    command("plan", _plan, "print jobs, GPU hours, tokens, dollars and disk of a scale")
    command("check", _check, "validate the configuration")
    annotated = ("file", {"type": Path, "metavar": "FILE.json", "help": "or FILE.json.gz"})
    as_json = ("--json", {"action": "store_true", "help": "print JSON alone"})
    replicates = ("--replicates", {"type": _count, "default": 2000, "help": "of the bootstrap"})
    text = "print what annotations in AlpacaEval's format say of a model"
    options = (annotated, as_json, replicates)
    command("score-annotations", _score_annotations, text, *options, scale=False)
    place = ("socket", {"type": Path, "metavar": "SOCKET"})
    command("worker", _worker, "run other commands without importing anew", place, scale=False)
    folder = ("--folder", {"type": Path, "default": SCHEMA_DIRECTORY, "metavar": "FOLDER"})
    command("schema", _schema, "write the configuration's JSON schemas", folder, scale=False)
    file = ("file", {"type": Path, "metavar": "FILE.yaml"})
    keys = {"nargs": argparse.REMAINDER, "help": "--key value, over the file's; --help: all"}
    command(
        "recipe", _recipe, "train a model as a file says", file, ("overrides", keys), scale=False
    )
    return parser


def _task(text: str) -> str:
    """The name of a task that there is."""
    try:
        find_task(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _count(text: str) -> int:
    """A number of replicates that has a standard deviation."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 2 up")
    return int(text)


@contextlib.contextmanager
def _logging_to(path: str | None):
    """Redirect output, that of subprocesses and C libraries too, to a file."""
    if not path:
        yield None
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush(), sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(path, "w", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield path
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)


def _show_tail(log: Path) -> None:
    with open(log, errors="replace") as lines:
        tail = deque(lines, TAIL)
    print(f"humanline: failed; the last lines of {log}:", file=sys.stderr)
    sys.stderr.writelines(f"  {line}" for line in tail)
