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
    message:
        "generating with {wildcards.run} ({wildcards.task})"
    shell:
        command("generate {wildcards.task} {wildcards.run}")


rule judge:
    input:
        f"{RESULTS}/runs/instruction_following/{{run}}/samples.jsonl",
    output:
        f"{RESULTS}/runs/instruction_following/{{run}}/annotations.json",
        f"{RESULTS}/runs/instruction_following/{{run}}/metrics.json",
        f"{RESULTS}/runs/instruction_following/{{run}}/curve.csv",
    log:
        f"{RESULTS}/logs/judge/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/judge/{{run}}.tsv"
    resources:
        **resources_of("score"),
        # Of an endpoint at a time: `--resources requests=32` bounds them over all jobs.
        requests=getattr(
            STUDY.scale.tasks["instruction_following"].judge, "concurrency", 0
        ),
    params:
        config=STUDY.score_hash("instruction_following"),
        code=code_hash(
            "judging.py",
            "api_judge.py",
            "length_control.py",
            "data/wishes.py",
            "judges/local/configs.yaml",
            "judges/local/prompt.txt",
            "judges/openai/configs.yaml",
            "judges/openai/prompt.txt",
        ),
    shell:
        command("score instruction_following {wildcards.run}")


rule judge_cost:
    input:
        # Lengths are those of samples.jsonl where there is one, and of prompts elsewhere.
        expand(
            "{folder}/data/instruction_following/{split}.jsonl",
            folder=RESULTS,
            split=SPLITS,
        ),
    log:
        f"{RESULTS}/logs/judge_cost.log",
    shell:
        command("judge-cost") + " && cat {log}"


rule grade:
    input:
        f"{RESULTS}/runs/math_reasoning/{{run}}/samples.jsonl",
    output:
        f"{RESULTS}/runs/math_reasoning/{{run}}/grades.csv",
    log:
        f"{RESULTS}/logs/grade/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/grade/{{run}}.tsv"
    resources:
        **resources_of("score"),
    params:
        code=code_hash("grading.py"),
    shell:
        command("score math_reasoning {wildcards.run}")
