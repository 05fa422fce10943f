"""The options of ``embed``: what each may be, checked one by one and together."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast

from xr_terramind.blocks.windows import check_window
from xr_terramind.errors import EngineError, GridError, did_you_mean, explain
from xr_terramind.model.modalities import modality_of
from xr_terramind.model.specs import PRETRAINING_PX, model_spec
from xr_terramind.model.statistics import statistics

Output = Literal["grid", "windows", "pooled"]
Clip = tuple[float, float] | Literal["auto"] | None


class EmbedKeywords(TypedDict, total=False):
    """Keywords of ``embed``; see `EmbedOptions` for what they mean."""

    model: str
    modality: str
    weights: str | os.PathLike[str]
    normalize: str
    layer: int
    pooling: str
    fit: str
    window_size: int
    overlap: int
    clip: tuple[float, float] | str | None
    min_valid_fraction: float
    engine: str
    device: str
    precision: str
    batch_size: int | str


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """How a cube is embedded.

    Parameters
    ----------
    output : {"grid", "windows", "pooled"}
        One vector a 16 x 16-pixel patch, one a window, or one for the whole extent.
    model : str
        ``terramind_v1_tiny``, ``_small``, ``_base``, ``_large`` or ``terramind_v01_base``.
    modality : str
        ``S2L2A``, ``S2L1C``, ``RGB``, ``S1GRD``, ``S1RTC`` or ``DEM``.
    weights : str
        ``"pretrained"`` (Hugging Face hub), ``"random"`` (seeded), or a path to a ``.pt`` or
        ``.safetensors`` state dict.
    normalize : {"zscore", "raw", "none"}
        ``"zscore"`` takes the statistics of the model's pretraining.
    layer : int
        Encoder block whose output is returned; -1 is the last, through the final norm.
    pooling : {"mean", "max"}
        Over valid tokens, for ``output="windows"`` and ``"pooled"``.
    fit : {"windows", "resize"}
        Native resolution in windows, or the whole extent resized bilinearly to one window.
    window_size : int
        Edge of a window in pixels, a multiple of 16.
    overlap : int
        Pixels that neighbouring windows share, a multiple of 32.
    clip : "auto", pair of float or None
        Range to which raw values are clipped before normalisation.
    min_valid_fraction : float
        Patches with less valid area than this (0 to 1) come out NaN.
    engine : {"auto", "torch", "terratorch", "openvino"}
        What runs the encoder.
    device : str
        ``"auto"`` or a torch device, for example ``"cpu"`` or ``"cuda:0"``.
    precision : {"auto", "float32", "bfloat16", "float16"}
        Number format of the encoder; ``"auto"`` is float32 on a CPU.
    batch_size : int or "auto"
        Windows a forward pass.
    """

    output: Output = "grid"
    model: str = "terramind_v1_small"
    modality: str = "S2L2A"
    weights: str = "pretrained"
    normalize: str = "zscore"
    layer: int = -1
    pooling: str = "mean"
    fit: str = "windows"
    window_size: int = PRETRAINING_PX
    overlap: int = 0
    clip: Clip = "auto"
    min_valid_fraction: float = 0.0
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | Literal["auto"] = "auto"

    @property
    def clip_range(self) -> tuple[float, float] | None:
        """The range that ``clip`` stands for in this modality."""
        return modality_of(self.modality).clip if self.clip == "auto" else self.clip


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if isinstance(value, str) and value.lower() in choices:
            return value.lower()
        raise EngineError(
            explain(
                f"{name}={value!r}",
                f"one of {', '.join(repr(choice) for choice in choices)}",
                f"Choose one of them.{did_you_mean(str(value), list(choices))}",
            )
        )

    return check


def _integer(name: str, value: Any) -> int:
    # bool is an int to Python, but never meant as a layer or a size.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise EngineError(explain(f"{name}={value!r}", "an integer", "Pass a whole number."))
    return int(value)


def positive_or_auto(name: str, value: Any) -> int | Literal["auto"]:
    """Accept ``"auto"`` or an integer from 1.

    Parameters
    ----------
    name : str
        The option, for the error.
    value : object

    Returns
    -------
    int or "auto"

    Raises
    ------
    EngineError
        For anything else.
    """
    if value == "auto":
        return "auto"
    if _integer(name, value) < 1:
        raise EngineError(
            explain(f"{name}={value!r}", "'auto' or an integer from 1", "Leave it at 'auto'.")
        )
    return int(value)


def _fraction(name: str, value: Any) -> float:
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = float("nan")
    if 0.0 <= fraction <= 1.0:
        return fraction
    raise EngineError(
        explain(f"{name}={value!r}", "a share from 0 to 1", "0.5 keeps half-valid patches.")
    )


def _clip(name: str, value: Any) -> Clip:
    if value is None or value == "auto":
        return cast(Clip, value)
    try:
        low, high = (float(limit) for limit in value)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if low < high:
        return low, high
    raise EngineError(
        explain(
            f"{name}={value!r}",
            "'auto', None, or a pair (low, high) with low < high",
            "'auto' is (0, 10000) for Sentinel-2.",
        )
    )


def _weights(name: str, value: Any) -> str:
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return str(os.fspath(value))
    raise EngineError(
        explain(f"{name}={value!r}", "'pretrained', 'random' or a path", "Pass a path as str.")
    )


def _device(name: str, value: Any) -> str:
    text = str(value).lower()  # torch.device("cuda:0") reads "cuda:0"
    kind, _, index = text.partition(":")
    if kind in ("auto", "cpu", "cuda", "mps") and (index.isdigit() or not index):
        return text
    raise EngineError(
        explain(f"{name}={value!r}", "'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'", "Try 'auto'.")
    )


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "output": _one_of("grid", "windows", "pooled"),
    "model": lambda name, value: model_spec(value).key,
    "modality": lambda name, value: modality_of(value).name,
    "weights": _weights,
    "normalize": _one_of("zscore", "raw", "none"),
    "layer": _integer,
    "pooling": _one_of("mean", "max"),
    "fit": _one_of("windows", "resize"),
    "window_size": _integer,
    "overlap": _integer,
    "clip": _clip,
    "min_valid_fraction": _fraction,
    "engine": _one_of("auto", "torch", "terratorch", "openvino"),
    "device": _device,
    "precision": _one_of("auto", "float32", "bfloat16", "float16"),
    "batch_size": positive_or_auto,
}


def check_together(options: EmbedOptions) -> None:
    """Refuse options that are fine alone but not with each other.

    Parameters
    ----------
    options : EmbedOptions

    Raises
    ------
    EngineError
        For a layer that the model does not have, or a modality that it was not pretrained on.
    GridError
        For a window or overlap that would cut patches, or an overlap without windows.
    """
    check_window(options.window_size, options.overlap)
    depth = model_spec(options.model).depth
    if not -depth <= options.layer < depth:
        raise EngineError(
            explain(
                f"layer={options.layer}",
                f"{-depth} to {depth - 1}: {options.model} has {depth} blocks",
                "-1 is the last block, through the final norm.",
            )
        )
    statistics(model_spec(options.model), modality_of(options.modality), options.normalize)
    if options.fit == "resize" and options.overlap:
        raise GridError(
            explain(
                f"overlap={options.overlap} with fit='resize'",
                "no overlap, as the whole extent is one window",
                "Leave overlap at 0, or use fit='windows'.",
            )
        )
