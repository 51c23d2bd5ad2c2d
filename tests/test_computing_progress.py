"""The bar: where it is shown and where not, what it says, and that it leaves nothing behind."""

import io
import re
import threading
import time
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from global_state import differences, snapshot
from nbclient import NotebookClient

import bayesreg as br
from bayesreg.computing import progress
from bayesreg.computing.progress import Bar, progress_bar
from bayesreg.inference import gibbs, hmc, nuts, pyro_nuts, pyro_svi


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """What was drawn, line by line, without the codes that move and colour."""
        return [line.strip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()))]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal on stderr, where bars are shown without delay and often."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("TTY_COMPATIBLE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.005)
    stream = Terminal()
    # Not sys.stderr itself, which pytest sets anew between fixtures and test.
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    return stream


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_a_bar_shows_share_time_left_phase_and_facts_and_goes(capsys, terminal):
    with progress_bar(True, "hmc, 4 chains", total=200) as bar:
        bar.describe("draws", step_size=0.314159, divergent=0)
        for _ in range(50):
            bar.advance()
            time.sleep(0.001)
        bar.count(divergent=torch.tensor(3, dtype=torch.int64, device="cpu"))
        wait_for(lambda: any("25%" in line and "divergent 3" in line for line in terminal.lines()))
    wanted = r"hmc, 4 chains \S+ +25% +0:00:0\d left +draws, step size 0\.314, divergent 3"
    assert any(re.fullmatch(wanted, line) for line in terminal.lines()), terminal.lines()
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K") and not threads()  # the line is taken away
    assert capsys.readouterr().out == ""


def test_bars_inside_bars_are_lines_below_each_other(terminal):
    with progress_bar(True, "outer") as outer:
        outer.describe("a part")
        wait_for(lambda: "a part" in terminal.getvalue())
        with progress_bar(True, "inner", total=10) as inner:
            inner.advance(5)
            wait_for(lambda: "inner" in terminal.getvalue())
            assert len(threads()) == 1
        before = len(terminal.getvalue())
        wait_for(lambda: "outer" in terminal.getvalue()[before + 2000 :])
        assert "inner" not in terminal.getvalue()[before + 2000 :]
    text = "\n".join(terminal.lines())
    assert re.search(r"outer.*\ninner .* 50%", text)


def test_nothing_is_printed_for_short_work(terminal, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 1.0)
    with progress_bar(True, "short", total=1) as bar:
        time.sleep(0.1)
        bar.advance()
    assert terminal.getvalue() == ""
    assert progress.DELAY == 1.0


def test_work_that_takes_longer_than_a_second_is_shown_five_times_a_second_at_most(terminal, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 1.0)
    monkeypatch.setattr(progress, "EVERY", 0.2)
    drawn = []
    monkeypatch.setattr(progress._Terminal, "show", lambda self, lines: drawn.append(time.monotonic()))
    began = time.monotonic()
    with progress_bar(True, "long", total=10_000_000) as bar:
        while time.monotonic() < began + 1.9:
            bar.advance()
    assert drawn and min(drawn) >= began + 1.0
    assert np.diff(drawn).min(initial=1.0) > 0.15


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_nothing_is_shown_where_nobody_looks(stream, terminal, monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", stream)
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes no terminal of a file
    with progress_bar(True, "unseen", total=1):
        assert not threads()
        time.sleep(0.02)
    assert stream is None or stream.getvalue() == ""
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with progress_bar(True, "unseen", total=1):
        time.sleep(0.02)
    with progress_bar(False, "unseen", total=1):
        assert not threads()
    assert terminal.getvalue() == ""


def test_a_bar_goes_when_its_work_fails_or_its_stream_is_closed(terminal):
    with pytest.raises(KeyboardInterrupt), progress_bar(True, "broken", total=3):
        wait_for(lambda: "broken" in terminal.getvalue())
        raise KeyboardInterrupt
    assert not threads()
    with progress_bar(True, "closed", total=3):
        terminal.close()
        time.sleep(0.05)
    assert not threads()


@pytest.mark.parametrize("started", [False, True])
def test_an_interrupt_while_the_display_starts_leaves_no_thread(started, terminal, monkeypatch):
    start = progress._Display.start

    def interrupted(display):
        if started:
            start(display)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress._Display, "start", interrupted)
        with pytest.raises(KeyboardInterrupt), progress_bar(True, "broken", total=3):
            pass
    assert not threads() and progress._display is None
    with progress_bar(True, "next", total=3):
        wait_for(lambda: "next" in terminal.getvalue())
    assert not threads()


def test_an_interrupt_while_an_inner_bar_starts_leaves_the_outer_one(terminal, monkeypatch):
    with progress_bar(True, "outer", total=3):
        with monkeypatch.context() as patch:
            patch.setattr(progress, "_show", lambda bar: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt), progress_bar(True, "inner", total=3):
                pass
        wait_for(lambda: "outer" in terminal.getvalue())
        assert threads()
    assert not threads()


def test_nothing_global_changes(terminal):
    before = snapshot()
    with progress_bar(True, "work", total=3):
        wait_for(lambda: "work" in terminal.getvalue())
        during = snapshot()
    assert differences(before, during) == {} == differences(before, snapshot())


def test_steps_of_several_threads_are_all_counted():
    bar = Bar("work", total=40_000)

    def work():
        for _ in range(10_000):
            bar.advance()
            bar.count(divergent=1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert bar.done == 40_000 and bar.state() == "divergent 4e+04"


# --- who reports what


ROWS = br.load_diabetes().standardized()
LAPLACE = br.LinearRegression(br.LaplacePrior(0.25), dist.HalfNormal(1.0))


@pytest.fixture
def bars(terminal, monkeypatch):
    """The bars that were made, each with the states that it went through."""
    made = []

    class Recorded(Bar):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.states = []
            made.append(self)

        def describe(self, *arguments, **facts):
            super().describe(*arguments, **facts)
            self.states.append(self.state())

    monkeypatch.setattr(progress, "Bar", Recorded)
    return made


@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
@pytest.mark.parametrize(
    ("method", "description", "states"),
    [
        ("exact", "exact, 3 chains", [r"draws"]),
        ("rejection", "rejection, 3 chains", [r"draws"]),
        ("hmc", "hmc, 3 chains", [r"warm-up, step size 0.393", r"draws, step size 0\.\d+, divergent 0"]),
        ("gibbs", "gibbs, 3 chains", [r"warm-up", r"draws"]),
        ("nuts", "nuts, 3 chains", [r"warm-up, step size [\d.]+", r"draws, step size [\d.]+, divergent 0"]),
        (
            "pyro-nuts",
            "pyro-nuts, 3 chains",
            [r"chain 1, warm-up, divergent 0", r"chain 3, draws, divergent \d+, step size [\d.]+"],
        ),
    ],
)
def test_engines_report_phase_step_size_and_divergences_and_all_their_steps(method, description, states, bars):
    model = LAPLACE if method != "exact" else br.LinearRegression(br.GaussianPrior(0.5), 1.0)
    br.sample(model, ROWS, method, draws=8, tune=12, chains=3, progress=True)
    (bar,) = bars
    assert bar.description == description
    for state in states:
        assert any(re.fullmatch(state, found) for found in bar.states), (state, bar.states)
    assert bar.done == bar.total
    assert not threads()


def test_svi_reports(bars):
    with pytest.warns(br.ConvergenceWarning):
        br.sample(LAPLACE, ROWS, "svi", pyro_loop=True, max_steps=100, draws=5, progress=True)
    assert [(bar.description, bar.done, bar.states) for bar in bars] == [
        ("svi, AutoMultivariateNormal", 100, ["rate 0.05"])
    ]


def test_long_work_on_the_lambda_axis_reports(bars):
    train, test = ROWS.split(seed=1)
    br.posterior_path(train, "l1", prior_scales=[0.2, 0.1], noise_scale=0.7, draws=400, progress=True)
    few, _ = br.simulate_weight_decay(num_train=6, num_features=8)
    br.posterior_path(few, "l1", prior_scales=[0.01, 0.02], noise_scale=0.01, draws=400, progress=True)
    found = [(bar.description, bar.done, bar.total) for bar in bars]
    assert found[:3] == [("prior scales", 2, 2), *[("rejection, 4 chains", 400, 400)] * 2]
    assert found[3] == ("prior scales", 2, 2) and found[4] == ("gibbs, 2 scales", 100, 100)
    bars.clear()
    br.posterior_path(train, "l2", prior_scales=[0.1, 0.2], noise_scale=dist.HalfNormal(1.0), progress=True)
    br.cross_validate(train, "l2", folds=5, progress=True)
    br.choose_lambda(train, "l2", ("cv", "learned"), progress=True)
    br.study_choice(replications=3, methods=("loo",), noise_scale=0.01, progress=True)
    br.train(train, epochs=4, progress=True)
    br.train_path(train, [0.1, 1.0], epochs=4, progress=True)
    found = [(bar.description, bar.done, bar.total) for bar in bars]
    assert found == [
        ("prior scales", 2, 2),
        ("cross-validation, folds", 5, 5),
        ("choosing lambda", 2, 2),
        ("cross-validation, folds", 10, 10),
        ("exact, 4 chains", 4000, 4000),
        ("data sets", 3, 3),
        ("training", 4, 4),
        ("training", 4, 4),
    ]
    assert bars[2].states == ["cv", "learned"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_reading_reports_and_reads_the_same(suffix, bars, tmp_path):
    path = tmp_path / f"houses{suffix}"
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50_000, 3)), columns=list("aby"))
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    whole = br.read_table(path, target="y", progress=True)
    batches = list(br.read_batches(path, target="y", rows=20_000, progress=True))
    assert [bar.description for bar in bars] == [f"reading houses{suffix}"] * 2
    assert bars[1].done == bars[1].total == (path.stat().st_size if suffix == ".csv" else 50_000)
    np.testing.assert_array_equal(whole.features, frame[["a", "b"]])
    np.testing.assert_array_equal(np.concatenate([batch.features for batch in batches]), whole.features)
    assert not threads()


def test_an_iterator_that_is_given_up_takes_its_bar_with_it(bars, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "1,2\n" * 100)
    batches = br.read_batches(tmp_path / "a.csv", target="y", rows=10, progress=True)
    next(batches)
    assert threads()
    del batches
    assert not threads()


@pytest.mark.parametrize("engine", [gibbs, hmc, nuts, pyro_nuts, pyro_svi])
def test_engines_are_silent_where_stderr_is_a_file(engine, capfd):
    settings = {"max_steps": 100} if engine is pyro_svi else {}
    engine.run(LAPLACE.target(br.Moments.from_data(ROWS)), draws=3, tune=3, chains=2, seed=0, progress=True, **settings)
    assert capfd.readouterr() == ("", "")


def test_in_a_notebook_one_output_is_replaced(tmp_path):
    """In a real kernel, with warnings as errors: rich's own way wants a package that need not be there."""
    source = """
import time, warnings
warnings.simplefilter("error")
from bayesreg.computing import progress
progress.DELAY, progress.EVERY = 0.1, 0.05
with progress.progress_bar(True, "hmc, 64 chains", total=10) as bar:
    bar.describe("draws", divergent=0)
    for _ in range(5):
        bar.advance()
        time.sleep(0.2)
    showing = progress._display._screen.__class__.__name__
print(showing)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    updates = []

    class Client(NotebookClient):
        def process_message(self, message, cell, cell_index):
            if message["msg_type"] in ("display_data", "update_display_data"):
                updates.append(message["content"]["data"])
            return super().process_message(message, cell, cell_index)

    Client(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [data["text/plain"] for data in updates]
    assert any(re.search(r"hmc, 64 chains +\S+ +50% .*draws, divergent 0", text) for text in texts), texts
    assert all(data["text/html"].startswith("<pre") for data in updates[:-1]) and texts[-1] == ""
    outputs = notebook.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data", "stream"]
    assert outputs[1].text == "_Notebook\n"
