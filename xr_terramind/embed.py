"""The recipe: check and arrange the cube, plan windows, encode, label the grid."""

import warnings
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xr_terramind.blocks.graph import TASK_NAME, map_blocks
from xr_terramind.blocks.plan import Plan
from xr_terramind.choices import EmbedOptions
from xr_terramind.cube.arrange import Cube, arrange_cube
from xr_terramind.cube.bands import arrange_bands
from xr_terramind.cube.check import check_cube, inspect_cube
from xr_terramind.cube.dims import as_dataarray, lone_band, name_band_dim
from xr_terramind.cube.report import InputReport
from xr_terramind.errors import BandError, TerraMindWarning, explain
from xr_terramind.inference.encode import check_and_encode, encode_block
from xr_terramind.inference.estimate import PlanReport, estimate
from xr_terramind.inference.request import EncodeRequest, make_plan, make_request
from xr_terramind.inference.resize import encode_resized
from xr_terramind.model import hub
from xr_terramind.model.modalities import MODALITIES, Modality, modality_of
from xr_terramind.model.specs import MODELS, model_spec
from xr_terramind.options import resolve_options, setting
from xr_terramind.result.attrs import result_attrs
from xr_terramind.result.grid import cells_of, label, pool_grid

Source = xr.DataArray | xr.Dataset


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


def plan(
    obj: Source, output: str = "grid", *, calibrate: bool = False, **options: Any
) -> PlanReport:
    """Say what `embed` would run; see `TerraMindAccessor.plan`."""
    chosen = resolve_options(output=output, **options)
    return estimate(_checked(obj, chosen, warn=False), chosen, calibrate=calibrate)


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
    layout = make_plan(cube, options)
    features, valid = _run(cube, layout, request, options)
    cells = cells_of(layout, fit=options.fit, output=options.output)
    attrs = result_attrs(cube, options, request, layout)
    grid = label(features, valid, cube.data, cube.grid, cells, attrs)
    return pool_grid(grid, options.pooling) if options.output == "pooled" else grid


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


def _checked(obj: xr.DataArray | xr.Dataset, options: EmbedOptions, *, warn: bool = True) -> Cube:
    modality = modality_of(options.modality)
    report, cube = inspect_cube(obj, modality, window_px=options.window_size, fit=options.fit)
    report.raise_for_errors()
    for issue in report.warnings if warn else ():
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


def arrange(obj: Source, modality: str | None = None) -> xr.DataArray:
    """Bring bands into the model's order and names; see `TerraMindAccessor.arrange`.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
    modality : str, optional

    Returns
    -------
    xarray.DataArray
        Dimensions stay in their order; the band dimension is called ``band``.
    """
    return _arranged(obj, modality)[0]


def find_bands(obj: Source) -> dict[str, Hashable]:
    """Map the model's bands to the cube's names; see `TerraMindAccessor.bands`.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset

    Returns
    -------
    dict
    """
    return _arranged(obj, None)[1]


def _arranged(obj: Source, modality: str | None) -> tuple[xr.DataArray, dict[str, Hashable]]:
    wanted = modality_of(modality or resolve_options().modality)
    array = name_band_dim(lone_band(as_dataarray(obj), wanted))
    arranged, names, _ = arrange_bands(array, wanted, pick=True)
    return arranged, names


def check(obj: Source, sample: int | None = None, modality: str | None = None) -> InputReport:
    """Check a cube and a sample of its values; see `TerraMindAccessor.check`.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
    sample : int, optional
    modality : str, optional

    Returns
    -------
    InputReport
    """
    options = resolve_options(**({"modality": modality} if modality else {}))
    return check_cube(
        obj,
        modality_of(options.modality),
        window_px=options.window_size,
        fit=options.fit,
        sample=sample,
    )


def list_models() -> pd.DataFrame:
    """List TerraMind's encoders.

    Returns
    -------
    pandas.DataFrame
        Indexed by model key: ``features`` of a token, ``blocks``, ``parameters`` (with the S2L2A
        patch embedding), ``hub_id``, ``hub_file``, and whether the file is ``cached`` here.
    """
    n_bands = len(MODALITIES["S2L2A"].bands)
    rows = {
        key: {
            "features": spec.dim,
            "blocks": spec.depth,
            "parameters": spec.parameters(n_bands),
            "hub_id": spec.hub_id,
            "hub_file": spec.hub_file,
            "cached": hub.cached_file(spec) is not None,
        }
        for key, spec in MODELS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


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
