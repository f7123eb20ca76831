# Tables: one target per table of experiments.yaml, named table_<name>.

TABLE_MODULES = [
    f"{name}.py"
    for name in (
        "costs",
        "estimates",
        "length_control",
        "plots",
        "records",
        "reporting",
        "statistics",
        "sweeps",
        "table_formats",
        "tables",
    )
]

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
            scores=[score_file(cell) for cell in STUDY.report_cells(table)],
            runs=[trained_file(cell) for cell in STUDY.report_cells(table)],
            predictors=predictor_files(table),
        output:
            table_files(table),
        log:
            f"{RESULTS}/logs/tables/{table}.log",
        resources:
            **resources_of("table"),
        params:
            table=table,
            # Captions and views are part of what a table is.
            spec=STUDY.experiments.tables[table].model_dump_json(),
            replicates=STUDY.scale.bootstrap_replicates,
            collapse_below=STUDY.experiments.collapse_below,
            code=code_hash(*TABLE_MODULES),
        shell:
            command("table {params.table}")


rule claims:
    input:
        scores=[score_file(cell) for cell in CLAIM_CELLS],
        runs=[trained_file(cell) for cell in CLAIM_CELLS],
    output:
        CLAIM_FILES,
    log:
        f"{RESULTS}/logs/tables/claims.log",
    resources:
        **resources_of("table"),
    params:
        claims=STUDY.claims and STUDY.claims.model_dump_json(),
        code=code_hash("claims.py", "ledger.py", *TABLE_MODULES),
    shell:
        command("ledger")


rule learning_rates:
    input:
        [
            score_file(cell)
            for task in STUDY.scale.tasks
            for cell in STUDY.tune_cells(task)
        ],
    output:
        f"{RESULTS}/tuning/learning_rates.yaml",
        f"{RESULTS}/tuning/scores.csv",
    log:
        f"{RESULTS}/logs/tuning.log",
    resources:
        **resources_of("table"),
    params:
        code=code_hash("tuning.py"),
    shell:
        command("tuning")
