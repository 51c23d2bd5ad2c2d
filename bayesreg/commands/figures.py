"""Writing pictures into a run's folder: one that cannot be drawn is named, and costs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_figures(folder: Path, figures: Mapping[str, Callable[[], Any]], name: str = "") -> list[str]:
    """Write the figure, or the figures by kind, that each function draws; close what was opened, and nothing else.

    A figure that cannot be drawn must not cost the numbers: it is left out. One that cannot be written is an error like
    any other file's.

    Args:
        folder: The folder, made where there is none.
        figures: What draws each figure, by its kind: that, and ``name``, is the name of its file.
        name: The end of the files' names.

    Returns:
        Which figures could not be drawn, and why.

    Raises:
        OSError: A figure cannot be written.
    """
    import matplotlib.pyplot as plt

    missing: list[str] = []

    @contextmanager
    def optional(kind: str) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            missing.append(f"{kind}{name} ({type(error).__name__}: {' '.join(str(error).split())})")

    folder.mkdir(exist_ok=True)
    before = set(plt.get_fignums())
    try:
        for kind, draw in figures.items():
            drawn = {}
            with optional(kind):
                drawn = draw()
            for part, figure in (drawn if isinstance(drawn, Mapping) else {kind: drawn}).items():
                with optional(part):
                    figure.savefig(folder / f"{part}{name}.png", dpi=150)
    finally:
        for figure in set(plt.get_fignums()) - before:
            plt.close(figure)
    return missing
