"""A progress bar on stderr, for engines that take seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(enabled: bool, description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr while a loop runs.

    Args:
        enabled: Whether to show anything.
        description: What stands before the bar.
        total: Number of iterations.

    Yields:
        A function to call once an iteration.

    Example:
        >>> with progress_bar(False, "chain 1", total=3) as advance:
        ...     for _ in range(3):
        ...         advance()
    """
    if not enabled:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)
