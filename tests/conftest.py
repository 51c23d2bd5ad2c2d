"""Fixtures for all tests."""

import os
import signal

# What was started in the background of a shell ignores Ctrl-C, and so would the processes that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# One worker of the test run a core: threads inside each would only fight. Set before anything imports NumPy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from commands import short_reports as with_short_reports
from strict import StrictFactories, no_synchronisation_in_loops

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request):
    """Every device found."""
    return torch.device(request.param)


@pytest.fixture
def strict_factories():
    """The test fails where a file of the package makes a tensor without device and dtype."""
    with StrictFactories():
        yield


@pytest.fixture
def no_synchronisation():
    """A context manager: ``with no_synchronisation(at_most=2)`` fails where a line reads from the device more often."""
    return no_synchronisation_in_loops


@pytest.fixture
def without_reports(monkeypatch):
    """For tests of other things: a run's report is an empty page, which takes no time."""

    def write_nothing(folder, *_, **__):
        for name in ("report.html", "explorer.json"):
            (folder / name).write_text("")

    monkeypatch.setattr("bayesreg.report.write.write_report", write_nothing)


@pytest.fixture
def short_reports():
    """For tests of other things: see `commands.short_reports`."""
    with with_short_reports():
        yield


@pytest.fixture
def nothing_else_changes(monkeypatch):
    """For pictures: no window, no setting, and no figure beyond those that are closed here, each of which is drawn."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def refuse(*_, **__):
        raise AssertionError("plt.show() was called")

    monkeypatch.setattr(plt, "show", refuse)
    before = dict(matplotlib.rcParams)
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")
    assert dict(matplotlib.rcParams) == before
