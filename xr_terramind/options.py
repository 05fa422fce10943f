"""What a caller may choose: one frozen object, its defaults and the environment that sets them.

Explicit argument > `set_options` > ``XR_TERRAMIND_*`` > ``RS_EMBED_TERRAMIND_*`` > default.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from types import TracebackType
from typing import Any

from xr_terramind.choices import CHECKS, EmbedOptions, check_together, positive_or_auto
from xr_terramind.errors import (
    EngineError,
    TerraMindError,
    UnknownOptionError,
    did_you_mean,
    explain,
)

_SETTINGS: dict[str, Callable[[str, Any], Any]] = {**CHECKS, "fetch_workers": positive_or_auto}

# Set by `set_options`; read by `resolve_options` in the caller's thread, never by workers.
_current: dict[str, Any] = {}


def _weights_switch(text: str) -> str:
    switches = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    return "pretrained" if switches[text.strip().lower()] else "random"


# Option -> (environment variable without its prefix, how its text is read).
_ENVIRONMENT: dict[str, tuple[str, Callable[[str], Any]]] = {
    "model": ("MODEL_KEY", str),
    "modality": ("MODALITY", str),
    "normalize": ("NORMALIZE", str),
    "layer": ("LAYER_INDEX", int),
    "weights": ("PRETRAINED", _weights_switch),
    "fetch_workers": ("FETCH_WORKERS", int),
}


def _set_in_environment(name: str) -> Iterator[tuple[str, str]]:
    if name in _ENVIRONMENT:
        for prefix in ("XR_TERRAMIND_", "RS_EMBED_TERRAMIND_"):
            variable = prefix + _ENVIRONMENT[name][0]
            if os.environ.get(variable):
                yield variable, os.environ[variable]


def _from_environment(name: str) -> Any:
    for variable, text in _set_in_environment(name):
        try:
            return _SETTINGS[name](name, _ENVIRONMENT[name][1](text))
        except (ValueError, KeyError) as error:
            raise EngineError(
                explain(
                    f"the environment variable {variable}={text!r}",
                    f"a value that {name!r} can have",
                    f"Correct it, or unset {variable}."
                    + (f" ({error})" if isinstance(error, TerraMindError) else ""),
                )
            ) from error
    return None


def setting(name: str, default: Any) -> Any:
    """Return an option that nobody passed: from `set_options`, the environment, or `default`.

    Parameters
    ----------
    name : str
        Name of the option.
    default : object
        Its value where nothing sets it.

    Returns
    -------
    object

    Raises
    ------
    EngineError
        Where the environment holds something that the option cannot be.
    """
    if name in _current:
        return _current[name]
    value = _from_environment(name)
    return default if value is None else value


def _check_names(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            raise UnknownOptionError(
                explain(
                    f"the unknown option {name!r}",
                    f"one of {', '.join(known)}",
                    "See the parameters of embed." + did_you_mean(name, list(known)),
                )
            )


def resolve_options(**given: Any) -> EmbedOptions:
    """Validate what the caller gave and fill in the rest.

    Parameters
    ----------
    **given
        Any fields of `EmbedOptions`.

    Returns
    -------
    EmbedOptions

    Raises
    ------
    EngineError
        For an unknown option or a value that it cannot have.
    BandError
        For an unknown modality.
    GridError
        For a window or overlap that would cut patches.
    """
    _check_names(given, CHECKS)
    values = {
        field.name: CHECKS[field.name](field.name, given[field.name])
        if field.name in given
        else setting(field.name, field.default)
        for field in fields(EmbedOptions)
    }
    options = EmbedOptions(**values)
    try:
        check_together(options)
    except TerraMindError as error:
        read = [
            f"{variable}={text!r}"
            for name in _ENVIRONMENT.keys() - given.keys() - _current.keys()
            if name in values
            for variable, text in _set_in_environment(name)
        ]
        if not read:
            raise
        raise type(error)(f"{error} The environment has {', '.join(sorted(read))}.") from error
    return options


class set_options:
    """Set defaults for this process, or within a ``with`` block.

    Parameters
    ----------
    **options
        Any keyword of ``embed``, and ``fetch_workers``.

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

    def __init__(self, **options: Any) -> None:
        _check_names(options, _SETTINGS)
        checked = {name: _SETTINGS[name](name, value) for name, value in options.items()}
        self._before = dict(_current)
        _current.update(checked)

    def __enter__(self) -> "set_options":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.clear()
        _current.update(self._before)
