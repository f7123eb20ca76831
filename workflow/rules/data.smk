# Prompts, base models, and the offline data that are sampled from them.


# It has no output, so it checks the cache each time: a cache can be emptied.
rule prefetch:
    log:
        f"{RESULTS}/logs/prefetch.log",
    message:
        "fetching from the hub; {log} lists the fingerprints, and sources that are not pinned"
    shell:
        command("prefetch")


rule data:
    output:
        expand(
            "{folder}/data/{{task}}/{{draw}}/{split}.jsonl",
            folder=RESULTS,
            split=SPLITS,
        ),
    log:
        f"{RESULTS}/logs/data/{{task}}-{{draw}}.log",
    resources:
        **resources_of("data"),
    params:
        config=lambda wildcards: data_hash(
            STUDY.scale.tasks[wildcards.task].data, wildcards.draw
        ),
        code=code_of("data", by_value=True),
    shell:
        command("data {wildcards.task:q} {wildcards.draw:q}")


# For all seeds; its name is the hash of its options.
rule pretrained:
    output:
        f"{RESULTS}/pretrained/{{task}}/{{pretrained}}/config.json",
    log:
        f"{RESULTS}/logs/pretrained/{{task}}-{{pretrained}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrained/{{task}}-{{pretrained}}.tsv"
    priority: 30
    resources:
        **resources_of("base_model"),
    params:
        code=code_of("pretrained", by_value=True),
    message:
        "training what base models start from ({wildcards.task})"
    shell:
        command("pretrained {wildcards.task:q} {wildcards.pretrained:q}")


rule base_model:
    input:
        pretrained_of,
    output:
        f"{BASE}/model/config.json",
    log:
        f"{RESULTS}/logs/base_model/{{task}}-{{base}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/base_model/{{task}}-{{base}}.tsv"
    priority: 20
    resources:
        **resources_of("base_model"),
    params:
        config=hash_of("base_model", base_of),
        code=code_of("base_model", by_value=True),
    message:
        "making {wildcards.base} ({wildcards.task})"
    shell:
        command("base_model {wildcards.task:q} {wildcards.base:q}")


rule offline:
    input:
        prompts=lambda wildcards: base_of(wildcards).paths.prompts,
        model=f"{BASE}/model/config.json",
    output:
        f"{RESULTS}/data/{{task}}/offline-{{base}}.jsonl",
    log:
        f"{RESULTS}/logs/offline/{{task}}-{{base}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/offline/{{task}}-{{base}}.tsv"
    priority: 20
    resources:
        **resources_of("offline", base_of),
    params:
        config=hash_of("offline", base_of),
        code=code_of("offline", by_value=True),
    message:
        "sampling and labelling offline data of {wildcards.base} ({wildcards.task})"
    shell:
        command("offline {wildcards.task:q} {wildcards.base:q}")


rule likelihood:
    input:
        data=f"{RESULTS}/data/{{task}}/offline-{{source}}.jsonl",
        model=f"{BASE}/model/config.json",
    output:
        f"{RESULTS}/data/{{task}}/likelihood-{{source}}-under-{{base}}.jsonl",
    log:
        f"{RESULTS}/logs/likelihood/{{task}}-{{source}}-under-{{base}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/likelihood/{{task}}-{{source}}-under-{{base}}.tsv"
    priority: 20
    resources:
        **resources_of("generate", base_of),
    params:
        config=hash_of("likelihood", base_of),
        code=code_of("likelihood", by_value=True),
    message:
        "scoring {wildcards.source}'s data under {wildcards.base} ({wildcards.task})"
    shell:
        command(
            "likelihood {wildcards.task:q} {wildcards.base:q} --of {wildcards.source:q}"
        )
