# What is asked for, checked before Snakemake looks for jobs. No rules here; it comes after all of them.


def asked_for():
    """What the command line of snakemake asks for; None if it was not started by one.

    Snakemake tells a Snakefile its targets only when it looks for jobs.
    """
    if "snakemake" not in Path(sys.argv[0]).absolute().parts[-2:]:
        return None
    from snakemake.cli import parse_args

    with contextlib.redirect_stderr(io.StringIO()):  # it names its profile, as before
        return parse_args(sys.argv[1:])[1]


def refuse_unknown(targets, rules=()):
    """Refuse a target that no rule makes, with the names that are like it.

    `rules` are names that stand for all jobs of a rule, as those after --until do.
    """
    known = {own.name: own for own in workflow.rules}
    for target in [*targets, *rules]:
        if target in known:
            if target in targets and known[target].has_wildcards():
                refuse(
                    f"target {target}: its rule makes one file of many; name the file, or a table"
                )
            continue
        if Path(target).exists() or any(
            own.is_producer(target) for own in known.values()
        ):
            continue
        typed = {name: own for name, own in known.items() if not own.has_wildcards()}
        refuse(
            f"target {target!r}: no rule has this name or makes such a file; use "
            f"{known_names(target, typed)}"
        )


def refuse_unwritable(folder):
    """Refuse a folder of results where nothing can be written, before any job is started."""
    try:
        first = next(
            own for own in (folder, *folder.absolute().parents) if own.exists()
        )
        with tempfile.TemporaryFile(dir=first):
            pass
    except OSError as error:
        refuse(
            f"--config: results: nothing can be written in {first} ({error.strerror}); name another"
        )


if workflow.is_main_process and (asked := asked_for()):
    refuse_unknown(asked.targets, [*asked.until, *asked.omit_from, *asked.forcerun])
    # `decide` runs this workflow again for the claims, with its own configuration.
    if "minutes" in config and "decide" not in asked.targets:
        waiting = run_locks.waiting_workflow()
        if waiting is None or waiting.process == os.getpid():
            refuse(
                "--config: minutes: only `snakemake decide` has a time limit; remove it, or name "
                "decide before --config"
            )
    if not asked.dryrun:
        refuse_unwritable(RESULTS)
