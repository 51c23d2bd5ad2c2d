"""The notebooks run: each cell, each assert; and what is committed is the executed notebook, with its pictures."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = [
    "01_weight_decay", "02_priors_are_penalties", "03_beyond_the_mode", "04_choosing_lambda", "05_sparsity",
    "06_other_remedies", "07_scale",
]  # fmt: skip


def test_every_notebook_is_listed():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebook_is_executed_and_small(name):
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < 1_000_000
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("assert" in cell.source for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_claim_of_a_notebook_holds(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    asserted = NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    assert all(cell.execution_count for cell in asserted.cells if cell.cell_type == "code")
