"""The value of each option: passed, set for the process, from the environment, or the default."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Unpack

from xr_terramind.errors import (
    EngineError,
    TerraMindError,
    UnknownOptionError,
    did_you_mean,
    explain,
)
from xr_terramind.options.show import show_options
from xr_terramind.options.table import OPTIONS, EmbedOptions, SettingKeywords, check_together

# Set by `set_options`; read by `resolve_options` in the caller's thread, never by workers.
_current: dict[str, Any] = {}


def _find_variables(name: str) -> Iterator[tuple[str, str]]:
    suffix = OPTIONS[name].metadata["variable"]
    for prefix in ("XR_TERRAMIND_", "RS_EMBED_TERRAMIND_"):
        if suffix and os.environ.get(prefix + suffix):
            yield prefix + suffix, os.environ[prefix + suffix]


def _read_environment(name: str) -> Any:
    about = OPTIONS[name].metadata
    for variable, text in _find_variables(name):
        try:
            return about["check"](name, about["read"](text))
        except (ValueError, KeyError) as error:
            found = f"the environment variable {variable}={text!r}"
            remedy = f"Correct it, or unset {variable}."
            if isinstance(error, TerraMindError):
                remedy += f" ({error})"
            expected = f"a value that {name!r} can have"
            raise EngineError(explain(found, expected, remedy)) from error
    return None


def setting(name: str, default: Any) -> Any:
    """Return an option that nobody passed: from `set_options`, the environment, or `default`.

    Raises EngineError where the environment holds something that the option cannot be.
    """
    if name in _current:  # where None may be a value
        return _current[name]
    value = _read_environment(name)
    return default if value is None else value


def _check_names(given: Mapping[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            remedy = "See the parameters of embed." + did_you_mean(name, known)
            expected = f"one of {', '.join(known)}"
            raise UnknownOptionError(explain(f"the unknown option {name!r}", expected, remedy))


def resolve_options(**given: Any) -> EmbedOptions:
    """Check what the caller gave and fill in the rest.

    Raises EngineError (an unknown option, or a value that it cannot have), BandError (an unknown
    modality) or GridError (a window or overlap that would cut patches).
    """
    table = {option.name: option for option in fields(EmbedOptions)}
    _check_names(given, list(table))
    options = EmbedOptions(
        **{
            name: option.metadata["check"](name, given[name])
            if name in given
            else setting(name, option.default)
            for name, option in table.items()
        }
    )
    try:
        check_together(options)
    except TerraMindError as error:
        variables = [
            f"{variable}={text!r}"
            for name in table.keys() - given.keys() - _current.keys()
            for variable, text in _find_variables(name)
        ]
        if not variables:
            raise
        read = f"The environment has {', '.join(sorted(variables))}."
        raise type(error)(f"{error} {read}") from error
    return options


@show_options
class set_options:
    """Set defaults for this process, or within a ``with`` block.

    Parameters
    ----------
    {options}

    Raises
    ------
    EngineError
        For an unknown option or a value that it cannot have.

    Examples
    --------
    >>> import xr_terramind as xtm
    >>> with xtm.set_options(model="terramind_v1_tiny", device="cpu"):
    ...     pass
    """

    def __init__(self, **options: Unpack[SettingKeywords]) -> None:
        _check_names(options, list(OPTIONS))
        checked = {
            name: OPTIONS[name].metadata["check"](name, value) for name, value in options.items()
        }
        self._before = dict(_current)
        _current.update(checked)

    def __enter__(self) -> "set_options":
        return self

    def __exit__(self, *_: object) -> None:
        _current.clear()
        _current.update(self._before)
