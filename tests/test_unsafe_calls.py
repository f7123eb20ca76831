"""No data is executed: no eval, shell, pickle or unsafe YAML, and templates escape texts."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    path for folder in ("humanline", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")
]
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "input"}
CALLS |= {"pickle.load", "pickle.loads"}
MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "telnetlib"}
# For its error, and for a class that reads no class but those of a list.
PICKLE = {"humanline/trainers/shared/checkpoints.py", "humanline/trainers/shared/manifest.py"}
LOADERS = {"_FastLoader", "_Loader"}  # of humanline.files.validation, derived from SafeLoader


def faults(source: str) -> list[str]:
    """List what a source must not do, with its lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [f"{node.lineno}: {name}" for name in names if name.split(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {own.arg: ast.unparse(own.value) for own in node.keywords}
        is_yaml = name in ("yaml.load", "yaml.load_all") or name.startswith("yaml.unsafe")
        is_safe_yaml = is_yaml and len(node.args) > 1 and ast.unparse(node.args[1]) in LOADERS
        if (
            name in CALLS
            or given.get("shell", "False") != "False"
            or (is_yaml and not is_safe_yaml)
            or (name == "torch.load" and given.get("weights_only") != "True")
            or (name.endswith("Environment") and given.get("autoescape") != "True")
            or name in ("Template", "jinja2.Template")
        ):
            found.append(f"{node.lineno}: {ast.unparse(node)[:60]}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_data_is_executed(path):
    found = faults(path.read_text())
    if str(path.relative_to(ROOT)) in PICKLE:
        found = [each for each in found if not each.endswith(": pickle")]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "import pickle",
        "from pickle import load",
        "yaml.load(x)",
        "yaml.load(x, yaml.Loader)",
        "yaml.unsafe_load(x)",
        "torch.load(x)",
        "Environment(loader=x)",
        "jinja2.Template(x)",
    ],
)
def test_what_it_looks_for_is_found(source):
    assert len(faults(source)) == 1
