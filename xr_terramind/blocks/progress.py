"""A bar that counts blocks as they are written, and says blocks per second and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console


@contextmanager
def block_progress(n_blocks: int, console: Console | None = None) -> Iterator[Callable[[], None]]:
    """Draw a bar, on standard error unless told otherwise; call what is yielded once per block."""
    bar = progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("embedding"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:.0f} of {task.total:.0f} blocks,{task.fields[rate]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("elapsed,"),
        progress.TimeRemainingColumn(elapsed_when_finished=False),
        progress.TextColumn("left"),
        console=console or Console(stderr=True),
    )
    with bar:
        number = bar.add_task("", total=n_blocks, rate="")
        (task,) = bar.tasks

        def advance() -> None:
            per_s = (task.completed + 1) / max(task.elapsed or 0, 1e-9)
            bar.update(number, advance=1, rate=f" {per_s:.2f} blocks/s,")

        yield advance
