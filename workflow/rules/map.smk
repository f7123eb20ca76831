# The map of exploratory runs on the tuning seeds, and what predicts how well they do.

MAP_FILES = [
    f"{RESULTS}/map/{name}" for name in ("map.csv", "correlations.csv", "map.svg")
]


rule predictors:
    input:
        model=lambda wildcards: trained_file(cell_of(wildcards)),
        base=lambda wildcards: base_model_file(cell_of(wildcards)),
        data=training_data,
    output:
        f"{RUN}/predictors.json",
    log:
        f"{RESULTS}/logs/predictors/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predictors/{{task}}/{{run}}.tsv"
    resources:
        **resources_of("generate", cell_of),
    params:
        config=lambda wildcards: STUDY.predictors_hash(wildcards.task),
        code=code_of("predictors", by_value=True),
    message:
        "measuring predictors of {wildcards.run} ({wildcards.task})"
    shell:
        command("predictors {wildcards.task:q} {wildcards.run:q}")


rule map:
    input:
        scores=[STUDY.score_file(cell) for pair in STUDY.mapped() for cell in pair],
        predictors=[
            STUDY.directory(cell) / "predictors.json" for cell, _ in STUDY.mapped()
        ],
    output:
        MAP_FILES,
    log:
        f"{RESULTS}/logs/map.log",
    resources:
        **resources_of("table"),
    params:
        code=code_hash("map", tasks={cell.task for cell, _ in STUDY.mapped()}),
    shell:
        command("map")
