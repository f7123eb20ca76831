# The map: scores of exploratory runs on the tuning seeds, against predictors of these scores.

MAP_FILES = [
    f"{RESULTS}/map/{name}"
    for name in ("map.csv", "correlations.csv", "map.svg", "map.pdf")
]


rule predictors:
    input:
        model=lambda wildcards: run_of(wildcards).paths.made,
        base=lambda wildcards: run_of(wildcards).paths.base_made,
        data=lambda wildcards: run_of(wildcards).paths.trained_on,
    output:
        f"{RUN}/predictors.json",
    log:
        f"{RESULTS}/logs/predictors/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predictors/{{task}}/{{run}}.tsv"
    resources:
        **resources_of("generate", run_of),
    params:
        config=hash_of("predictors", run_of),
        code=code_of("predictors", by_value=True),
    message:
        "measuring predictors of {wildcards.run} ({wildcards.task})"
    shell:
        command("predictors {wildcards.task:q} {wildcards.run:q}")


rule map:
    input:
        scores=[run.paths.scored for pair in STUDY.mapped() for run in pair],
        predictors=[run.paths.predictors for run, _ in STUDY.mapped()],
    output:
        reported(MAP_FILES, "Exploration", "map"),
    log:
        f"{RESULTS}/logs/map.log",
    resources:
        **resources_of("table"),
    params:
        code=code_hash("map", tasks={run.cell.task for run, _ in STUDY.mapped()}),
    shell:
        command("map")
