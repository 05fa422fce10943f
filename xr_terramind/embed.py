"""The recipe: check and arrange the cube, plan windows, encode, label the grid."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind.blocks.graph import map_blocks
from xr_terramind.blocks.plan import Plan, plan_resize, plan_windows
from xr_terramind.blocks.windows import AxisBlock
from xr_terramind.choices import EmbedOptions
from xr_terramind.cube.arrange import Cube, arrange_cube
from xr_terramind.cube.bands import invalid_pixels
from xr_terramind.cube.check import inspect_cube
from xr_terramind.cube.report import InputReport
from xr_terramind.cube.values import thin, value_issues
from xr_terramind.errors import BandError, TerraMindWarning, explain
from xr_terramind.inference.device import Runtime, resolve_runtime
from xr_terramind.inference.encode import encode_block, encode_resized
from xr_terramind.inference.engines.pytorch import verify_weights
from xr_terramind.inference.request import EncodeRequest
from xr_terramind.model.hub import download
from xr_terramind.model.modalities import Modality, modality_of
from xr_terramind.model.specs import model_spec
from xr_terramind.model.weights import locate
from xr_terramind.options import resolve_options
from xr_terramind.result.attrs import result_attrs
from xr_terramind.result.grid import cells_of, label, pool_grid

TASK_NAME = "terramind-embed"


def embed(obj: xr.DataArray | xr.Dataset, output: str = "grid", **options: Any) -> xr.DataArray:
    """Embed a cube; see `TerraMindAccessor.embed`.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
    output : str
    **options
        Fields of `EmbedOptions`.

    Returns
    -------
    xarray.DataArray
    """
    chosen = resolve_options(output=output, **options)
    cube = _checked(obj, chosen)
    return embed_cube(cube, chosen)


def embed_cube(cube: Cube, options: EmbedOptions) -> xr.DataArray:
    """Embed an arranged cube.

    Parameters
    ----------
    cube : Cube
    options : EmbedOptions

    Returns
    -------
    xarray.DataArray
    """
    request = make_request(cube, options)
    plan = make_plan(cube, options)
    features, valid = _run(cube, plan, request, options)
    cells = cells_of(plan, fit=options.fit, output=options.output)
    attrs = result_attrs(cube, options, request, plan)
    grid = label(features, valid, cube.data, cube.grid, cells, attrs)
    return pool_grid(grid, options.pooling) if options.output == "pooled" else grid


def make_plan(cube: Cube, options: EmbedOptions) -> Plan:
    """Lay windows over a cube.

    Parameters
    ----------
    cube : Cube
    options : EmbedOptions

    Returns
    -------
    Plan
    """
    if options.fit == "resize":
        pooled = options.output == "windows"
        return plan_resize(cube.shape, window_px=options.window_size, per_window=pooled)
    time_chunks = cube.data.chunksizes.get("time", (1,)) if cube.is_lazy else (1,)
    return plan_windows(
        cube.shape,
        window_px=options.window_size,
        overlap_px=options.overlap,
        pixel_bytes=cube.data.dtype.itemsize * cube.data.sizes["band"],
        times_per_chunk=max(time_chunks),
        per_window=options.output == "windows",
        in_memory=not cube.is_lazy,
    )


def make_request(cube: Cube, options: EmbedOptions) -> EncodeRequest:
    """Say all that a worker must know, having refused what cannot work.

    Parameters
    ----------
    cube : Cube
    options : EmbedOptions

    Returns
    -------
    EncodeRequest
        With engine, device and precision settled where this process will run it.

    Raises
    ------
    WeightsError, EngineError
        For weights and devices that are not there.
    """
    spec = model_spec(options.model)
    weights = locate(options.weights, spec)
    if weights.kind == "hub" and not weights.sha256 and not cube.is_lazy:
        download(spec)
        weights = locate(options.weights, spec)
    if weights.kind == "file" and cube.is_lazy:  # otherwise the model is loaded at once anyway
        verify_weights(weights, options.model, options.modality)
    runtime = Runtime(options.engine, options.device, options.precision)
    if not cube.is_lazy:
        runtime = resolve_runtime(*runtime)
    elif options.device not in ("auto", "cpu"):
        # Only refuses: a lazy cube may be computed elsewhere, and "auto" stays so until then.
        resolve_runtime(*runtime)
    return EncodeRequest(
        model=options.model,
        modality=options.modality,
        weights=weights,
        layer=options.layer,
        engine=runtime.engine,
        device=runtime.device,
        precision=runtime.precision,
        normalize=options.normalize,
        clip=options.clip_range,
        nodata=cube.nodata,
        window_px=options.window_size,
        batch_size=options.batch_size,
        min_valid_fraction=options.min_valid_fraction,
        pooling=options.pooling if options.output == "windows" else None,
        flip_y=cube.grid.flip_y,
        flip_x=cube.grid.flip_x,
    )


def _run(cube: Cube, plan: Plan, request: EncodeRequest, options: EmbedOptions) -> tuple[Any, Any]:
    # -> features ([time,] feature, y, x) and valid fraction ([time,] y, x), in NumPy or Dask
    n_features = model_spec(request.model).dim
    encode = encode_resized if options.fit == "resize" else encode_block
    function = partial(check_and_encode, encode=encode, request=request)
    if cube.is_lazy:
        source = cube.data.data
        marked = partial(function, cube_name=source.name)
        return map_blocks(source, plan, marked, n_features=n_features, name=TASK_NAME)
    pixels = np.asarray(cube.data.values)
    dated = "time" in cube.data.dims
    encoded = function(pixels if dated else pixels[None], plan.row_blocks[0], plan.col_blocks[0])
    features, valid = encoded[:, :n_features], encoded[:, n_features]
    return (features, valid) if dated else (features[0], valid[0])


def check_and_encode(
    pixels: np.ndarray,
    rows: AxisBlock,
    cols: AxisBlock,
    *,
    encode: Any,
    request: EncodeRequest,
    cube_name: str = "",
) -> np.ndarray:
    """Look at a block's values before encoding it, so that a wrong unit fails at the first block.

    Parameters
    ----------
    pixels : ndarray, shape (time, band, y, x)
    rows, cols : AxisBlock
    encode : callable
        ``encode_block`` or ``encode_resized``.
    request : EncodeRequest
    cube_name : str
        The same warning is given once a cube and process.

    Returns
    -------
    ndarray
        What `encode` returns.

    Raises
    ------
    ValueRangeError
        For 0-1 reflectance or linear backscatter, where values are to be z-scored.
    """
    if request.normalize == "zscore":  # who scales pixels by hand needs no unit checked
        _check_values(pixels, request, cube_name)
    return encode(pixels, rows, cols, request)


_warned: set[tuple[str, str]] = set()


def _check_values(pixels: np.ndarray, request: EncodeRequest, cube_name: str) -> None:
    modality = modality_of(request.modality)
    values = thin(pixels)
    invalid = invalid_pixels(values, request.nodata, modality)
    issues = value_issues(values, invalid, modality)
    report = InputReport(tuple(issues), {})
    report.raise_for_errors()
    for issue in report.warnings:
        if not cube_name or (cube_name, issue.code) not in _warned:
            _warned.add((cube_name, issue.code))
            warnings.warn(issue.message, TerraMindWarning, stacklevel=2)


def _checked(obj: xr.DataArray | xr.Dataset, options: EmbedOptions) -> Cube:
    modality = modality_of(options.modality)
    report, cube = inspect_cube(obj, modality, window_px=options.window_size, fit=options.fit)
    report.raise_for_errors()
    for issue in report.warnings:
        # Shown where the user called the accessor: user -> accessor -> embed -> here.
        warnings.warn(issue.message, TerraMindWarning, stacklevel=4)
    assert cube is not None  # a report without errors comes with a cube
    return cube


def embed_array(array: np.ndarray, output: str = "pooled", **options: Any) -> np.ndarray:
    """Embed plain NumPy images: rs-embed's tensor backend.

    Parameters
    ----------
    array : ndarray, shape (band, y, x) or (image, band, y, x)
        Raw values (0..10000 for Sentinel-2), all of the modality's bands in the model's order.
    output : {"pooled", "grid", "windows"}, default "pooled"
    **options
        As for `embed`.

    Returns
    -------
    ndarray of float32
        (feature,) or (feature, y, x); with the images in front where there was an image axis.

    Raises
    ------
    BandError
        Where the array has not 3 or 4 axes, or another number of bands.

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
    dims = ("time", "band", "y", "x")[-array.ndim :]
    image = xr.DataArray(array, dims=dims, coords={"band": list(modality.bands)})
    return embed_cube(arrange_cube(image, modality), chosen).values


def _check_array(array: np.ndarray, modality: Modality) -> None:
    if array.ndim not in (3, 4) or array.shape[-3] != len(modality.bands):
        raise BandError(
            explain(
                f"an array of shape {array.shape}",
                f"(band, y, x) or (image, band, y, x) with the {len(modality.bands)} bands "
                f"{', '.join(modality.bands)} of {modality.name}",
                "Move the bands to axis -3 and put them in this order.",
            )
        )
