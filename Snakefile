# One directed acyclic graph that makes the paper's tables from nothing.
#
#   snakemake --cores all                                  claims and their tables, laptop scale
#   snakemake --cores all report                           the page that shows all of them
#   snakemake --cores all all_tables                       tables that no claim needs, too
#   snakemake --cores all table_math_reasoning             one table
#   snakemake --cores all --config scale=smoke             everything, tiny, in minutes
#   snakemake --cores all tune                             search the learning rates again
#   snakemake --cores all power                            what the claims can decide, by a pilot
#   snakemake --cores all decide --config minutes=60       add seeds to undecided claims
#   snakemake --cores all explore                          exploratory tables, on the tuning seeds
#   snakemake --cores 1 prefetch --config scale=paper      fetch data and models ahead of time
#   snakemake --cores 1 judge_cost --config scale=paper    the cost of an endpoint's judgements
#   snakemake plan --config scale=paper                    jobs, time, memory, dollars and disk
#   snakemake --workflow-profile workflow/profiles/slurm   everything, on a cluster; see also slurm_short
#   snakemake --report report.zip                          Snakemake's own report on what was made

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from snakemake.utils import min_version

from humanline.files.code_hashes import code_hash
from humanline.files.validation import ConfigError, known_names
from humanline.study.experiments import SPLITS
from humanline.study.runs.hashes import (
    code_of_run,
    content_hash,
    data_hash,
    sampling_hash,
    score_hash,
)
from humanline.study.runs.pins import require_pinned
from humanline.study.study import load_study
from humanline.study.tasks import score_rule, scoring_of

min_version("9.0")


include: "workflow/rules/common.smk"


# `bash container/build apptainer` makes it. It is used with --software-deployment-method apptainer.
container: IMAGE


report: "workflow/report/workflow.rst"


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/power.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/map.smk"
include: "workflow/rules/report.smk"


if workflow.is_main_process:  # jobs read this file too, and must not do this
    from humanline.cli.local import lifeline, run_locks
    from humanline.cli.progress.short import shorten

    if not workflow.output_settings.verbose:
        shorten()
    if "--lint" not in sys.argv:  # it writes nothing
        try:
            run_locks.require_room(Path(".snakemake"))
        except ConfigError as error:
            refuse(error)
        run_locks.keep_folder(Path(".snakemake"))
    run_locks.guard()
    if run_locks.waiting_workflow() is None:
        run_locks.announce()
    else:  # a command of that workflow waits for this one; see `decide`
        lifeline.watch()


localrules:
    all,
    all_tables,
    decide,
    explore,
    judge_cost,
    plan,
    power,
    prefetch,


onstart:
    from humanline.cli.local import lifeline, run_locks, worker
    from humanline.cli.progress.view import watch

    jobs = list(workflow.dag.needrun_jobs())
    refuse_unpinned(jobs)
    if IN_CONTAINER:
        require_container()
    if any(job.rule.name == "claims" for job in jobs):
        weigh_claims()
    names = {job.rule.name for job in jobs}
    if names != {"plan"}:
        tell = watch(workflow, STUDY, jobs, SECONDS_FILES, OTHER_SECONDS)
        # Only for local jobs: a job on another machine or in another cgroup cannot be a child of
        # this process.
        if workflow.local_exec:
            lifeline.hold(Path(".snakemake"))
            lifeline.stop_jobs_on_signals()
            # A job in a container is no child of this process, and one alone starts sooner.
            if not IN_CONTAINER and names - {"judge_cost", "prefetch"}:
                worker.start(
                    CONFIG / f"{SCALE}.yaml",
                    CONFIG / "experiments.yaml",
                    RESULTS_ROOT,
                    tell=tell,
                )
            held = Path(".snakemake", run_locks.JOBS).absolute()
            os.environ[run_locks.VARIABLE] = str(held)
            # Snakemake 9 limits jobs per second by default. With a limit, each scheduling pass
            # starts another pass a second later, and each finished job adds one: in the end there
            # are hundreds of passes.
            workflow.scheduler.job_rate_limiter = None
        else:
            run_locks.keep_locks(Path(".snakemake"))


rule all:
    default_target: True
    input:
        files_of_tables("all"),
        SCORE_FILES,
        CLAIM_FILES if STUDY.claims else [],
        FIGURES if STUDY.experiments.implied_capacity else [],
        PAGE,


rule all_tables:
    input:
        rules.all.input,
        files_of_tables("all_tables"),


rule explore:
    input:
        files_of_tables("explore"),
        MAP_FILES if STUDY.mapped() else [],


rule plan:
    log:
        f"{RESULTS}/logs/plan.md",
    shell:
        command("plan", log="| tee -- {log:q}")


include: "workflow/rules/targets.smk"
