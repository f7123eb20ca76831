# The study that the configuration describes, and the paths of its files. No rules here.


def refuse(fault):
    # Exit with one line instead of a traceback through Snakemake.
    sys.exit(f"humanline: error: {ConfigError(fault)}")  # it makes one line of any text


MINUTES = config.get("minutes", 60)
if unknown := set(config) - {"scale", "config_directory", "results", "minutes"}:
    refuse(
        f"--config: {min(map(str, unknown))}: unknown key; use scale, config_directory, results or "
        "minutes"
    )
is_time = isinstance(MINUTES, int | float) and not isinstance(MINUTES, bool)
if not is_time or not 0 < MINUTES < 1e6:
    refuse(f"--config: minutes: {MINUTES!r} is no time; give a number above 0")
for key, value in config.items():
    if key == "minutes":
        continue
    if not isinstance(value, str) or not value:
        refuse(f"--config: {key}: {value!r} is no text; give another name")
    # Snakemake reads `results=a #1` as YAML, so a part of it as a comment.
    typed = [word[len(key) + 1 :] for word in sys.argv if word.startswith(f"{key}=")]
    if typed and typed[-1] != value and typed[-1].strip()[:1] not in ("'", '"'):
        refuse(
            f"--config: {key}: {typed[-1]!r} is {value!r} to Snakemake, which reads YAML there; "
            "use another name, or quote it twice"
        )

SCALE = config.get("scale", "laptop")
CONFIG = Path(config.get("config_directory", "workflow/config"))
RESULTS_ROOT = Path(config.get("results", "results"))

if not re.fullmatch(r"\w[\w.-]*", SCALE):
    refuse(
        f"--config: scale: {SCALE!r} is not the name of a scale; name a file of {CONFIG}"
    )
if re.search("[{}]", str(RESULTS_ROOT)):
    refuse(
        f"--config: results: {str(RESULTS_ROOT)!r} has braces, which Snakemake cannot have in a "
        "path; use another folder"
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
    draw=r"all|s\d+",
    pretrained=r"[0-9a-f]{12}",
    task="|".join(map(re.escape, STUDY.scale.tasks)),
    base=r"base(-[a-z][a-z0-9_]*)?-s\d+",
    source=r"base(-[a-z][a-z0-9_]*)?-s\d+",
    run=r"[a-z][^/]*-s\d+",
    seed=r"\d+",


os.environ.update(
    # Rules call this interpreter, even if its environment is not activated. It is an environment
    # variable, so that moving the installation reruns nothing.
    HUMANLINE_PYTHON=sys.executable,
    # The miniature has many short-lived tensors. By default glibc returns their memory to the
    # system each time, which is slow. It makes no difference for real models.
    MALLOC_MMAP_THRESHOLD_="4294967296",
    MALLOC_TRIM_THRESHOLD_="68719476736",
    MALLOC_TOP_PAD_="268435456",
)


# The image of the container that jobs run in, if they do.
IMAGE = "container/humanline.sif"
IN_CONTAINER = "apptainer" in map(str, workflow.deployment_settings.deployment_method)
if IN_CONTAINER:
    from humanline.cli.local import containers

    try:
        IMAGE = containers.image(Path(workflow.basedir))
        containers.enter([RESULTS_ROOT, CONFIG])
    except ConfigError as error:
        refuse(error)


def require_container():
    """Refuse to start jobs without the image that they would run in."""
    try:
        containers.require(IMAGE, [RESULTS_ROOT])
    except ConfigError as error:
        refuse(error)


envvars:
    "HUMANLINE_PYTHON",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",


def command(arguments, log="--log={log:q}"):
    """Build the shell command of a rule: one `humanline` command for this scale, with its log.

    Quote the job's values in `arguments` by `:q`.
    """
    options = {"scale": SCALE, "config": CONFIG, "results": RESULTS_ROOT}
    # With `=`, because a value may begin with a dash. Braces are doubled, because Snakemake
    # replaces single ones.
    words = [shlex.quote(f"--{name}={value}") for name, value in options.items()]
    fixed = " ".join(words).replace("{", "{{").replace("}", "}}")
    return f'"$HUMANLINE_PYTHON" -m humanline {arguments} {fixed} {log}'


def code_of(name, run=None, **options):
    """The hash of a command's code; of the tasks, it has only the job's.

    Of a `run`, found by the wildcards, it has only its objective's trainer.
    """
    if run:
        return lambda wildcards: code_of_run(name, run(wildcards), **options)
    return lambda wildcards: code_hash(name, tasks=[wildcards.task], **options)


def resources_of(stage, run=None):
    """The resources of a stage's jobs; memory and time are multiplied by the attempt's number.

    With `run`, which finds a run by the wildcards, GPUs and memory are those for the run's model.
    """
    asked = STUDY.scale.resources_for(stage)

    def gpu(wildcards):
        return run(wildcards).gpus(stage) if run else asked.gpu

    def mem_mb(wildcards, attempt):
        return asked.memory(gpu(wildcards)) * attempt

    def runtime(wildcards, attempt):
        return asked.runtime * attempt

    return {"gpu": gpu, "mem_mb": mem_mb, "runtime": runtime}


def refuse_unpinned(jobs):
    """Refuse these jobs if one reads what is not pinned, or lacks PEFT; others do not count."""
    try:
        for job in jobs:
            named = job.wildcards_dict
            if "task" in named:
                name = named.get("base") or named.get("run")
                run = STUDY.run(named["task"], name) if name else None
                require_pinned(STUDY.scale, job.rule.name, named["task"], run)
    except ConfigError as error:
        refuse(error)


@cache  # a dry run may ask for a job's input more than once
def weigh_claims():
    """Refuse the claims if the pilot gives one too little power; warn if that is not known."""
    from humanline.tables.power import weigh

    try:
        for doubt in weigh(STUDY.design()) if STUDY.claims else []:
            print(f"humanline: warning: {doubt}", file=sys.stderr)
    except ConfigError as error:
        refuse(error)


SCORE_FILES = [
    f"{RESULTS}/tables/{name}"
    for name in ("scores.csv", "scores.provenance.json", "packages.cdx.json")
]
CLAIM_FILES = [
    f"{RESULTS}/tables/{name}"
    for name in (
        "claims.csv",
        "comparisons.csv",
        "claims.md",
        "claims.tex",
        "claims.provenance.json",
    )
    + ("power.csv", "power.md") * bool(STUDY.pilot)
]
# How long jobs take, for estimates of the time left: this scale's own runs, or the released one, or
# else another scale's.
RELEASED = Path(workflow.basedir, "results", "reference")
SECONDS_FILES = [RESULTS / "seconds.csv", RELEASED / SCALE / "seconds.csv"]
OTHER_SECONDS = RELEASED / "laptop" / "seconds.csv"


def run_of(wildcards):
    return STUDY.run(wildcards.task, wildcards.run)


def base_of(wildcards):
    return STUDY.run(wildcards.task, wildcards.base)


def pretrained_of(wildcards):
    """The file whose presence says that a base model's pretraining is done, if it has any."""
    folder = base_of(wildcards).pretrained
    return [folder / "config.json"] if folder else []


def hash_of(stage, run):
    """The hash of the options that a stage of a run reads."""
    return lambda wildcards: getattr(run(wildcards).hashes, stage)


def looks(wildcards):
    """The record of the claims' looks, if there is one."""
    if workflow.dryrun:  # it has no `onstart`
        weigh_claims()
    return [STUDY.paths.looks] if STUDY.taken.taken else []


def pilot_runs():
    """The runs that `power` measures; it is an error if there are none."""
    try:
        return STUDY.power_request().measured.runs
    except ConfigError as error:
        refuse(error)


def perceived(wildcards):
    return STUDY.perceived(int(wildcards.seed))


def files_of_tables(target):
    """The files of all tables of a target; it is an error if there are none."""

    def files(wildcards):
        if not (tables := STUDY.tables_of(target)):
            kind = "is exploratory" if target == "explore" else "reports"
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
            f"{RESULTS}/tables/{table}_curves.{suffix}"
            for suffix in ("csv", "svg", "pdf")
        ]
    return files


# What `snakemake --report` has, by suffix, and what its lists call that. It shows pictures and the
# page, and offers the others for download.
FILE_KINDS = {".html": "page", ".svg": "picture", ".csv": "CSV", ".md": "Markdown"}


def reported(files, category, caption):
    """Put files into `snakemake --report`, and leave those with other suffixes as they are.

    Args:
        files: the output of a rule; pictures go under Figures.
        category: the heading of the others.
        caption: the name of a file of workflow/report.
    """

    def flagged(file):
        path = Path(file)
        if path.suffix not in FILE_KINDS:
            return file
        result = category if caption == "page" else path.stem.replace("_", " ")
        return report(
            file,
            caption=f"../report/{caption}.rst",
            category="Figures" if path.suffix == ".svg" else category,
            # Together they are the key of a list: of two files with the same, it has one.
            labels={"Result": result, "File": FILE_KINDS[path.suffix]},
        )

    return list(map(flagged, files))


def wider_scores(wildcards):
    """The scores beyond the candidate rates that tuning needs, once it has those at them."""
    from humanline.tables.tune import best_rates

    # On a cluster each run's group is then a submission of its own. Where a graph has a checkpoint,
    # Snakemake makes groups twice, and joins again what it has joined: some jobs are submitted twice.
    workflow.group_settings = replace(workflow.group_settings, group_components={})
    checkpoints.first_rates.get()
    best = best_rates([STUDY.resolve(cell) for cell in STUDY.evaluated("tune")])
    return [STUDY.resolve(cell).paths.scored for cell in STUDY.wider(best)]
