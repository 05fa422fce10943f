# ruff: noqa: RUF009 - `_option` is `dataclasses.field` with the columns of the table
"""Every option once: what it may be, its default, its environment variable and its help."""

import os
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, TypedDict, get_args

from xr_terramind.blocks.windows import check_window
from xr_terramind.errors import EngineError, GridError, did_you_mean, explain
from xr_terramind.model.modalities import modality_of
from xr_terramind.model.specs import PRETRAINING_PX, model_spec

# fmt: off
Model = Literal["terramind_v1_tiny", "terramind_v1_small", "terramind_v1_base",
                "terramind_v1_large", "terramind_v01_base"]
# fmt: on
Modality = Literal["S2L2A", "S2L1C", "RGB", "S1GRD", "S1RTC", "DEM"]
Output = Literal["grid", "windows", "pooled"]
Normalize = Literal["zscore", "raw", "none"]
Pooling = Literal["mean", "max"]
Fit = Literal["windows", "resize"]
Clip = Literal["auto"] | tuple[float, float] | None
Engine = Literal["auto", "torch", "terratorch", "openvino"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
MissingBands = Literal["error", "mean"]
Count = int | Literal["auto"]

Check = Callable[[str, Any], Any]  # name, value -> the value as it is kept, or an error


def _make_error(name: str, value: Any, expected: str, remedy: str) -> EngineError:
    return EngineError(explain(f"{name}={value!r}", expected, remedy))


def _check_choice(kind: Any) -> Check:
    choices = list(get_args(kind))

    def check(name: str, value: Any) -> str:
        if isinstance(value, str) and value.lower() in choices:
            return value.lower()
        remedy = f"Choose one of them.{did_you_mean(str(value), choices)}"
        raise _make_error(name, value, f"one of {', '.join(map(repr, choices))}", remedy)

    return check


def _check_integer(name: str, value: Any) -> int:
    # bool is an int to Python, but never meant as a layer or a size.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _make_error(name, value, "an integer", "Pass a whole number.")
    return int(value)


def _check_count(name: str, value: Any) -> Count:
    if value == "auto":
        return "auto"
    if _check_integer(name, value) < 1:
        raise _make_error(name, value, "'auto' or an integer from 1", "Leave it at 'auto'.")
    return int(value)


def _check_fraction(name: str, value: Any) -> float:
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = float("nan")
    if 0.0 <= fraction <= 1.0:
        return fraction
    raise _make_error(name, value, "a share from 0 to 1", "0.5 keeps half-valid patches.")


def _check_clip(name: str, value: Any) -> Clip:
    if value is None or value == "auto":
        return value
    try:
        low, high = (float(limit) for limit in value)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if low < high:
        return low, high
    expected = "'auto', None, or a pair (low, high) with low < high"
    raise _make_error(name, value, expected, "'auto' is (0, 10000) for Sentinel-2.")


def _check_weights(name: str, value: Any) -> str:
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return str(os.fspath(value))
    raise _make_error(name, value, "'pretrained', 'random' or a path", "Pass a path as str.")


def _check_device(name: str, value: Any) -> str:
    text = str(value).lower()  # torch.device("cuda:0") reads "cuda:0"
    kind, _, index = text.partition(":")
    if kind in ("auto", "cpu", "cuda", "mps") and (index.isdigit() or not index):
        return text
    raise _make_error(name, value, "'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'", "Try 'auto'.")


def _read_switch(text: str) -> str:
    switches = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    return "pretrained" if switches[text.strip().lower()] else "random"


def _option(
    default: Any, check: Check, text: str, variable: str = "", read: Callable[[str], Any] = str
) -> Any:
    # `text` is the help; `variable` follows a prefix in the environment, and `read` reads it.
    about = {"check": check, "help": text, "variable": variable, "read": read}
    return field(default=default, metadata=about)


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """How a cube is embedded."""

    # A row per option: what it may be, and below it the help and the variable.
    # fmt: off
    output: Output = _option("grid", _check_choice(Output),
        'One vector per 16 x 16-pixel patch ("grid"), per window, or for the whole extent.')
    model: Model = _option("terramind_v1_small", lambda _, value: model_spec(value).key,
        "TerraMind encoder; list_models(), or xr-terramind models, says how large each is.",
        variable="MODEL_KEY")
    modality: Modality = _option("S2L2A", lambda _, value: modality_of(value).name,
        "What the bands are: Sentinel-2, Sentinel-1 or elevation.", variable="MODALITY")
    weights: str = _option("pretrained", _check_weights,
        '"pretrained" (from the Hugging Face hub), "random" (from a fixed seed), or the path of a '
        ".pt or .safetensors state dict.", variable="PRETRAINED", read=_read_switch)
    normalize: Normalize = _option("zscore", _check_choice(Normalize),
        '"zscore" takes the mean and standard deviation of the model\'s pretraining, per band; '
        '"raw" and "none" leave values as they are.', variable="NORMALIZE")
    layer: int = _option(-1, _check_integer,
        "Encoder layer whose output is returned; -1 is the last, through the final norm.",
        variable="LAYER_INDEX", read=int)
    pooling: Pooling = _option("mean", _check_choice(Pooling),
        'Over valid patches, where the output is "windows" or "pooled".')
    fit: Fit = _option("windows", _check_choice(Fit),
        "Windows at native resolution, or the whole extent resized to one window.")
    window_size: int = _option(PRETRAINING_PX, _check_integer,
        "Edge of a window in pixels, a multiple of 16.")
    overlap: int = _option(0, _check_integer,
        "Pixels that neighbouring windows share, a multiple of 32. Each patch comes from the "
        "window in which it lies deepest.")
    clip: Clip = _option("auto", _check_clip,
        'Range to which raw values are clipped; "auto" is 0 to 10000 for Sentinel-2, 0 to 255 for '
        "RGB, and none for Sentinel-1 and DEM.")
    min_valid_fraction: float = _option(0.0, _check_fraction,
        "A patch with less valid area than this share (0 to 1), or none, is NaN.")
    engine: Engine = _option("auto", _check_choice(Engine),
        'What runs the encoder; "auto" is OpenVINO on a CPU where it is installed, and torch '
        'elsewhere; "terratorch" is TerraTorch\'s own model.')
    device: str = _option("auto", _check_device,
        '"auto" (a GPU where there is one), "cpu", "cuda", "cuda:N" or "mps".')
    precision: Precision = _option("auto", _check_choice(Precision),
        'Number format of the encoder; "auto" is float32 on a CPU, and on a GPU what its matrix '
        "units are fastest in.")
    batch_size: Count = _option("auto", _check_count, "Windows per forward pass of the encoder.")
    missing_bands: MissingBands = _option("error", _check_choice(MissingBands),
        'What becomes of bands that the cube lacks: an error, or they stand at their mean of '
        'pretraining ("mean"), and the attribute ``bands_missing`` lists them.')
    # fmt: on

    @property
    def clip_range(self) -> tuple[float, float] | None:
        """The range that ``clip`` stands for in this modality."""
        return modality_of(self.modality).clip if self.clip == "auto" else self.clip


OPTIONS: dict[str, Field[Any]] = {option.name: option for option in fields(EmbedOptions)}
# An option of the process and of no cube: only `set_options` and the environment set it.
# fmt: off
OPTIONS["fetch_workers"] = _option("auto", _check_count,
    'Requests to Earth Engine at the same time, per process; "auto" is 8.',
    variable="FETCH_WORKERS", read=int)
# fmt: on


class EmbedKeywords(TypedDict, total=False):
    """The options as keywords of ``embed``, for static type checkers."""

    model: Model
    modality: Modality
    weights: str | os.PathLike[str]
    normalize: Normalize
    layer: int
    pooling: Pooling
    fit: Fit
    window_size: int
    overlap: int
    clip: Clip
    min_valid_fraction: float
    engine: Engine
    device: str
    precision: Precision
    batch_size: Count
    missing_bands: MissingBands


class SettingKeywords(EmbedKeywords, total=False):
    """The options as keywords of `set_options`."""

    fetch_workers: Count


def check_together(options: EmbedOptions) -> None:
    """Refuse options that are fine alone but not with each other.

    Raises EngineError (a layer that the model does not have, a modality that it was not pretrained
    on) or GridError (a window or overlap that would cut patches, an overlap without windows).
    """
    check_window(options.window_size, options.overlap)
    depth = model_spec(options.model).depth
    if not -depth <= options.layer < depth:
        expected = f"{-depth} to {depth - 1}: {options.model} has {depth} layers"
        remedy = "-1 is the last layer, through the final norm."
        raise _make_error("layer", options.layer, expected, remedy)
    # Refuses a modality that the model was not pretrained on.
    modality_of(options.modality).scaling(model_spec(options.model), options.normalize)
    if options.fit == "resize" and options.overlap:
        found = f"overlap={options.overlap} with fit='resize'"
        expected = "no overlap, as the whole extent is one window"
        raise GridError(explain(found, expected, "Leave overlap at 0, or use fit='windows'."))
