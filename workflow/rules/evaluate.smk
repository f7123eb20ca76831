# Evaluation: sample with each run's model, then judge or grade; each task has its own scoring rule.


rule generate:
    input:
        prompts=lambda wildcards: run_of(wildcards).paths.evaluation_prompts,
        model=lambda wildcards: run_of(wildcards).paths.made,
    output:
        f"{RUN}/samples.jsonl",
    log:
        f"{RESULTS}/logs/generate/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate/{{task}}/{{run}}.tsv"
    # Before further runs are trained: a workflow that is stopped then has scores of those it has.
    priority: 15
    resources:
        **resources_of("generate", run_of),
    params:
        config=hash_of("generate", run_of),
        code=code_of("generate", by_value=True),
    message:
        "generating with {wildcards.run} ({wildcards.task})"
    shell:
        command("generate {wildcards.task:q} {wildcards.run:q}")


for task in STUDY.scale.tasks:

    rule:
        name:
            score_rule(task)
        input:
            f"{RESULTS}/runs/{task}/{{run}}/samples.jsonl",
        output:
            [f"{RESULTS}/runs/{task}/{{run}}/{file}" for file in scoring_of(task).files],
        log:
            f"{RESULTS}/logs/score/{task}/{{run}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/score/{task}/{{run}}.tsv"
        priority: 15
        group:
            "runs"
        resources:
            **resources_of("score"),
            # Requests at a time: `--resources requests=32` limits them over all jobs.
            requests=STUDY.scale.tasks[task].requests,
        params:
            task=task,
            config=score_hash(STUDY.scale.tasks[task].judge),
            code=code_hash("score", tasks=[task]),
        shell:
            command("score {params.task:q} {wildcards.run:q}")


# It has no output, because it may print something else each time.
rule judge_cost:
    input:
        # Lengths come from samples.jsonl if it exists, else from the prompts of the run's seed. A
        # judge without a price needs neither.
        lambda wildcards: {
            run.paths.evaluation_prompts
            for runs in STUDY.judged().values()
            for run in runs
            if hasattr(run.judge, "price")
        },
    log:
        f"{RESULTS}/logs/judge_cost.log",
    shell:
        command("judge_cost") + " && cat -- {log:q}"
