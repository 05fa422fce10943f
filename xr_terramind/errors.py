"""What can go wrong, as few exceptions that say found, expected and remedy."""

import sys
import warnings
from importlib import import_module
from typing import Any


class TerraMindError(Exception):
    """Base of every error raised by xr_terramind."""

    issues: tuple[Any, ...] = ()
    """The issues of ``check`` that the error speaks of, for who words remedies anew."""


class BandError(TerraMindError, ValueError):
    """Bands are missing, surplus, doubled or unnamed, or the modality is unknown."""


class GridError(TerraMindError, ValueError):
    """Dimensions, coordinates, CRS, resolution or window geometry do not fit."""


class ValueRangeError(TerraMindError, ValueError):
    """Pixel values or their dtype are not what the modality was trained on."""


class WeightsError(TerraMindError, RuntimeError):
    """A weights file is missing, unreadable, incomplete or not TerraMind's."""


class SourceError(TerraMindError, RuntimeError):
    """A data source (Earth Engine, a file) gave no usable cube, or no pixels for some blocks."""


class StoreError(TerraMindError, OSError):
    """A store of embeddings cannot be written, or holds something else."""


class StoreExistsError(StoreError, FileExistsError):
    """There is a store already, and neither resume nor overwrite was asked for."""


class EngineError(TerraMindError, ValueError, RuntimeError):
    """An option that says how to run (model, engine, device, ...) cannot be met."""


class UnknownOptionError(EngineError, TypeError):
    """A keyword that no option has; also a TypeError, as for any Python call."""


class TerraMindWarning(UserWarning):
    """Input that can be embedded, but probably not as its owner thinks."""

    issue: Any = None
    """The issue of ``check`` that the warning speaks of."""


def explain(found: str, expected: str, remedy: str) -> str:
    """Join the three things that an error has to say into one message.

    Parameters
    ----------
    found, expected, remedy : str
        What is there, what should be there, and what to do about it.

    Returns
    -------
    str
    """
    return f"found {found}; expected {expected}. {remedy}"


def split_remedy(message: str) -> tuple[str, str]:
    """Split what `explain` has joined into (found and expected, remedy)."""
    found, semicolon, rest = message.partition("; expected ")
    expected, stop, remedy = rest.partition(". ")
    return (f"{found}{semicolon}{expected}{stop}", remedy) if stop else (message, "")


def did_you_mean(word: str, choices: list[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest choice, or nothing.

    Parameters
    ----------
    word : str
        What was typed.
    choices : list of str
        What would have been understood.

    Returns
    -------
    str
    """
    # Errors are rare: difflib's import time is paid only when one is raised.
    from difflib import get_close_matches

    close = get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def warn(message: str, issue: Any = None) -> None:
    """Give a `TerraMindWarning` at the caller's own line: the first frame outside the package."""
    warning = TerraMindWarning(message)
    warning.issue = issue
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        level, frame = level + 1, frame.f_back
    warnings.warn(warning, stacklevel=level)


def _is_ours(module: str | None) -> bool:
    return str(module).partition(".")[0] == __name__.partition(".")[0]


def import_optional(name: str, extra: str) -> Any:
    """Import a package that only some users need.

    Parameters
    ----------
    name : str
        Of the package.
    extra : str
        The extra of xr_terramind that brings it along.

    Raises
    ------
    ImportError
        With the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        missing = error.name or name
        remedy = f"Install it with: pip install 'xr_terramind[{extra}]'"
        raise ImportError(explain(f"no {missing}", name, remedy), name=missing) from error
