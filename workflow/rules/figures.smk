# The figures of the theory.

FIGURES = [
    f"{RESULTS}/figures/{name}.{suffix}"
    for name in ("capacity", "perceived_weight", "implied_capacity")
    for suffix in ("csv", "svg", "pdf")
]


rule surprisal:
    input:
        prompts=lambda wildcards: perceived(wildcards)[
            "policy"
        ].paths.evaluation_prompts,
        models=lambda wildcards: [
            file
            for run in perceived(wildcards).values()
            for file in (run.paths.made, run.paths.base_made)
        ],
    output:
        f"{RESULTS}/figures/surprisals-s{{seed}}.csv",
    log:
        f"{RESULTS}/logs/surprisal/s{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/surprisal/s{{seed}}.tsv"
    resources:
        **resources_of("generate", lambda wildcards: perceived(wildcards)["policy"]),
    params:
        sampling=lambda wildcards: sampling_hash(
            perceived(wildcards)["policy"],
            STUDY.experiments.implied_capacity.model_dump(),
        ),
        code=code_hash("surprisal", by_value=True, tasks=STUDY.figure_tasks()),
    message:
        "scoring outputs for the figures, seed {wildcards.seed}"
    shell:
        command("surprisal {wildcards.seed:q}")


rule figures:
    input:
        [STUDY.paths.surprisals(seed) for seed in STUDY.figure_seeds()],
    output:
        reported(FIGURES, "Figures", "figures"),
    log:
        f"{RESULTS}/logs/figures.log",
    resources:
        **resources_of("table"),
    params:
        # The perceived weights are drawn for the bounds of the defaults.
        defaults=lambda wildcards: STUDY.experiments.model_dump_json(
            include={"defaults"}
        ),
        code=code_hash("figures"),
    shell:
        command("figures")
