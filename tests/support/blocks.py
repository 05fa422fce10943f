"""Many small blocks out of a small cube."""

from collections.abc import Iterator
from contextlib import contextmanager

from xr_terramind.blocks.plan import set_block_counts


@contextmanager
def small_blocks() -> Iterator[None]:
    """Make one block of each window, in whatever is planned meanwhile by this thread."""
    with set_block_counts(wanted_blocks=1000, min_blocks=1000, min_batch=1):
        yield
