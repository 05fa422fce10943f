"""A folder for what is costly to make: each entry whole, or not there."""

import atexit
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import platformdirs

from xr_terramind.errors import explain, warn

VARIABLE = "XR_TERRAMIND_CACHE"
"""Environment variable that names another folder than the user's cache."""

ABANDONED_S = 24 * 3600
"""Age at which an unfinished entry belongs to nobody any more: one takes seconds to make."""

_MANIFEST = "manifest.json"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def cache_folder() -> Path:
    """Return where entries are kept; it may not exist yet."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_cache_path("xr_terramind")


def find_or_make(kind: str, facts: Mapping[str, str], make: Callable[[Path], None]) -> Path:
    """Return the folder of an entry, made now where it is not there, or not whole.

    Two processes may make the same entry at once; both get a whole one.

    Parameters
    ----------
    kind : str
        What is kept; a folder of its own.
    facts : mapping of str to str
        All that the entry depends on: any other fact, another entry.
    make : callable
        ``make(folder)`` writes the entry's files into an empty folder.

    Returns
    -------
    Path
        A folder to read from. Where the cache cannot be written, one that this process has to
        itself, after a warning.
    """
    key = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:32]
    entry = cache_folder() / kind / key
    if _is_whole(entry, facts):
        return entry
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        _make(entry, facts, make)
        return entry
    except OSError as error:
        if entry.parent.is_dir() and error.errno not in _NO_ROOM:
            raise  # what is made went wrong, not where it is kept
        warn(
            explain(
                f"a cache folder {str(entry.parent)!r} that cannot be written "
                f"({type(error).__name__}: {error})",
                "a few hundred MB there; what belongs there is made again in every process",
                f"Name another folder in {VARIABLE}, or make room.",
            )
        )
    folder = Path(mkdtemp(prefix="xr_terramind-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make(folder)
    return folder


def _make(entry: Path, facts: Mapping[str, str], make: Callable[[Path], None]) -> None:
    _clear_abandoned(entry.parent)
    # Something of that name which is not whole was damaged after it was made: it makes room.
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
    with TemporaryDirectory(
        dir=entry.parent, prefix=f".{entry.name}-", ignore_cleanup_errors=True
    ) as workshop:
        new = Path(workshop, "new")
        new.mkdir()
        make(new)
        manifest = {"facts": dict(facts), "files": _file_sizes(new)}
        (new / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        try:
            os.rename(new, entry)  # in one step, so that nobody ever sees half an entry
        except OSError:
            if not _is_whole(entry, facts):
                raise
            # Another process was faster, and its entry is as good.


def _clear_abandoned(parent: Path) -> None:
    # A process that is killed while it makes an entry leaves its workshop behind.
    for workshop in parent.glob(".*-*"):
        with suppress(FileNotFoundError):  # another process has just removed it
            if time.time() - workshop.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(workshop, ignore_errors=True)


def _is_whole(entry: Path, facts: Mapping[str, str]) -> bool:
    # Sizes tell a file that is cut short or gone. Its bytes are not read: 1.2 GB for large.
    try:
        manifest = json.loads((entry / _MANIFEST).read_text())
        sizes = _file_sizes(entry)
        return bool(sizes) and bool(manifest == {"facts": dict(facts), "files": sizes})
    except (OSError, ValueError, RecursionError):  # the last for a file that is nothing of ours
        return False  # missing or torn: it is made again


def _file_sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.name != _MANIFEST}
