"""What an object is: a cube of which modality, an embedding of which model, a map made of one."""

from typing import Literal, NamedTuple

import xarray as xr

from xr_terramind.cube.bands import arrange_bands
from xr_terramind.cube.datasets import as_dataarray
from xr_terramind.cube.dims import add_band_dim, name_band_dim
from xr_terramind.errors import TerraMindError
from xr_terramind.model.modalities import MODALITIES, Modality, modality_of
from xr_terramind.options import setting
from xr_terramind.result.quantize import is_quantized

_MOST_BANDS = 64

Kind = Literal["cube", "grid", "pooled", "quantized", "map", "unknown"]


class Named(NamedTuple):
    """A kind, for programs, and a title, for people."""

    kind: Kind
    title: str


def name_kind(obj: xr.DataArray | xr.Dataset) -> Named:
    """Say what an object is, by names and attributes alone: no value is read."""
    if isinstance(obj, xr.Dataset) and is_quantized(obj):
        embedding = obj["embedding"]
        return Named("quantized", f"{_name_embedding(embedding)}, as int8 with a scale per vector")
    if isinstance(obj, xr.DataArray) and "model_key" in obj.attrs:
        if "feature" in obj.dims:
            kind: Kind = "grid" if {"y", "x"} <= set(obj.dims) else "pooled"
            return Named(kind, _name_embedding(obj))
        if {"y", "x"} <= set(obj.dims):
            made_of = f"made of {obj.attrs['model_key']}'s embedding"
            return Named("map", f"{obj.name or 'a map'} {made_of}, {_name_sizes(obj)}")
    return _name_cube(obj)


def _name_embedding(embedding: xr.DataArray) -> str:
    attrs = embedding.attrs
    made_of = f"of {attrs['modality']} " if "modality" in attrs else ""
    by = attrs.get("model_key", "an unknown model")
    return f"an embedding {made_of}by {by}, {_name_sizes(embedding)}"


def _name_cube(obj: xr.DataArray | xr.Dataset) -> Named:
    wanted = modality_of(setting("modality", "S2L2A"))
    # One pixel says as much of bands as all do, and costs nothing where bands have to be stacked.
    pixel = obj.isel({dim: slice(1) for dim, size in obj.sizes.items() if size > _MOST_BANDS})
    found = {
        modality: bands
        for modality in (wanted, *(other for other in MODALITIES.values() if other != wanted))
        if (bands := _find_bands(pixel, modality, lone=modality == wanted)) is not None
    }
    if not found:
        title = f"neither a cube that TerraMind takes nor an embedding, {_name_sizes(obj)}"
        return Named("unknown", title)
    whole = [modality for modality, (n_bands, _) in found.items() if n_bands == len(modality.bands)]
    # All bands of the modality that is set; else of most bands, and rather whole than in part.
    best = max(found, key=lambda modality: (found[modality][0], modality in whole))
    modality = wanted if wanted in whole else best
    n_bands, assumed = found[modality]
    of = f"{len(modality.bands)} band{'s' * (len(modality.bands) > 1)} of {_name_alike(modality)}"
    number = "" if modality in whole else f"{n_bands} of "
    order = ", in an order that is assumed" if assumed else ""
    return Named("cube", f"a cube with {number}the {of}{order}, {_name_sizes(obj)}")


def _find_bands(
    pixel: xr.DataArray | xr.Dataset, modality: Modality, *, lone: bool
) -> tuple[int, bool] | None:
    # How many bands of the modality are there, and whether their order is assumed; None without
    # any. A single image without bands is a DEM only for those who say so.
    try:
        array = as_dataarray(pixel, modality)
        array = name_band_dim(add_band_dim(array, modality) if lone else array)
        _, names, assumed = arrange_bands(
            array, modality, pick=True, missing_bands="mean", lone=lone
        )
    except TerraMindError:
        return None
    return len(names), assumed


def _name_alike(modality: Modality) -> str:
    names = [other.name for other in MODALITIES.values() if other.bands == modality.bands]
    return " or ".join(names)


def _name_sizes(obj: xr.DataArray | xr.Dataset) -> str:
    sizes = ", ".join(f"{dim} {size:,}" for dim, size in obj.sizes.items())
    crs = obj.rio.crs
    place = "no CRS" if crs is None else crs.to_string()[:60]
    return f"{sizes}, {place}{', lazy' if obj.chunks else ''}"
