"""Signatures and docstrings that list the options, for help, completion and the reference."""

import inspect
import re
import textwrap
from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from xr_terramind.options.table import OPTIONS

Target = TypeVar("Target", bound=Callable[..., Any])


class _Unchanged:
    def __repr__(self) -> str:
        return "<unchanged>"


def show_options(target: Target) -> Target:
    """Show each option where a signature has ``**options: Unpack[EmbedKeywords]``.

    `target` is a function, or a class whose ``__init__`` sets defaults. It is returned as it is,
    but for ``__signature__`` and for a line ``{options}`` in its docstring, which becomes the list.
    """
    sets_defaults = isinstance(target, type)
    function: Any = vars(target)["__init__"] if sets_defaults else target
    signature = inspect.signature(function)
    *before, keywords = signature.parameters.values()
    shown, entries = [], []
    for name, kind in get_args(keywords.annotation)[0].__annotations__.items():
        default = _Unchanged() if sets_defaults else OPTIONS[name].default
        one = keywords.replace(name=name, kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind)
        shown.append(one.replace(default=default))
        entries.append(_describe_option(name, kind))
    function.__signature__ = signature.replace(parameters=[*before, *shown])
    placeholder = re.compile(r"^( *)\{options\}$", re.MULTILINE)
    target.__doc__ = placeholder.sub(
        lambda found: textwrap.indent("\n".join(entries), found[1]), target.__doc__ or ""
    )
    return target


def _describe_option(name: str, kind: Any) -> str:
    default = OPTIONS[name].default
    shown = f'"{default}"' if isinstance(default, str) else default
    text = textwrap.fill(OPTIONS[name].metadata["help"], 84)
    return f"{name} : {_describe_type(kind)}, default {shown}\n{textwrap.indent(text, '    ')}"


# Types as numpydoc pages write them.
_TYPE_NAMES = {
    "NoneType": "None",
    "os.PathLike[str]": "path",
    "tuple[float, float]": "(float, float)",
}


def _describe_type(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_describe_type, get_args(kind)))
    if get_origin(kind) is Literal:
        choices = ", ".join(f'"{choice}"' for choice in get_args(kind))
        return f"{{{choices}}}" if len(get_args(kind)) > 1 else choices
    name = inspect.formatannotation(kind)
    return _TYPE_NAMES.get(name, name)
