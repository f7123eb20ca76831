# The page that shows all results: one file, for people.

PAGE = str(STUDY.paths.page)
PAGE_RUNS = STUDY.page_request(CONFIG).runs
# The page shows the map if `explore` has made it, but does not ask for its many runs.
MAP = Path(RESULTS, "map", "map.svg")


rule report:
    input:
        tables=files_of_tables("all"),
        scores=SCORE_FILES,
        claims=CLAIM_FILES if STUDY.claims else [],
        figures=FIGURES if STUDY.experiments.implied_capacity else [],
        scored=[run.paths.scored for run in PAGE_RUNS],
        runs=[run.paths.made for run in PAGE_RUNS],
    output:
        reported([PAGE], "All on one page", "page"),
    log:
        f"{RESULTS}/logs/report.log",
    resources:
        **resources_of("table"),
    params:
        # The page also has words of the configuration, and the map.
        config=content_hash(
            [
                STUDY.scale.model_dump(mode="json"),
                STUDY.experiments.model_dump(mode="json"),
                MAP.read_text() if MAP.exists() else None,
            ]
        ),
        code=code_hash("report", tasks={run.cell.task for run in PAGE_RUNS}),
    shell:
        command("report")
