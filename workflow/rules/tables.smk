# Tables: one target per table of experiments.yaml, named table_<name>.

# By name, for a cell may be compared more than once.
CLAIM_CELLS = {
    (cell.task, cell.name): cell
    for comparison in STUDY.comparisons()
    for pair in STUDY.pairs(comparison)
    for cell in pair
}.values()

for table in STUDY.experiments.tables:

    rule:
        name:
            f"table_{table}"
        input:
            scores=[STUDY.score_file(cell) for cell in STUDY.report_cells(table)],
            runs=[trained_file(cell) for cell in STUDY.report_cells(table)],
            predictors=predictor_files(table),
        output:
            table_files(table),
        log:
            f"{RESULTS}/logs/table/{table}.log",
        resources:
            **resources_of("table"),
        params:
            table=table,
            config=table_hash(table),
            code=code_hash("table", tasks=STUDY.experiments.tables[table].tasks),
        shell:
            command("table {params.table:q}")


rule claims:
    input:
        scores=[STUDY.score_file(cell) for cell in CLAIM_CELLS],
        runs=[trained_file(cell) for cell in CLAIM_CELLS],
    output:
        CLAIM_FILES,
    log:
        f"{RESULTS}/logs/claims.log",
    resources:
        **resources_of("table"),
    params:
        claims=STUDY.claims and STUDY.claims.model_dump_json(),
        code=code_hash("claims", tasks={cell.task for cell in CLAIM_CELLS}),
    shell:
        command("claims")


rule tune:
    input:
        [
            STUDY.score_file(cell)
            for task in STUDY.scale.tasks
            for cell in STUDY.tune_cells(task)
        ],
    output:
        f"{RESULTS}/tune/learning_rates.yaml",
        f"{RESULTS}/tune/scores.csv",
    log:
        f"{RESULTS}/logs/tune.log",
    resources:
        **resources_of("table"),
    params:
        code=code_hash("tune", tasks=STUDY.scale.tasks),
    shell:
        command("tune")
