# Prompts, base models, and what is sampled from them once.


rule data:
    output:
        expand("{folder}/data/{{task}}/{split}.jsonl", folder=RESULTS, split=SPLITS),
    log:
        f"{RESULTS}/logs/data/{{task}}.log",
    resources:
        **STUDY.resources("data"),
    params:
        config=lambda wildcards: STUDY.data_hash(wildcards.task),
    shell:
        command("data {wildcards.task}")


rule base_model:
    input:
        expand("{folder}/data/{{task}}/{split}.jsonl", folder=RESULTS, split=SPLITS),
    output:
        f"{BASE}/model/config.json",
    log:
        f"{RESULTS}/logs/base_model/{{task}}-s{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/base_model/{{task}}-s{{seed}}.tsv"
    priority: 20
    resources:
        **STUDY.resources("base_model"),
    params:
        config=lambda wildcards: STUDY.base_hash(wildcards.task),
    message:
        "making the base model of {wildcards.task}, seed {wildcards.seed}"
    shell:
        command("base-model {wildcards.task} --seed {wildcards.seed}")


rule offline:
    input:
        prompts=f"{RESULTS}/data/{{task}}/train.jsonl",
        model=f"{BASE}/model/config.json",
    output:
        f"{RESULTS}/data/{{task}}/offline-s{{seed}}.jsonl",
    log:
        f"{RESULTS}/logs/offline/{{task}}-s{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/offline/{{task}}-s{{seed}}.tsv"
    priority: 20
    resources:
        **STUDY.resources("offline"),
    params:
        config=lambda wildcards: STUDY.offline_hash(wildcards.task),
    message:
        "sampling and labelling offline data of {wildcards.task}, seed {wildcards.seed}"
    shell:
        command("offline {wildcards.task} --seed {wildcards.seed}")
