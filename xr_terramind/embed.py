"""The recipes, read this first: check and arrange a cube, plan windows, encode, label."""

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import xarray as xr

from xr_terramind.blocks.graph import TASK_NAME, map_blocks
from xr_terramind.blocks.plan import Plan
from xr_terramind.cube.arrange import Cube
from xr_terramind.cube.bands import arrange_bands
from xr_terramind.cube.check import check_cube, inspect_cube
from xr_terramind.cube.datasets import as_dataarray, describe_caller
from xr_terramind.cube.dims import add_band_dim, name_band_dim
from xr_terramind.cube.report import InputReport
from xr_terramind.errors import BandError, explain, warn
from xr_terramind.inference.encode import check_and_encode, encode_block
from xr_terramind.inference.estimate import PlanReport, estimate
from xr_terramind.inference.request import EncodeRequest, make_plan, make_request
from xr_terramind.inference.resize import encode_resized
from xr_terramind.model import hub
from xr_terramind.model.modalities import Modality, modality_of
from xr_terramind.model.specs import model_spec
from xr_terramind.options import (
    EmbedKeywords,
    EmbedOptions,
    resolve_options,
    setting,
    show_options,
)
from xr_terramind.options.table import MissingBands, Output
from xr_terramind.result.attrs import find_lost, result_attrs
from xr_terramind.result.grid import cells_of, label, pool_grid


@show_options
def embed(
    cube: xr.DataArray | xr.Dataset, output: Output = "grid", **options: Unpack[EmbedKeywords]
) -> xr.DataArray:
    """Embed a cube with TerraMind: lazily where the cube is lazy, at once where it is not.

    Defaults may be set by `set_options` or by the environment.

    Parameters
    ----------
    cube : xarray.DataArray or xarray.Dataset
        With dimensions band, y and x in any order, and any others, such as time or sample: each of
        their entries is an image of its own. Or a Dataset with one variable per band, or with one
        that holds them; masks and quality layers beside them are left out.
    output : {"grid", "windows", "pooled"}, default "grid"
        ``"grid"``: one vector per patch of 16 x 16 pixels, ``([time,] feature, y, x)``, with
        whatever else the cube has in front in place of time.
        ``"windows"``: one pooled vector per window. ``"pooled"``: one for the whole extent,
        ``([time,] feature)``.
    {options}

    Returns
    -------
    xarray.DataArray
        float32, named ``embedding``, georeferenced, with ``valid_fraction`` beside it and all that
        made it in its attrs.

    Raises
    ------
    BandError, GridError, ValueRangeError
        Where the cube does not fit; the value checks of a lazy cube come with its first block.
    WeightsError
        Where the weights are missing, incomplete or unreadable.
    EngineError
        For options that cannot be met.

    Examples
    --------
    >>> import xr_terramind as xtm
    >>> cube = xtm.sample_scene(224)
    >>> grid = cube.terramind.embed(model="terramind_v1_tiny", weights="random")
    >>> grid.sizes
    Frozen({'feature': 192, 'y': 14, 'x': 14})
    """
    chosen = resolve_options(output=output, **options)
    return _embed_arranged(_arrange(cube, chosen, tell=True), chosen)


@show_options
def plan(
    cube: xr.DataArray | xr.Dataset,
    output: Output = "grid",
    *,
    calibrate: bool = False,
    **options: Unpack[EmbedKeywords],
) -> PlanReport:
    """Say what `embed` would run; computes and downloads nothing.

    Parameters
    ----------
    cube : xarray.DataArray or xarray.Dataset
        As for `embed`.
    output : {"grid", "windows", "pooled"}, default "grid"
        As for `embed`.
    calibrate : bool, default False
        Run the model on made-up windows for two seconds, with random weights, to tell how long
        the embedding would take on this machine.
    {options}

    Returns
    -------
    PlanReport
        Windows, patches, blocks, tasks, shape and bytes of the output (float32 and int8), memory
        per task and per worker; time with `calibrate`.

    Raises
    ------
    BandError, GridError, ValueRangeError, EngineError
        As `embed`.
    """
    chosen = resolve_options(output=output, **options)
    return estimate(_arrange(cube, chosen), chosen, calibrate=calibrate)


def check(
    cube: xr.DataArray | xr.Dataset,
    sample: int | None = None,
    *,
    modality: str | None = None,
    missing_bands: MissingBands | None = None,
) -> InputReport:
    """Look for what would make the embedding wrong: dims, bands, CRS, resolution, values.

    Parameters
    ----------
    cube : xarray.DataArray or xarray.Dataset
        As for `embed`.
    sample : int, optional
        Windows to read for the values; of a lazy cube 4 by default, of a series one per date, too.
    modality : str, optional
        ``"S2L2A"`` where no option says otherwise.
    missing_bands : {"error", "mean"}, optional
        As for `embed`.

    Returns
    -------
    InputReport
        With ``.ok``, ``.issues`` and ``.raise_for_errors()``.
    """
    options = _resolve_given(modality=modality, missing_bands=missing_bands)
    _, arranged = inspect_cube(cube, **_say_how(options))
    report = check_cube(cube, sample=sample, **_say_how(options))
    if arranged is None:
        return report
    return replace(report, issues=(*report.issues, *find_lost(cube, arranged.data)))


def arrange(
    cube: xr.DataArray | xr.Dataset,
    modality: str | None = None,
    *,
    missing_bands: MissingBands | None = None,
) -> xr.DataArray:
    """Bring the bands into the model's order and names; surplus ones are left out.

    Parameters
    ----------
    cube : xarray.DataArray or xarray.Dataset
        As for `embed`.
    modality : str, optional
        ``"S2L2A"`` where no option says otherwise.
    missing_bands : {"error", "mean"}, optional
        As for `embed`: with ``"mean"``, the bands that are there are brought into order.

    Returns
    -------
    xarray.DataArray
        The same pixels with ``band = ['B1', ..., 'B12']``; dimensions stay in their order.

    Raises
    ------
    BandError
        For bands that are missing, doubled or unnamed in another number.
    """
    return _arrange_bands(cube, modality, missing_bands)[0]


def find_bands(cube: xr.DataArray | xr.Dataset) -> dict[str, Hashable]:
    """Map the model's bands to the cube's names; see `TerraMindAccessor.bands`."""
    return _arrange_bands(cube, None, None)[1]


def _arrange_bands(
    cube: xr.DataArray | xr.Dataset, modality: str | None, missing_bands: MissingBands | None
) -> tuple[xr.DataArray, dict[str, Hashable]]:
    options = _resolve_given(modality=modality, missing_bands=missing_bands)
    wanted = modality_of(options.modality)
    array = name_band_dim(add_band_dim(as_dataarray(cube, wanted), wanted), wanted)
    how: Any = {"missing_bands": options.missing_bands, "caller": describe_caller(cube, wanted)}
    return arrange_bands(array, wanted, pick=True, **how)[:2]


def _resolve_given(**given: Any) -> EmbedOptions:
    return resolve_options(**{name: value for name, value in given.items() if value})


def _say_how(options: EmbedOptions) -> dict[str, Any]:
    # What checks need to know of the options
    return {
        "modality": modality_of(options.modality),
        "window_px": options.window_size,
        "fit": options.fit,
        "missing_bands": options.missing_bands,
    }


def _arrange(cube: xr.DataArray | xr.Dataset, options: EmbedOptions, *, tell: bool = False) -> Cube:
    report, arranged = inspect_cube(cube, **_say_how(options))
    report.raise_for_errors()
    assert arranged is not None  # a report without errors comes with a cube
    for issue in (*report.warnings, *find_lost(cube, arranged.data)) if tell else ():
        warn(issue.message, issue)
    return arranged


def _embed_arranged(cube: Cube, options: EmbedOptions) -> xr.DataArray:
    request = make_request(cube, options)
    layout = make_plan(cube, options)
    features, valid = _encode(cube, layout, request, options)
    cells = cells_of(layout, fit=options.fit, output=options.output)
    attrs = result_attrs(cube, options, request, layout)
    grid = label(features, valid, cube.data, cube.grid, cells, attrs, cube.origins)
    return pool_grid(grid, options.pooling) if options.output == "pooled" else grid


def _encode(
    cube: Cube, layout: Plan, request: EncodeRequest, options: EmbedOptions
) -> tuple[Any, Any]:
    # -> features (..., feature, y, x) and valid fraction (..., y, x), in NumPy or Dask; in front
    # stand the cube's own dims.
    n_features = request.key.spec.dim
    encode = encode_resized if options.fit == "resize" else encode_block
    # Only a block that is the whole cube knows its dates, and may miss valid pixels.
    dates = cube.image_names if layout.n_blocks == 1 else None
    function = partial(check_and_encode, encode=encode, request=request, dates=dates)
    if cube.is_lazy:
        source = cube.data.data
        marked = partial(function, cube_name=source.name)
        return map_blocks(source, layout, marked, n_features=n_features, name=TASK_NAME)
    pixels = np.asarray(cube.data.values)
    images = pixels.reshape(-1, *pixels.shape[-3:])
    # In memory there is one block, and the graph would only be in the way.
    encoded = function(images, layout.row_blocks[0], layout.col_blocks[0])
    encoded = encoded.reshape(*pixels.shape[:-3], *encoded.shape[1:])
    return encoded[..., :n_features, :, :], encoded[..., n_features, :, :]


@show_options
def embed_array(
    array: np.ndarray, output: Output = "pooled", **options: Unpack[EmbedKeywords]
) -> np.ndarray:
    """Embed plain NumPy images: rs-embed's tensor backend.

    Parameters
    ----------
    array : ndarray, shape (..., band, y, x)
        Raw values (0..10000 for Sentinel-2), all of the modality's bands in the model's order.
    output : {"pooled", "grid", "windows"}, default "pooled"
        As for `embed`.
    {options}

    Returns
    -------
    ndarray of float32
        (..., feature) or (..., feature, y, x): with whatever axes were in front of the bands.

    Raises
    ------
    BandError
        Where the array has fewer than 3 axes, or another number of bands.

    Examples
    --------
    >>> import numpy as np, xr_terramind as xtm
    >>> chip = np.full((12, 224, 224), 1500, "int16")
    >>> xtm.embed_array(chip, model="terramind_v1_tiny", weights="random").shape
    (192,)
    """
    chosen = resolve_options(output=output, **options)
    modality = modality_of(chosen.modality)
    array = np.asarray(array)
    _check_array(array, modality)
    dims = *(f"axis_{axis}" for axis in range(array.ndim - 3)), "band", "y", "x"
    image = xr.DataArray(array, dims=dims, coords={"band": list(modality.bands)})
    return _embed_arranged(_arrange(image, chosen), chosen).values


def _check_array(array: np.ndarray, modality: Modality) -> None:
    if array.ndim < 3 or array.shape[-3] != len(modality.bands):
        raise BandError(
            explain(
                f"an array of shape {array.shape}",
                f"(band, y, x), with axes of images in front or without, and the "
                f"{len(modality.bands)} bands {', '.join(modality.bands)} of {modality.name}",
                "Move the bands to axis -3 and put them in this order.",
            )
        )


def download(model: str | None = None) -> Path:
    """Fetch a model's pretrained weights from the Hugging Face hub into the local cache.

    Parameters
    ----------
    model : str, optional
        A key of `list_models`; the default model where none is given.

    Returns
    -------
    Path
        The cached file.

    Raises
    ------
    EngineError
        For an unknown model.
    WeightsError
        Where the hub is out of reach or refuses.
    """
    return hub.download(model_spec(model or setting("model", "terramind_v1_small")))
