"""`humanline init`: write the workflow's files into a folder of one's own."""

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from humanline.files.validation import ConfigError

PACKAGE = Path(__file__).parents[2]
# What `humanline compare` compares a run with.
REFERENCES = tuple(f"results/reference/{scale}/tables" for scale in ("laptop", "workstation_cpu"))
FILES = ("Snakefile", "workflow", "profiles", "recipes", *REFERENCES)
REPOSITORY = "https://github.com/humanline/humanline"
SUITE = "pip install 'humanline[suite]'"

_IGNORED = "results/\n.snakemake/\n"
_README = """\
# A study with humanline {version}

`humanline init` wrote this folder: the workflow of the paper's study, to change into your own. Its
rules call the installed package, so keep the version that wrote them:

    pip install 'humanline[suite]=={version}'
    snakemake --cores all table_first_taste --config scale=smoke  # in minutes, meaningless
    snakemake --cores all table_first_taste                       # the laptop's scale
    snakemake -n --quiet rules                                    # all jobs of the claims, counted
    humanline compare results/laptop                              # with the run that is shipped

| path | what is there |
| --- | --- |
| `workflow/config/SCALE.yaml` | models, data, seeds, resources: start with `extends: laptop` |
| `workflow/config/experiments.yaml` | cells and tables: add a row, and it is trained |
| `workflow/config/claims.yaml` | the paper's claims as tests: write your own |
| `Snakefile`, `workflow/rules` | the order of the stages |
| `workflow/profiles`, `profiles` | options of `snakemake` on a cluster, and here |
| `recipes` | one-file trainings: `humanline recipe FILE` |
| `results/reference` | tables of the shipped runs; your results will be in `results/SCALE` |

`humanline check` validates a change, and `humanline list` shows what there is.
{repository}/blob/main/docs/extending.md has walks: a row, data, a
model, an objective, a task, a judge. Provenance files name the version of humanline; your changes
are only in this folder, so keep it in a repository.
"""


def source() -> Path:
    """Find the folder of the workflow's files: in a wheel, or at the root of a clone.

    Raises:
        ConfigError: if the package lies in neither.
    """
    for folder in (PACKAGE / "starter", PACKAGE.parent):
        if (folder / "Snakefile").is_file():
            return folder
    raise ConfigError(
        f"{PACKAGE}: the workflow's files are not here; install the package again, or clone "
        f"{REPOSITORY}"
    )


def write(folder: Path) -> str:
    """Write a ready workflow into a folder; its files appear once all of them are written.

    Returns:
        A line that says so.

    Raises:
        ConfigError: if the folder has files other than hidden ones, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or _has_files(folder)):
        what = "has files" if folder.is_dir() else "is a file"
        raise ConfigError(f"{folder}: it {what}; name a folder that is new or empty")
    own = source()
    folder.mkdir(parents=True, exist_ok=True)
    # Inside it, so that `humanline init .` replaces no folder in which a shell stands.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".humanline-") as beside:
        for name in FILES:
            if (own / name).is_dir():
                ignored = shutil.ignore_patterns(".*", "__pycache__")
                shutil.copytree(own / name, Path(beside, name), ignore=ignored)
            else:
                shutil.copyfile(own / name, Path(beside, name))
        told = _README.format(version=version("humanline"), repository=REPOSITORY)
        Path(beside, "README.md").write_text(told, encoding="utf-8")
        Path(beside, ".gitignore").write_text(_IGNORED, encoding="utf-8")
        for path in Path(beside).iterdir():
            if path.name != ".gitignore" or not (folder / path.name).exists():  # one's own stays
                os.replace(path, folder / path.name)
    return f"{folder}: a workflow is here now; its README.md says how to run it, with {SUITE}"


def _has_files(folder: Path) -> bool:
    """Whether it is in use: `.git` and `.venv` are often there before the study."""
    return any(not path.name.startswith(".") for path in folder.iterdir())
