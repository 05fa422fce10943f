"""Refuse what is no embedding, in one place."""

from typing import Any

import xarray as xr

from xr_terramind.errors import GridError, explain


def check_grid(embedding: Any, *, with_crs: bool = False) -> None:
    """Refuse what is no grid of vectors.

    Parameters
    ----------
    embedding : object
    with_crs : bool, default False
        Ask for a CRS, too.

    Raises
    ------
    GridError
        For anything but floats with the dims feature, y and x.
    """
    is_array = isinstance(embedding, xr.DataArray)
    if not is_array or not {"feature", "y", "x"} <= set(embedding.dims):
        dims = f"dimensions {tuple(getattr(embedding, 'dims', ()))}"
        raise GridError(
            explain(
                dims if is_array else f"a {type(embedding).__name__} with {dims}",
                "an embedding with feature, y and x",
                "Use embed(output='grid') or embed(output='windows').",
            )
        )
    if embedding.dtype.kind != "f":
        raise GridError(
            explain(
                f"an embedding of {embedding.dtype}",
                "floats",
                "Turn int8 into floats first, with ds.terramind.dequantize().",
            )
        )
    if with_crs and embedding.rio.crs is None:
        raise GridError(
            explain(
                "an embedding without a CRS",
                "one that says where its patches lie",
                "Write it with embedding.rio.write_crs(...).",
            )
        )
