"""How tests make many blocks of few windows."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from xr_terramind.blocks import plan


@contextmanager
def small_blocks() -> Iterator[None]:
    """Make one block of each window; only the process that plans has to know."""
    with patch.multiple(plan, MIN_BATCH=1, MIN_BLOCKS=1000, WANTED_BLOCKS=1000):
        yield
