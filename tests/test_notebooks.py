"""The notebooks run: each cell, each assert; and what is committed is the executed notebook, with its pictures."""

from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = [
    "01_weight_decay", "02_priors_are_penalties", "03_beyond_the_mode", "04_choosing_lambda", "05_sparsity",
    "06_other_remedies", "07_scale",
]  # fmt: skip
# What makes a kernel as good as new: no names, no figures, matplotlib's own settings.
BEFORE = """
%reset -f
import sys
if "matplotlib.pyplot" in sys.modules:
    sys.modules["matplotlib.pyplot"].close("all")
    sys.modules["matplotlib"].rcdefaults()
    get_ipython().run_line_magic("matplotlib", "inline")
del sys
"""


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


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all notebooks of a worker, which loads what they import once."""
    manager = AsyncKernelManager(kernel_name="python3")
    yield manager
    if manager.has_kernel:
        run_sync(manager.shutdown_kernel)(now=True)


def execute(notebook, kernel):
    """Run a notebook after what makes the kernel as good as new, and return what came of it."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BEFORE))
    client = NotebookClient(notebook, timeout=240, km=kernel)
    try:
        return client.execute()
    finally:
        client.kc.stop_channels()


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_claim_of_a_notebook_holds(name, kernel):
    asserted = execute(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4), kernel)
    assert all(cell.execution_count for cell in asserted.cells if cell.cell_type == "code")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_sees_nothing_of_the_one_before(kernel):
    def run(*cells):
        cells = [nbformat.v4.new_code_cell(source) for source in cells]
        return execute(nbformat.v4.new_notebook(cells=cells), kernel)

    run("import matplotlib.pyplot as plt", "left = 1; plt.rcParams['font.size'] = 3.0; plt.figure()")
    run("import matplotlib.pyplot as plt", "assert plt.rcParams['font.size'] == 10.0 and not plt.get_fignums()")
    with pytest.raises(CellExecutionError, match="NameError"):
        run("left")
