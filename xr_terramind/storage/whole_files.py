"""Files that appear whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xr_terramind.errors import explain


@contextmanager
def complete_file(path: Any) -> Iterator[Path]:
    """Yield a name in a hidden folder beside `path`; what stands there is moved if nothing fails.

    Raises
    ------
    OSError
        Where its folder is missing, or `path` is a folder.
    """
    target = Path(path)
    check_folder(target)
    if target.is_dir():
        raise IsADirectoryError(
            explain(f"a folder {str(target)!r}", "the name of a file", "Choose another name.")
        )
    with TemporaryDirectory(
        dir=target.parent, prefix=f".{target.name}-", ignore_cleanup_errors=True
    ) as folder:
        unfinished = Path(folder, target.name)
        yield unfinished
        os.replace(unfinished, target)


def check_folder(target: Path) -> None:
    """Refuse a name in a folder that is not there, with a FileNotFoundError."""
    if not target.parent.is_dir():
        raise FileNotFoundError(
            explain(f"no folder {str(target.parent)!r}", "one to write into", "Create it first.")
        )
