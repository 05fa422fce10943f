"""Refuse what is no embedding, in one place: each check says found, expected and remedy."""

from collections.abc import Hashable
from typing import Any

import xarray as xr

from xr_terramind.errors import GridError, explain
from xr_terramind.result.cells import cell_borders, is_even, read_centres

_IMAGE = "a map (y, x), or one with bands: an embedding (feature, y, x) or colours (y, x, rgb)"


def check_vectors(embedding: Any) -> None:
    """Refuse what is no array of floats with a dimension ``feature``."""
    _check_dims(embedding, {"feature"}, "an embedding with feature")
    if embedding.dtype.kind != "f":
        raise GridError(
            explain(
                f"an embedding of {embedding.dtype}",
                "an embedding of floats",
                "Turn int8 into floats first, with ds.terramind.dequantize(); "
                "to_zarr(..., dtype='int8') packs them again.",
            )
        )
    if not embedding.sizes["feature"]:
        found = "vectors of 0 features"
        expected = "an embedding of one feature at least"
        raise GridError(explain(found, expected, "Look at the selection that left nothing."))


def check_grid(embedding: Any, *, with_crs: bool = False) -> None:
    """Refuse what is no grid of vectors: floats with the dims feature, y and x; or has no CRS."""
    _check_dims(embedding, {"feature", "y", "x"}, "an embedding with feature, y and x")
    check_vectors(embedding)
    if with_crs:
        check_one_grid(embedding)
        check_crs(embedding)


def find_image_dims(array: xr.DataArray) -> list[Hashable]:
    """Return the dimensions of an embedding, or of a map made of one, that count images.

    That is time, and any other but y and x, and that of features or colours. Of a map, a single
    dimension that is not time holds its bands.
    """
    others = [dim for dim in array.dims if dim not in ("y", "x")]
    of_vectors: list[Hashable] = [dim for dim in others if dim in ("feature", "rgb", "category")]
    bands = of_vectors or [dim for dim in others if dim != "time"]
    return [dim for dim in others if dim not in bands[:1]]


def check_one_grid(array: xr.DataArray) -> None:
    """Refuse images of which each has a y and x of its own: they are not on one map."""
    apart = [
        str(dim)
        for axis in ("y", "x")
        if axis in array.coords
        for dim in array.coords[axis].dims
        if dim != axis
    ]
    if apart:
        one = f"one = {_name(array)}.isel({', '.join(f'{dim}=0' for dim in dict.fromkeys(apart))})"
        crs = "one.crs.item()" if "crs" in array.coords else "..."
        raise GridError(
            explain(
                f"images that lie apart, each along its own y and x ({', '.join(set(apart))})",
                "images on one grid",
                f"Choose one: {one}; one = one.rio.write_crs({crs}).",
            )
        )


def _name(array: xr.DataArray) -> str:
    return "embedding" if "feature" in array.dims else "array"


def check_storable(embedding: Any) -> None:
    """Refuse what a store cannot describe, or what is empty."""
    check_made_by_embed(embedding, "feature")
    check_vectors(embedding)
    if not embedding.size:
        found = f"an empty embedding of shape {dict(embedding.sizes)}"
        expected = "at least one vector"
        raise GridError(explain(found, expected, "Look at the selection that left nothing."))


def check_made_by_embed(embedding: xr.DataArray | xr.Dataset, *dims: str) -> None:
    """Refuse what lacks the attributes that embed writes, or one of `dims`."""
    missing = [f"the dimension {dim!r}" for dim in dims if dim not in embedding.dims]
    if embedding.attrs.get("model") != "terramind" or "model_key" not in embedding.attrs:
        missing.append("the attributes that embed writes")
    if missing:
        raise GridError(
            explain(
                f"an array without {' and '.join(missing)}",
                "an embedding with its dimension 'feature' and its attributes: model, model_key, "
                "modality, ...",
                "Keep them through operations with xr.set_options(keep_attrs=True); what is no "
                "embedding is written by xarray's own methods.",
            )
        )


def check_crs(array: xr.DataArray) -> None:
    """Refuse an array that does not say where it lies."""
    if array.rio.crs is None:
        found = f"an {'embedding' if 'feature' in array.dims else 'array'} without a CRS"
        expected = "one that says where its cells lie"
        raise GridError(explain(found, expected, "Write it with .rio.write_crs(...)."))


def check_even(array: xr.DataArray) -> None:
    """Refuse cells that are not evenly spaced along y and x, or whose size is unknown."""
    for dim in ("y", "x"):
        cell_borders(array, dim)  # refuses a coordinate out of order, and a single cell of no size
    uneven = [dim for dim in ("y", "x") if not is_even(read_centres(array, dim))]
    if uneven:
        raise GridError(
            explain(
                f"cells that are not evenly spaced along {' and '.join(uneven)}",
                "one step from each cell to the next",
                "Embed an extent of whole windows, or write to Zarr or NetCDF, whose coordinates "
                "say where each cell lies.",
            )
        )


def check_image(array: Any) -> None:
    """Refuse what a GeoTIFF cannot hold: it is one image of evenly spaced cells, with bands."""
    _check_dims(array, {"y", "x"}, _IMAGE)
    check_one_grid(array)
    several = [dim for dim in find_image_dims(array) if array.sizes[dim] > 1]
    if several:
        sizes = ", ".join(f"{array.sizes[dim]} along {dim}" for dim in several)
        found = f"several images, {sizes}"
        if several == ["time"]:
            found = f"a time series of {array.sizes['time']} dates"
        choice = ", ".join(f"{dim}=0" for dim in several)
        remedy = f"Choose it with .isel({choice}), or write to Zarr or NetCDF."
        raise GridError(explain(found, "one date, or one image, for a GeoTIFF", remedy))
    if array.dtype.kind not in "fiub":
        remedy = "Convert it with .astype(...)."
        raise GridError(explain(f"values of {array.dtype}", "numbers", remedy))
    check_even(array)


def _check_dims(array: Any, dims: set[str], expected: str) -> None:
    is_array = isinstance(array, xr.DataArray)
    if is_array and dims <= set(array.dims):
        return
    found = f"dimensions {tuple(getattr(array, 'dims', ()))}"
    remedy = "Use embed(output='grid') or embed(output='windows'), and keep these dimensions."
    if isinstance(array, xr.Dataset):
        remedy = 'Take one array out of it, for example ds["embedding"] or ds["label"].'
    elif expected == _IMAGE:
        remedy = "Use embed(output='grid'); one pooled vector goes to Zarr or NetCDF."
    raise GridError(
        explain(found if is_array else f"a {type(array).__name__} with {found}", expected, remedy)
    )
