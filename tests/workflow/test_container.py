"""The container: its recipe, what jobs in it get and, where a builder is at hand, itself."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from humanline.cli.local import containers
from humanline.files.validation import ConfigError

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "container" / "Dockerfile").read_text()
BUILD = ROOT / "container" / "build"
ARGUMENTS = dict(re.findall(r"^ARG (\w+)=(.+)$", RECIPE, flags=re.M))
DATA = "data/instruction_following/s1/train.jsonl"
# Stands in for Apptainer. It runs the job with the environment of a container whose interpreter is
# this one, and records the call.
APPTAINER = f"""#!{sys.executable}
import json, os, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("apptainer version 1.4.5"))
assert sys.argv[1:3] == ["exec", "--home"], sys.argv
outside = dict(os.environ)
words = sys.argv[4:]
while words[0] == "--bind":  # Snakemake's own folders
    del words[:2]
image, shell, *command = words
inside = {{name: value for name, value in outside.items() if "APPTAINER" not in name}}
inside |= {{n[13:]: value for n, value in outside.items() if n.startswith("APPTAINERENV_")}}
inside["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), "/usr/bin", "/bin"])
names = ("HUMANLINE_PYTHON", "HUMANLINE_WORKER")
found = {{"image": image, "binds": outside["APPTAINER_BIND"], "home": sys.argv[3]}}
for name, environment in (("outside", outside), ("inside", inside)):
    found[name] = {{n: environment.get(n) for n in names}}
with open(os.environ["CALLS"], "a") as file:
    print(json.dumps(found), file=file)
os.execvpe(shell, [shell, *command], inside)
"""


def test_the_recipe_and_the_project_name_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (torch,) = (own for own in map(Requirement, project["dependencies"]) if own.name == "torch")
    (version,) = re.findall(r" torch==(\S+)$", RECIPE, flags=re.M)
    assert torch.specifier.contains(version)
    assert f"torch=={version}" in (ROOT / "README.md").read_text()
    assert re.fullmatch(r".+/python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", ARGUMENTS["BASE"])


def test_all_but_torch_comes_from_the_lock_by_its_hashes():
    installs = re.findall(r"\bpip install (.+)", RECIPE)
    assert len(installs) == 3
    locked, torch, ours = installs
    assert "--require-hashes --no-deps --requirement /opt/humanline/requirements.lock" in locked
    assert torch.startswith("--no-cache-dir --index-url ${TORCH_INDEX} torch==")
    assert "--no-deps --no-build-isolation --editable /opt/humanline" in ours


def test_an_unknown_builder_is_one_line():
    run = subprocess.run(["bash", BUILD, "cargo"], capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr == (
        "container/build: cargo builds no containers; install and name docker, podman, buildah or "
        "apptainer\n"
    )


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the workflow and an image, and a program `apptainer` on the search path."""
    folder = tmp_path / "checkout"
    for name in ("workflow", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "container").mkdir()
    (folder / "container" / "humanline.sif").touch()
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(APPTAINER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("APPTAINER_BIND", "/usr/share")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def snakemake(checkout: Path, results: Path) -> subprocess.CompletedProcess:
    words = [results / "smoke" / DATA, "--cores", "1", "--software-deployment-method", "apptainer"]
    words += ["--config", "scale=smoke", f"results={results}"]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *words], cwd=checkout, capture_output=True, text=True
    )


def test_a_job_in_a_container_has_its_interpreter_our_code_and_no_worker(checkout, tmp_path):
    results = tmp_path / "new" / "results"
    run = snakemake(checkout, results)
    assert run.returncode == 0, run.stderr
    assert (results / "smoke" / DATA).exists()
    (call,) = map(json.loads, (tmp_path / "calls").read_text().splitlines())
    assert call["image"] == "container/humanline.sif" and call["home"] == str(checkout)
    ours = ",".join(containers._code())
    assert ours.startswith(f"{ROOT}:/opt/humanline:ro")
    assert call["binds"] == f"/usr/share,{ours},{results}:{results}"
    assert call["outside"] == {"HUMANLINE_PYTHON": sys.executable, "HUMANLINE_WORKER": None}
    assert call["inside"] == {"HUMANLINE_PYTHON": "python3", "HUMANLINE_WORKER": ""}


def test_an_image_that_is_missing_is_one_line(checkout, tmp_path):
    (checkout / "container" / "humanline.sif").unlink()
    run = snakemake(checkout, tmp_path / "results")
    assert run.returncode != 0 and not (tmp_path / "calls").exists()
    assert (
        "humanline: error: container/humanline.sif: no such image; make it by `bash container/build"
        " apptainer` in a clone\n"
    ) in run.stderr


@pytest.mark.parametrize("name", ["a:b", "a,b", "a'b", 'a"b', "a$b", "a`b", "a\\b"])
def test_a_folder_that_apptainer_cannot_mount_is_one_line(name, tmp_path, monkeypatch):
    fault = "Apptainer mounts no folder with .+ in its name; rename it"
    with pytest.raises(ConfigError, match=f"{re.escape(name)}: {fault}"):
        containers.enter([tmp_path / name])
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=fault):
        containers.enter([])


def test_an_image_whose_name_a_shell_would_obey_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert containers.image(tmp_path) == "container/humanline.sif"
    with pytest.raises(ConfigError, match="run snakemake in the folder of the Snakefile"):
        containers.image(tmp_path / "x;touch y")


def test_what_is_below_the_working_folder_is_mounted_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")  # no apptainer: Snakemake would use singularity
    monkeypatch.setenv("SINGULARITY_BIND", "")
    for name in ("SINGULARITYENV_HUMANLINE_PYTHON", "SINGULARITYENV_HUMANLINE_WORKER"):
        monkeypatch.setenv(name, "")
    for _ in range(2):  # a job on a cluster does it again
        containers.enter([Path("results"), tmp_path / "config"])
    assert os.environ["SINGULARITY_BIND"] == ",".join(containers._code())
    assert os.environ["SINGULARITYENV_HUMANLINE_PYTHON"] == "python3"


def test_a_worktree_is_mounted_with_its_repository(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(
        containers, "__file__", str(tmp_path / "humanline" / "cli" / "local" / "x.py")
    )
    assert [*containers._code()] == [f"{tmp_path}:/opt/humanline:ro"]
    (tmp_path / ".git").write_text("gitdir: /repository/.git/worktrees/mine\n")
    assert [*containers._code()][1:] == ["/repository/.git:/repository/.git:ro"]
    (tmp_path / "pyproject.toml").unlink()
    assert [*containers._code()] == [f"{tmp_path}/humanline:/opt/humanline/humanline:ro"]


def builder() -> str:
    """Name the builder of images that works here, or skip with the reason."""
    for name in os.environ.get("BUILDER", "docker podman buildah").split():
        if (
            shutil.which(name)
            and not subprocess.run([name, "info"], capture_output=True).returncode
        ):
            return name
    pytest.skip("no builder of containers works here: install docker, podman or buildah")


def in_container(name: str, command: str, results: Path) -> subprocess.CompletedProcess:
    """Run a shell command in the image, with a folder of results."""
    volume = f"{results}:{results}"
    if name != "buildah":
        words = [name, "run", "--rm", "--network", "none", "--volume", volume, "humanline"]
        return subprocess.run([*words, "sh", "-c", command], capture_output=True, text=True)
    made = subprocess.run(["buildah", "from", "humanline"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    container = made.stdout.strip()
    try:
        words = ["buildah", "run", "--volume", volume, container, "--", "sh", "-c", command]
        return subprocess.run(words, capture_output=True, text=True)
    finally:
        subprocess.run(["buildah", "rm", container], capture_output=True)


@pytest.mark.slow
def test_the_image_runs_a_job_and_knows_its_commit(tmp_path):
    """CONTRIBUTING.md says how to have a base image where no registry can be reached."""
    name, base = builder(), os.environ.get("BASE", ARGUMENTS["BASE"])
    if subprocess.run([name, "inspect", "--type", "image", base], capture_output=True).returncode:
        pytest.skip(f"the base image is not here: {name} pull {base}")
    more = shlex.split(os.environ.get("BUILD_ARGUMENTS", ""))
    build = subprocess.run(["bash", BUILD, name, *more], capture_output=True, text=True)
    assert build.returncode == 0, build.stdout[-3000:] + build.stderr[-3000:]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    run = in_container(
        name,
        f"snakemake --cores 1 {tmp_path}/smoke/{DATA} --config scale=smoke results={tmp_path}",
        tmp_path,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    data = tmp_path / "smoke" / DATA
    seal = json.loads(data.with_name(f".{data.name}.seal").read_text())
    assert seal["made"]["git"] == {"commit": commit.stdout.strip(), "modified": False}
    # The same command outside writes the same bytes.
    words = [
        "data",
        "instruction_following",
        "s1",
        "--scale=smoke",
        f"--results={tmp_path / 'here'}",
    ]
    here = [sys.executable, "-m", "humanline", *words]
    subprocess.run(here, cwd=ROOT, check=True, capture_output=True)
    assert data.read_bytes() == (tmp_path / "here" / "smoke" / DATA).read_bytes()
