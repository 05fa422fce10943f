"""A bar that counts blocks as they are written, and says windows a second and time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich import progress
from rich.console import Console


class Advance(Protocol):
    """Count one finished block."""

    def __call__(self) -> None:
        """Count it."""


@contextmanager
def block_progress(
    n_blocks: int, windows_per_block: float | None, console: Console | None = None
) -> Iterator[Advance]:
    """Draw a bar while blocks are embedded.

    Parameters
    ----------
    n_blocks : int
        Still to do.
    windows_per_block : float or None
        On average; None where nobody knows.
    console : rich.console.Console, optional
        Standard error where there is none.

    Yields
    ------
    callable
        To be called once a block.
    """
    started_s = time.monotonic()
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
        task = bar.add_task("", total=n_blocks, rate="")
        n_done = 0

        def advance() -> None:
            nonlocal n_done
            n_done += 1
            rate = ""
            if windows_per_block is not None:
                elapsed_s = max(time.monotonic() - started_s, 1e-9)
                rate = f" {n_done * windows_per_block / elapsed_s:.1f} windows/s,"
            bar.update(task, advance=1, rate=rate)

        yield advance
