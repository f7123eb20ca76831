# Training: one job per cell and seed.


rule train:
    input:
        data=training_data,
        model=lambda wildcards: base_model_file(cell_of(wildcards)),
    output:
        f"{RUN}/train.json",
        f"{RUN}/metrics.csv",
        f"{RUN}/model/config.json",
    params:
        manifest=lambda wildcards: STUDY.run_hash(cell_of(wildcards)),
    wildcard_constraints:
        run=r"(?!base-)[a-z][^/]*-s\d+",
    log:
        f"{RESULTS}/logs/train/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{task}}/{{run}}.tsv"
    priority: 10
    resources:
        **STUDY.resources("train"),
    message:
        "training {wildcards.run} ({wildcards.task})"
    shell:
        "{HUMANLINE} train {wildcards.task} {wildcards.run} {OPTIONS} --log {log}"
