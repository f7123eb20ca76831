# Tables: one target per table of experiments.yaml, named table_<name>.

SCORED_RUNS = [STUDY.resolve(cell) for cell in STUDY.evaluated("all")]
CLAIM_RUNS = STUDY.claims_request().runs if STUDY.claims else []

for table in map(STUDY.table, STUDY.experiments.tables):

    rule:
        name:
            f"table_{table.name}"
        input:
            scores=[run.paths.scored for run in table.runs],
            runs=[run.paths.made for run in table.runs],
            predictors=[run.paths.predictors for run in table.measured],
        output:
            reported(
                table_files(table.name),
                "Exploration" if table.spec.exploratory else "Tables",
                "table",
            ),
        log:
            f"{RESULTS}/logs/table/{table.name}.log",
        resources:
            **resources_of("table"),
        params:
            table=table.name,
            # For the caption; by a function, because a text may have braces.
            description=lambda wildcards, table=table: table.spec.description,
            # It also contains captions and views.
            config=lambda wildcards, table=table: table.hash,
            code=code_hash("table", tasks=table.spec.tasks),
        shell:
            command("table {params.table:q}")


for table, reason in STUDY.left_out.items():

    rule:
        name:
            f"table_{table}"
        input:
            lambda wildcards, table=table, reason=reason: refuse(
                f"table {table}: not at scale {SCALE}: {reason}"
            ),


rule scores:
    input:
        scores=sorted({run.paths.scored for run in SCORED_RUNS}),
        runs=sorted({run.paths.made for run in SCORED_RUNS}),
    output:
        reported(SCORE_FILES, "Scores of all runs", "scores"),
    log:
        f"{RESULTS}/logs/scores.log",
    resources:
        **resources_of("table"),
    params:
        code=code_hash("scores", tasks={run.cell.task for run in SCORED_RUNS}),
    shell:
        command("scores")


rule claims:
    input:
        scores=[run.paths.scored for run in CLAIM_RUNS],
        runs=[run.paths.made for run in CLAIM_RUNS],
        looks=looks,
    output:
        reported(CLAIM_FILES, "Verdicts", "claims"),
    log:
        f"{RESULTS}/logs/claims.log",
    resources:
        **resources_of("table"),
    params:
        # By functions, because texts may have braces.
        claims=lambda wildcards: STUDY.claims and STUDY.claims.model_dump_json(),
        pilot=lambda wildcards: STUDY.pilot and STUDY.pilot.model_dump_json(),
        code=code_hash("claims", tasks={run.cell.task for run in CLAIM_RUNS}),
    shell:
        command("claims")


# It runs this workflow again, for the claims with more seeds. It has no output, because that may
# have gone further each time.
rule decide:
    input:
        CLAIM_FILES,
    log:
        f"{RESULTS}/logs/decide.log",
    container:
        lambda wildcards: None  # it starts the jobs, each in its container
    threads: lambda wildcards: workflow.cores  # not known without --cores, as on some clusters
    params:
        minutes=MINUTES,
    shell:
        command(
            "decide --minutes {params.minutes:q} --cores {threads:q}",
            log="| tee -- {log:q}",
        )


# Which runs are needed beyond the candidate rates depends on the scores at those.
checkpoint first_rates:
    input:
        [STUDY.resolve(cell).paths.scored for cell in STUDY.evaluated("tune")],
    output:
        touch(f"{RESULTS}/tune/first_rates_scored"),
    localrule: True


rule tune:
    input:
        rules.first_rates.output,
        wider_scores,
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
