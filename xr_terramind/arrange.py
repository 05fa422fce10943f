"""What the accessor offers beside ``embed``: bands, their order, a check; defaults filled in."""

from collections.abc import Hashable

import xarray as xr

from xr_terramind.cube.arrange import arrange_bands
from xr_terramind.cube.check import check_cube
from xr_terramind.cube.dims import as_dataarray, lone_band, name_band_dim
from xr_terramind.cube.report import InputReport
from xr_terramind.model.modalities import modality_of
from xr_terramind.options import resolve_options

Source = xr.DataArray | xr.Dataset


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
