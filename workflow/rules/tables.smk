# Tables: one target per table of experiments.yaml, named table_<name>.

CLAIM_RUNS = STUDY.compared().runs if STUDY.claims else []

for table in map(STUDY.table, STUDY.experiments.tables):

    rule:
        name:
            f"table_{table.name}"
        input:
            scores=[STUDY.score_file(run.cell) for run in table.runs],
            runs=[run.paths.made for run in table.runs],
            predictors=[run.paths.predictors for run in table.measured],
        output:
            table_files(table.name),
        log:
            f"{RESULTS}/logs/tables/{table.name}.log",
        resources:
            **resources_of("table"),
        params:
            table=table.name,
            # All that a table is asked to be: captions and views are part of it.
            config=lambda wildcards, table=table: table.hash,
            code=code_hash("table"),
        shell:
            command("table {params.table:q}")


rule claims:
    input:
        scores=[STUDY.score_file(run.cell) for run in CLAIM_RUNS],
        runs=[run.paths.made for run in CLAIM_RUNS],
    output:
        CLAIM_FILES,
    log:
        f"{RESULTS}/logs/tables/claims.log",
    resources:
        **resources_of("table"),
    params:
        claims=STUDY.claims and STUDY.claims.model_dump_json(),
        code=code_hash("ledger"),
    shell:
        command("ledger")


rule learning_rates:
    input:
        [STUDY.score_file(cell) for cell in STUDY.evaluated("tune")],
    output:
        f"{RESULTS}/tuning/learning_rates.yaml",
        f"{RESULTS}/tuning/scores.csv",
    log:
        f"{RESULTS}/logs/tuning.log",
    resources:
        **resources_of("table"),
    params:
        code=code_hash("tuning"),
    shell:
        command("tuning")
