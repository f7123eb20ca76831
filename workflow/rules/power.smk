# Power: what the claims can decide with their seeds, by a pilot on seeds that no table reports.


rule power:
    input:
        scores=lambda wildcards: [run.paths.scored for run in pilot_runs()],
        runs=lambda wildcards: [run.paths.made for run in pilot_runs()],
    output:
        page=f"{RESULTS}/power/power.md",
        table=f"{RESULTS}/power/power.csv",
        pilot=f"{RESULTS}/power/pilot.yaml",
    log:
        f"{RESULTS}/logs/power.log",
    params:
        claims=lambda wildcards: STUDY.claims and STUDY.claims.model_dump_json(),
        seeds=lambda wildcards: STUDY.scale.seeds.model_dump_json(),
        code=code_hash("power", tasks=STUDY.scale.tasks),
    shell:
        command("power") + " && cat -- {output.page:q}"
