# Evaluation: sample with each run's model, then judge or grade.


rule generate:
    input:
        prompts=evaluation_prompts,
        model=lambda wildcards: trained_file(cell_of(wildcards)),
    output:
        f"{RUN}/samples.jsonl",
    params:
        config=lambda wildcards: STUDY.generate_hash(wildcards.task),
    log:
        f"{RESULTS}/logs/generate/{{task}}/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate/{{task}}/{{run}}.tsv"
    resources:
        **STUDY.resources("generate"),
    message:
        "generating with {wildcards.run} ({wildcards.task})"
    shell:
        "{HUMANLINE} generate {wildcards.task} {wildcards.run} {OPTIONS} --log {log}"


rule judge:
    input:
        f"{RESULTS}/runs/instruction_following/{{run}}/samples.jsonl",
    output:
        f"{RESULTS}/runs/instruction_following/{{run}}/annotations.json",
        f"{RESULTS}/runs/instruction_following/{{run}}/metrics.json",
    params:
        config=STUDY.score_hash("instruction_following"),
        code=code_hash("judging.py", "length_control.py", "data/wishes.py"),
    log:
        f"{RESULTS}/logs/judge/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/judge/{{run}}.tsv"
    resources:
        **STUDY.resources("score"),
    shell:
        "{HUMANLINE} score instruction_following {wildcards.run} {OPTIONS} --log {log}"


rule grade:
    input:
        f"{RESULTS}/runs/math_reasoning/{{run}}/samples.jsonl",
    output:
        f"{RESULTS}/runs/math_reasoning/{{run}}/grades.csv",
    params:
        code=code_hash("grading.py"),
    log:
        f"{RESULTS}/logs/grade/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/grade/{{run}}.tsv"
    resources:
        **STUDY.resources("score"),
    shell:
        "{HUMANLINE} score math_reasoning {wildcards.run} {OPTIONS} --log {log}"
