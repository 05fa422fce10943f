"""The flags of ``xr-terramind``: options of ``embed``, made from their table; what a file is."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from xr_terramind.cli.mend.mends import Mends
from xr_terramind.options import OPTIONS


def _read_clip(text: str) -> tuple[float, float] | str:
    if text in ("auto", "none"):
        return text
    try:
        low, high = (float(limit) for limit in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"found {text!r}; expected LOW,HIGH or auto or none. For example --clip 0,10000."
        ) from None
    return low, high


def _read_batch_size(text: str) -> int | str:
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise typer.BadParameter(f"found {text!r}; expected auto or a whole number. Leave it out.")


_PARSERS = {"clip": _read_clip, "batch_size": _read_batch_size}

# What a value looks like where no short list of choices says it.
_METAVARS = {
    "model": "KEY",
    "weights": "pretrained|random|PATH",
    "clip": "LOW,HIGH|auto|none",
    "device": "auto|cpu|cuda|cuda:N|mps",
    "batch_size": "auto|N",
}


def add_flags(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag per option, in place of its ``**options``.

    The command receives only those that are given, so that the environment's defaults apply to the
    others.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:
            options = {name: given.pop(name) for name in names}
            options = {name: value for name, value in options.items() if value is not None}
            # The one option of which None is a value: pixels are not clipped.
            if options.get("clip") == "none":
                options["clip"] = None
            command(**given, **options)

        signature = inspect.signature(command)
        *own, _ = signature.parameters.values()
        flags = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_make_flag(name)
            )
            for name in names
        ]
        run.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
        return run

    return decorate


def _make_flag(name: str) -> Any:
    option = OPTIONS[name]
    choices = get_args(option.type) if get_origin(option.type) is Literal else ()
    flag = typer.Option(
        help=option.metadata["help"],
        metavar=_METAVARS.get(name, "|".join(choices) or None),
        parser=_PARSERS.get(name),
        autocompletion=(lambda: list(choices)) if choices else None,
    )
    # Choices are texts here: the package refuses others, with what was probably meant.
    kind: Any = option.type if option.type in (int, float) else str
    return Annotated[Any if name in _PARSERS else kind | None, flag]


# fmt: off
_MENDS: dict[str, Any] = {
    "bands": Annotated[str | None, typer.Option(metavar="B2,B3,...",
        help="Names of the file's bands in its order, some of the names that it has, or pairs such "
        "as red=B4 or 3=B2, with numbers from 1.")],
    "nodata": Annotated[list[float] | None, typer.Option(metavar="VALUE",
        help="A value of the file that stands for no data; may be given again.")],
    "scale": Annotated[float | None, typer.Option(metavar="FACTOR",
        help="Multiply values by this; no data stays as it is.")],
    "offset": Annotated[float | None, typer.Option(metavar="NUMBER",
        help="Add this to values, after --scale; no data stays as it is.")],
    "decibels": Annotated[bool, typer.Option("--decibels",
        help="Values are linear power: take 10 * log10 of them.")],
    "crs": Annotated[str | None, typer.Option(metavar="EPSG:...",
        help="The CRS of the file, in place of its own.")],
    "warp": Annotated[str | None, typer.Option(metavar="EPSG:...",
        help="Resample a .tif to north up and pixels of 10 m in this CRS, as it is read.")],
}
# fmt: on


def add_mends(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags that say what a file does not say itself, as its ``mends``."""

    @wraps(command)
    def run(**given: Any) -> None:
        told = {name: given.pop(name) for name in _MENDS}
        told["nodata"] = tuple(told["nodata"] or ())
        if told["scale"] == 0:
            raise typer.BadParameter("found --scale 0; expected another number. Leave it out.")
        command(**given, mends=Mends(**told))

    signature = inspect.signature(command)
    own = [one for name, one in signature.parameters.items() if name != "mends"]
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if name == "decibels" else None,
            annotation=annotation,
        )
        for name, annotation in _MENDS.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    return run
