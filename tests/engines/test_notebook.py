"""The notebook: it runs from top to bottom, and what is stored in it is one such run."""

import json
from pathlib import Path

import pytest
from cached_package import needs_cached_package

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "humanline.ipynb"


def test_what_is_stored_is_one_whole_run():
    """So that readers see it without running it. Nothing in it names the machine of that run."""
    text = NOTEBOOK.read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not {"error", "stderr"} & {
        output.get("name") or output["output_type"] for output in outputs
    }
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert not [word for word in ("/tmp/", "/home/", "/work/", "/root/") if word in text]


@pytest.mark.slow
@pytest.mark.thorough
@needs_cached_package
def test_it_runs_from_top_to_bottom():
    """Less of everything, so that it takes a minute or two; the stored run is whole."""
    pytest.importorskip("gguf", reason="pip install 'humanline[workstation]'")
    pytest.importorskip("ipykernel", reason="pip install 'humanline[notebook]'")
    nbclient = pytest.importorskip("nbclient", reason="pip install 'humanline[notebook]'")
    nbformat = pytest.importorskip("nbformat", reason="pip install 'humanline[notebook]'")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (sizes,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    assert sizes.source.startswith("PROMPTS, STEPS, TOKENS = ")
    sizes.source = "PROMPTS, STEPS, TOKENS = 4, 2, 8"
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources=where
    ).execute()
    images = [
        o for c in notebook.cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})
    ]
    assert len(images) == 3
