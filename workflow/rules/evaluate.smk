# Evaluation: sample with each run's model, then judge or grade.


rule generate:
    input:
        prompts=evaluation_prompts,
        model=lambda wildcards: trained_file(cell_of(wildcards)),
    output:
        f"{RUN}/samples.jsonl",
    log:
        f"{RESULTS}/logs/generate/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate/{{task}}/{{run}}.tsv"
    resources:
        **resources_of("generate", cell_of),
    params:
        config=lambda wildcards: STUDY.generate_hash(cell_of(wildcards)),
        code=code_hash("generate", by_value=True),
    message:
        "generating with {wildcards.run} ({wildcards.task})"
    shell:
        command("generate {wildcards.task:q} {wildcards.run:q}")


rule judge:
    input:
        f"{RUN}/samples.jsonl",
    output:
        f"{RUN}/annotations.json",
        f"{RUN}/metrics.json",
        f"{RUN}/curve.csv",
    log:
        f"{RESULTS}/logs/judge/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/judge/{{task}}/{{run}}.tsv"
    wildcard_constraints:
        task=scored_by("judge"),
    resources:
        **resources_of("score"),
        # Of an endpoint at a time: `--resources requests=32` bounds them over all jobs.
        requests=lambda wildcards: STUDY.requests(wildcards.task),
    params:
        config=lambda wildcards: STUDY.score_hash(wildcards.task),
        code=code_hash("score"),
    shell:
        command("score {wildcards.task:q} {wildcards.run:q}")


rule grade:
    input:
        f"{RUN}/samples.jsonl",
    output:
        f"{RUN}/grades.csv",
    log:
        f"{RESULTS}/logs/grade/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/grade/{{task}}/{{run}}.tsv"
    wildcard_constraints:
        task=scored_by("grade"),
    resources:
        **resources_of("score"),
    params:
        code=code_hash("score"),
    shell:
        command("score {wildcards.task:q} {wildcards.run:q}")


# Without output, as long as it may say something else each time.
rule judge_cost:
    input:
        # Lengths are those of samples.jsonl where there is one, and of prompts elsewhere.
        [
            STUDY.data(task, split)
            for task in STUDY.scored_by("judge")
            for split in SPLITS
        ],
    log:
        f"{RESULTS}/logs/judge_cost.log",
    shell:
        command("judge_cost") + " && cat -- {log:q}"
