# The study that the configuration describes, and where its files lie. No rules here.


def refuse(fault):
    # One line, not a traceback through Snakemake.
    sys.exit(f"humanline: error: {fault}")


if unknown := set(config) - {"scale", "config_directory", "results"}:
    refuse(
        f"--config: {sorted(unknown)[0]}: unknown key; use scale, config_directory or results"
    )
for key, value in config.items():
    if not isinstance(value, str) or not value:
        refuse(f"--config: {key}: {value!r} is no text; give another name")

SCALE = config.get("scale", "laptop")
CONFIG = Path(config.get("config_directory", "workflow/config"))
RESULTS_ROOT = Path(config.get("results", "results"))

if not re.fullmatch(r"\w[\w.-]*", SCALE):
    refuse(
        f"--config: scale: {SCALE!r} is not the name of a scale; name a file of {CONFIG}"
    )
if re.search(r"[{}\x00-\x1f]", str(RESULTS_ROOT)):
    refuse(
        f"--config: results: {str(RESULTS_ROOT)!r} has braces or control characters, which "
        "Snakemake cannot have in a path; use another folder"
    )

try:
    STUDY = load_study(
        CONFIG / f"{SCALE}.yaml", CONFIG / "experiments.yaml", RESULTS_ROOT
    )
except ConfigError as error:
    refuse(error)

RESULTS = STUDY.paths.results
RUN = f"{RESULTS}/runs/{{task}}/{{run}}"
BASE = f"{RESULTS}/runs/{{task}}/{{base}}"


wildcard_constraints:
    task="|".join(map(re.escape, STUDY.scale.tasks)),
    base=r"base(-[a-z][a-z0-9_]*)?-s\d+",
    source=r"base(-[a-z][a-z0-9_]*)?-s\d+",
    run=r"[a-z][^/]*-s\d+",


os.environ.update(
    # Rules call this interpreter, whether or not its environment is activated. It travels in the
    # environment, so that moving the installation reruns nothing.
    HUMANLINE_PYTHON=sys.executable,
    # The miniature's tensors are many and short-lived, and glibc would hand their memory back to
    # the system each time. A real model's tensors do not care.
    MALLOC_MMAP_THRESHOLD_="4294967296",
    MALLOC_TRIM_THRESHOLD_="68719476736",
    MALLOC_TOP_PAD_="268435456",
)


envvars:
    "HUMANLINE_PYTHON",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",


def command(arguments, log="--log={log:q}"):
    """The shell command of a rule: one `humanline` command for this scale, with its log.

    What `arguments` takes of a job is quoted by `:q`.
    """
    options = {"scale": SCALE, "config": CONFIG, "results": RESULTS_ROOT}
    # With `=`, for a value may begin with a dash; and Snakemake has a use for single braces.
    words = [shlex.quote(f"--{name}={value}") for name, value in options.items()]
    fixed = " ".join(words).replace("{", "{{").replace("}", "}}")
    return f'"$HUMANLINE_PYTHON" -m humanline {arguments} {fixed} {log}'


def code_of(name, run=None, **options):
    """The hash of a command's code, with that of the job's task and of no other.

    Of a `run`, found by the wildcards, with that of its objective and of no other.
    """
    if run:
        return lambda wildcards: code_of_run(name, run(wildcards), **options)
    return lambda wildcards: code_hash(name, tasks=[wildcards.task], **options)


def resources_of(stage, run=None):
    """What a stage's jobs ask for; at a retry that much more memory and time.

    Of a `run`, found by the wildcards, as many GPUs as its model takes, and each as much memory.
    """
    asked = STUDY.scale.asked(stage)

    def gpu(wildcards):
        return run(wildcards).gpus(stage) if run else asked.gpu

    def mem_mb(wildcards, attempt):
        return asked.memory(gpu(wildcards)) * attempt

    def runtime(wildcards, attempt):
        return asked.runtime * attempt

    return {"gpu": gpu, "mem_mb": mem_mb, "runtime": runtime}


def refuse_unpinned(jobs):
    """Before any of these jobs runs: what others would read may be pinned later."""
    try:
        for job in jobs:
            named = job.wildcards_dict
            if "task" in named:
                name = named.get("base") or named.get("run")
                run = STUDY.run(named["task"], name) if name else None
                require_pinned(STUDY.scale, job.rule.name, named["task"], run)
    except ConfigError as error:
        refuse(error)


CLAIM_FILES = [
    f"{RESULTS}/tables/{name}"
    for name in ("claims.csv", "comparisons.csv", "claims.md", "claims.provenance.json")
]


def run_of(wildcards):
    return STUDY.run(wildcards.task, wildcards.run)


def base_of(wildcards):
    return STUDY.run(wildcards.task, wildcards.base)


def hash_of(stage, run):
    """What a stage's result of a run depends on besides its input files and its code."""
    return lambda wildcards: getattr(run(wildcards).hashes, stage)


def perceived(wildcards):
    return STUDY.perceived(int(wildcards.seed))


def files_of_tables(exploratory):
    """Of all tables that report, or that explore; if there are none, a target has nothing to do."""

    def files(wildcards):
        if not (tables := STUDY.tables(exploratory=exploratory)):
            kind = "exploratory" if exploratory else "but exploratory ones"
            refuse(
                f"{CONFIG}/experiments.yaml: tables: none {kind}; add one, or name another target"
            )
        return [file for table in tables for file in table_files(table)]

    return files


def table_files(table):
    suffixes = ["csv", "md", "tex", "provenance.json"]
    files = [f"{RESULTS}/tables/{table}.{suffix}" for suffix in suffixes]
    if STUDY.experiments.tables[table].has_curves:
        files += [
            f"{RESULTS}/tables/{table}_curves.{suffix}" for suffix in ("csv", "svg")
        ]
    return files
