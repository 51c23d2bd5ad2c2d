"""The one bar for whatever takes longer than a second: the work counts, and a thread of its own shows.

It is shown on stderr where that is a terminal, and in a notebook; nowhere else, whatever was asked for. It appears
after a second, so that short work prints nothing, is drawn five times a second, and goes when the work is done. Bars
inside bars are lines below each other. Nothing global changes: no stream is redirected, no signal handled.
"""

from __future__ import annotations

import io
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

# Seconds before a bar is shown, and from one drawing to the next.
DELAY, EVERY = 1.0, 0.2
_BAR_WIDTH, _NOTEBOOK_WIDTH = 16, 100

_lock = threading.Lock()
_display: _Display | None = None


class Bar:
    """What a piece of work says of itself; any of its threads may.

    Args:
        description: What stands before the bar.
        total: Number of steps; None: unknown.

    Example:
        >>> bar = Bar("hmc, 64 chains", total=300)
        >>> bar.describe("warm-up", step_size=0.31, divergent=0)
        >>> bar.advance()
        >>> bar.state()
        'warm-up, step size 0.31, divergent 0'
    """

    def __init__(self, description: str, total: int | None = None):
        self.description, self.total, self.done = description, total, 0
        self.began = time.monotonic()
        self._phase, self._facts, self._own = "", {}, threading.Lock()

    def advance(self, steps: int = 1) -> None:
        """Count steps that are done."""
        with self._own:
            self.done += steps

    def skip(self, steps: int) -> None:
        """Take steps that turned out not to be needed from the total."""
        with self._own:
            self.total -= steps

    def describe(self, phase: str | None = None, **facts: Any) -> None:
        """Say what is under way, and facts of it: numbers, or tensors of one, which are read only when they are shown.

        Args:
            phase: What is under way; None: as before.
            **facts: Numbers by what they are; those that are not given stay as they are.
        """
        with self._own:
            self._phase = self._phase if phase is None else phase
            self._facts = self._facts | facts

    def count(self, **facts: Any) -> None:
        """Add to facts, as `describe` takes them.

        Args:
            **facts: What to add.
        """
        with self._own:
            self._facts = self._facts | {name: self._facts.get(name, 0) + value for name, value in facts.items()}

    def state(self) -> str:
        """Return phase and facts in words."""
        facts = [f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in self._facts.items()]
        return ", ".join(filter(None, [self._phase, *facts]))


@contextmanager
def progress_bar(enabled: bool, description: str, total: int | None = None) -> Iterator[Bar]:
    """Show a bar while a block runs.

    Args:
        enabled: Whether to show anything.
        description: What stands before the bar.
        total: Number of steps; None: unknown.

    Yields:
        The `Bar`, to be told how far the work is.

    Example:
        >>> with progress_bar(False, "chain 1", total=3) as bar:
        ...     for _ in range(3):
        ...         bar.advance()
        >>> bar.done
        3
    """
    bar = Bar(description, total)
    try:
        if enabled:
            _show(bar)
        yield bar
    finally:
        if enabled:
            _leave(bar)


def _show(bar: Bar) -> None:
    """Put a bar on the display that there is, or on a new one, where somebody looks."""
    global _display
    with _lock:
        if _display is None:
            screen = _screen()
            if screen is None:
                return
            _display = _Display(screen)
            _display.start()
        _display.bars.append(bar)


def _leave(bar: Bar) -> None:
    """Show a bar no more; without bars the display ends, however far an interrupt let it start."""
    global _display
    with _lock:
        display = _display
        if display is not None and bar in display.bars:
            display.bars.remove(bar)
        if display is None or display.bars:
            return
        _display = None
    display.end()


def _screen() -> _Terminal | _Notebook | None:
    from rich.console import Console

    console = Console(file=sys.stderr)
    if console.is_jupyter:
        return _Notebook()
    is_terminal = getattr(sys.stderr, "isatty", lambda: False)()  # rich may be told otherwise by the environment
    return _Terminal(console) if is_terminal and not console.is_dumb_terminal else None


class _Display(threading.Thread):
    """Draws the bars that are old enough, and takes them away."""

    def __init__(self, screen: _Terminal | _Notebook):
        super().__init__(name="progress", daemon=True)
        self.bars: list[Bar] = []
        self._screen, self._left = screen, threading.Event()

    def end(self) -> None:
        """Take everything away."""
        self._left.set()
        if self.is_alive():  # not where an interrupt came before it ran
            self.join()

    def run(self) -> None:
        lines, tasks = _lines(self._screen.console), {}
        try:
            while not self._left.wait(EVERY):
                self._update(lines, tasks)
                if tasks:
                    self._screen.show(lines)
            self._screen.close(lines)
        except (OSError, ValueError):  # a stream that is closed: nobody looks any more
            pass

    def _update(self, lines: Progress, tasks: dict[Bar, TaskID]) -> None:
        now = time.monotonic()
        shown = [bar for bar in list(self.bars) if now - bar.began >= DELAY]
        for bar in tasks.keys() - set(shown):
            lines.remove_task(tasks.pop(bar))
        for bar in shown:
            if bar not in tasks:
                tasks[bar] = lines.add_task(bar.description, total=bar.total, state="")
            lines.update(tasks[bar], completed=bar.done, total=bar.total, state=bar.state())


def _lines(console: Console) -> Progress:
    """Return what rich draws of bars."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = task.time_remaining
            return Text("" if left is None else f"{timedelta(seconds=math.ceil(left))} left")

    class Share(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.total is None else f"{task.percentage:.0f}%")

    words = [TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[state]")]
    columns = words[0], BarColumn(_BAR_WIDTH), Share(), TimeLeft(), words[1]
    # Streams stay as they are: to take them and give them back is not for a thread to do.
    whole = {"redirect_stdout": False, "redirect_stderr": False}
    return Progress(*columns, console=console, auto_refresh=False, transient=True, **whole)


class _Terminal:
    """A terminal, on which the lines are drawn over."""

    def __init__(self, console: Console):
        self.console = console

    def show(self, lines: Progress) -> None:
        lines.start()
        lines.refresh()

    def close(self, lines: Progress) -> None:
        lines.stop()


class _Notebook:
    """A notebook, whose output is replaced; rich's own way needs ipywidgets."""

    def __init__(self):
        self.console, self._handle = self._recorder(), None

    def show(self, lines: Progress) -> None:
        console = self._recorder()
        console.print(lines.get_renderable())
        text = console.export_text(clear=False)
        html = console.export_html(inline_styles=True, code_format='<pre style="margin:0">{code}</pre>')
        self._display({"text/plain": text, "text/html": html})

    def close(self, lines: Progress) -> None:
        if self._handle is not None:
            self._display({"text/plain": "", "text/html": ""})

    def _display(self, content: dict[str, str]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def _recorder(self) -> Console:
        from rich.console import Console

        width = _NOTEBOOK_WIDTH
        return Console(file=io.StringIO(), record=True, width=width, force_jupyter=False, force_terminal=True)
