"""The commands, for the workflow's rules and for people.

A stage's command reads the scale's configuration, runs the stage for one cell, and writes its
files. With ``--log`` its output goes to a file; if it fails, it prints the file's last lines.
"""

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path

from humanline.cli.errors import fault_of, print_error
from humanline.files.user_code import working_directory
from humanline.files.validation import ConfigError, pick
from humanline.study.experiments import ImpliedCapacity
from humanline.study.runs.pins import require_pinned
from humanline.study.runs.resolved import Run
from humanline.study.scale.data import GeneratedData, HubData
from humanline.study.scale.models import FineTunedModel, MiniatureModel, Pretraining
from humanline.study.study import Study, load_study, schemas

INTERRUPTED = 130  # exit status, as shells have it


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the command and its arguments; None: those of this process.

    Returns:
        The exit status: that of the command, or the command's own for errors.
    """
    # Imported here, so that they are in no command's hash: no result depends on them.
    from humanline.cli.local.run_locks import hold_as_job
    from humanline.cli.parser import parser
    from humanline.cli.progress.joblog import logging_to, show_tail

    arguments = parser().parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    hold_as_job()
    fault = None  # of the disk
    try:
        # As `python -m humanline` has it: a user's own functions may import modules beside them.
        with working_directory(), logging_to(arguments.log) as log:
            status, fault = _run_or_tell(arguments)
        if status is not None:
            return status
        if log:
            show_tail(Path(log))
    except OSError as error:  # of the log itself, or of a working directory that is gone
        if (fault := fault or fault_of(error, arguments.log)) is None:
            raise
        print_error(fault)
        return arguments.command.error_status
    if fault and arguments.log:  # whose disk may be the full one
        print_error(fault)
    return arguments.command.error_status


def _run_or_tell(arguments) -> tuple[int | None, ConfigError | None]:
    """Run the command; return its status, or print its error and return None, with a disk's."""
    from humanline.cli.install.missing import missing_package, require_workflow
    from humanline.cli.makers import with_remake
    from humanline.cli.parser import FOLDERS

    try:
        require_workflow(arguments)
        return _run(arguments), None
    except ConfigError as error:
        print_error(with_remake(error, vars(arguments), FOLDERS))
    except KeyboardInterrupt:
        print("humanline: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED, None
    except SystemExit as error:  # of training that SIGTERM has stopped; it says so itself
        return int(error.code or 0), None
    except BrokenPipeError:  # a reader such as `head` has stopped; print no traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0, None
    except Exception as error:
        if missing := missing_package(error):
            print_error(missing)
        elif fault := fault_of(error):
            print_error(fault)
            return None, fault
        else:
            traceback.print_exc()
    return None, None


def _run(arguments) -> int:
    """Call the command's function, which has the command's name; return its exit status."""
    from humanline.cli.makers import making, place_reports

    command, run = arguments.command, None
    study = _study(arguments) if command.reads == "study" else None
    if study and "task" in arguments:  # other commands read nothing from the hub
        pick(f"scale {study.scale.scale}: tasks", arguments.task, study.scale.tasks)
        name = getattr(arguments, "run_name", None)
        run = study.run(arguments.task, name) if name else None
        require_pinned(study.scale, command.name, arguments.task, run)
        if run and run.report_to:
            place_reports(study.paths.results / "tensorboard" / arguments.task / run.name, study)
    started = time.time()
    with making(command.name, getattr(arguments, "task", None), run):
        status = globals()[f"_{command.name}"](study, arguments)
    if command.is_timed and not getattr(arguments, "json", False):
        print(f"{command.name}: {time.time() - started:.1f} s", flush=True)
    return status or 0


def _study(arguments) -> Study:
    return load_study(
        arguments.config / f"{arguments.scale}.yaml",
        arguments.config / "experiments.yaml",
        arguments.results,
    )


def _prefetch(study: Study, arguments) -> None:
    from humanline.data.prefetch import prefetch

    prefetch(study.scale)


def _data(study: Study, arguments) -> None:
    from humanline.data import hub_datasets
    from humanline.data.stage_files import prompts_of
    from humanline.files.typed_files import write_rows
    from humanline.worlds import miniature

    task, draw = arguments.task, arguments.draw
    seed = pick(f"draw of {task}", draw, study.draws(task))
    match study.scale.tasks[task].data:
        case HubData() as config:
            splits = hub_datasets.splits(task, config)
        case GeneratedData() as config:
            splits = miniature.splits(task, config, seed)
    for split, rows in splits.items():
        write_rows(study.paths.prompts(task, draw, split), prompts_of(task), rows)


def _pretrained(study: Study, arguments) -> None:
    from humanline.training import base_model

    task, name = arguments.task, arguments.name
    run = pick(f"pretrained model of {task}", name, study.pretrained(task))
    folder = study.paths.pretrained(task, name)
    match run.model, run.data:
        case MiniatureModel(pretraining=Pretraining() as lessons) as model, GeneratedData() as data:
            base_model.pretrain(task, model.sizes, lessons, folder, data)
        case FineTunedModel() as model, _:
            base_model.fetch(model.start, folder)


def _base_model(study: Study, arguments) -> None:
    from humanline.training import base_model

    run, task = _resolved(study, arguments), arguments.task
    seed, folder = run.cell.seed, run.paths.model
    base_model.make(task, run.model, seed, folder, run.data, run.pretrained)


def _offline(study: Study, arguments) -> None:
    from humanline.generation import offline

    offline.make(_resolved(study, arguments))


def _likelihood(study: Study, arguments) -> None:
    from humanline.generation import offline

    source = study.run(arguments.task, arguments.source)
    offline.measure_likelihood(source, _resolved(study, arguments))


def _train(study: Study, arguments) -> None:
    run = _resolved(study, arguments)  # before the slow import, so that a wrong name fails fast
    if arguments.devices > 1:
        _launch_training(run, arguments)
        return
    from humanline.training.cell import train

    train(run)


def _launch_training(run: Run, arguments) -> None:
    from humanline.cli.launch import launch

    run.batch_share(arguments.devices)  # fails here once, not in every process
    names = ("scale", "config", "results")
    options = [word for name in names for word in (f"--{name}", str(getattr(arguments, name)))]
    words = ["train", run.cell.task, run.name, *options]
    launch(words, arguments.devices, bf16=run.training.bf16)


def _generate(study: Study, arguments) -> None:
    run = _resolved(study, arguments)
    from humanline.generation.samples import generate

    generate(run)


def _score(study: Study, arguments) -> None:
    run = _resolved(study, arguments)
    from humanline.scoring.score import score

    score(run)


def _score_annotations(study: None, arguments) -> None:
    from humanline.tables.annotations import scored

    print(scored(arguments.file, replicates=arguments.replicates, as_json=arguments.json))


def _judge_cost(study: Study, arguments) -> None:
    from humanline.scoring import judge_cost

    tasks = {task: study.scale.tasks[task] for task in study.scored_by("judge")}
    print(judge_cost.describe(study.scale.scale, tasks, study.judged()))


def _table(study: Study, arguments) -> None:
    from humanline.report.tables import make_table

    make_table(study.table(arguments.table))


def _surprisal(study: Study, arguments) -> None:
    from humanline.analysis import surprisal

    _perceived(study, arguments)
    seed, known = arguments.seed, study.figure_seeds()
    if seed not in known:
        raise ConfigError(f"seed: {seed} is none of the figures; use one of {known}")
    surprisal.make(study.perceived(seed), seed, study.paths.surprisals(seed))


def _predictors(study: Study, arguments) -> None:
    run = _resolved(study, arguments)
    from humanline.analysis import predictors

    predictors.measure(run)


def _map(study: Study, arguments) -> None:
    from humanline.analysis.map import make_map

    make_map(study.mapped(), study.paths.map, scale=study.scale.scale)


def _figures(study: Study, arguments) -> None:
    from humanline.analysis.figures import make_figures

    defaults = study.experiments.defaults[_perceived(study, arguments).task]
    bounds = defaults.log_eps_p, defaults.log_eps_r
    surprisals = {seed: study.paths.surprisals(seed) for seed in study.figure_seeds()}
    cells = study.experiments.perceived(next(iter(surprisals)))
    make_figures(surprisals, bounds, study.paths.figures, cells=cells, scale=study.scale.scale)


def _claims(study: Study, arguments) -> None:
    from humanline.report.claims import make_claims

    request = study.claims_request()
    if request is None:
        raise ConfigError(f"{arguments.config / 'claims.yaml'}: cannot be read; write the claims")
    make_claims(request)
    if study.pilot:
        from humanline.report.power import write_power

        planned, changes = study.planned(), request.pilot_changes
        write_power(request.claims, planned, study.pilot, study.paths.tables, changes=changes)


def _report(study: Study, arguments) -> None:
    from humanline.report.page.origin import not_made
    from humanline.report.page.page import make_page
    from humanline.study.runs.on_disk import on_disk

    request = on_disk(study.page_request(arguments.config))
    make_page(request)
    print(request.paths.page, *not_made(request), sep="\n")


def _decide(study: Study, arguments) -> None:
    from humanline.cli.decide import decide

    decide(lambda: _study(arguments), arguments.minutes, arguments.cores)


def _scores(study: Study, arguments) -> None:
    from humanline.report.scores import make_scores

    make_scores([study.resolve(cell) for cell in study.evaluated("all")], study.paths)


def _tune(study: Study, arguments) -> None:
    from humanline.tables.tune import best_rates, choose_learning_rates

    runs = [study.resolve(cell) for cell in study.evaluated("tune")]
    runs += [study.resolve(cell) for cell in study.wider(best_rates(runs))]
    seeds = study.scale.seeds.tune
    choose_learning_rates(runs, study.paths.tune, seeds=seeds, scale=study.scale.scale)


def _power(study: Study, arguments) -> None:
    from humanline.report.power import make_power

    make_power(study.power_request())


def _plan(study: Study, arguments) -> None:
    from humanline.cli import plan

    print(plan.describe(study))


def _check(study: Study, arguments) -> None:
    cells = study.all_cells()
    print(f"{study.scale.scale}: {len(cells)} cells, {len(study.experiments.tables)} tables; valid")


def _status(study: None, arguments) -> None:
    from humanline.cli.progress.status import describe

    print(describe())


def _list(study: None, arguments) -> None:
    from humanline.cli.list import describe, rows

    found = rows(arguments.kind, arguments.config, lambda: _study(arguments))
    text = json.dumps(found, indent=1, ensure_ascii=False) if arguments.json else describe(found)
    print(text, flush=True)


def _compare(study: None, arguments) -> int:
    from humanline.report.compare.page import compare
    from humanline.study.words import cell_words

    def words(scale: str) -> dict[str, str]:
        try:
            cells = _study(argparse.Namespace(**vars(arguments) | {"scale": scale})).all_cells()
        except ConfigError:  # the configuration has no such scale
            return {}
        return {cell.variant: cell_words(cell) for cell in cells}

    return compare(
        arguments.a,
        arguments.b,
        results=arguments.results,
        scale=arguments.scale,
        words=words,
        output=arguments.output,
    )


def _schema(study: None, arguments) -> None:
    from humanline.files.json_files import write_json

    for name, schema in schemas().items():
        write_json(arguments.folder / name, schema)


def _recipe(study: None, arguments) -> None:
    from humanline.training.recipes import recipe

    recipe.run(arguments.file, arguments.overrides)


def _init(study: None, arguments) -> None:
    from humanline.cli.install.starter import write

    print(write(arguments.folder))


def _worker(study: None, arguments) -> None:
    from humanline.cli.local.worker import serve, warm_up

    warm_up(arguments.study)
    serve(arguments.socket, main)


def _perceived(study: Study, arguments) -> ImpliedCapacity:
    """Return the models of the figures, or raise a `ConfigError`."""
    if (found := study.experiments.implied_capacity) is None:
        raise ConfigError(
            f"{arguments.config / 'experiments.yaml'}: implied_capacity: missing, but the figures "
            "show it; add it"
        )
    return found


def _resolved(study: Study, arguments) -> Run:
    return study.run(arguments.task, arguments.run_name)
