# Training: one job per cell and seed.


rule train:
    input:
        data=lambda wildcards: run_of(wildcards).paths.trained_on,
        model=lambda wildcards: run_of(wildcards).paths.base_made,
    output:
        f"{RUN}/train.json",
        f"{RUN}/metrics.csv",
        f"{RUN}/model/config.json",
    log:
        f"{RESULTS}/logs/train/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{task}}/{{run}}.tsv"
    wildcard_constraints:
        run=r"(?!base-)[a-z][^/]*-s\d+",
    priority: 10
    resources:
        **resources_of("train", run_of),
        # `accelerate launch` starts all processes on one machine.
        nodes=1,
    params:
        manifest=hash_of("train", run_of),
        code=code_of("train", by_value=True, run=run_of),
    message:
        "training {wildcards.run} ({wildcards.task})"
    shell:
        # One process for each GPU of the job, even if `--set-resources` changes their number.
        command(
            "train {wildcards.task:q} {wildcards.run:q} --devices {resources.gpu:q}"
        )
