"""Vectors at points: a table with one row per point, and per date where there are several."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.base import compute

from xr_terramind.errors import GridError, explain, import_optional, warn
from xr_terramind.result.cells import cell_borders, cells_at
from xr_terramind.result.check import check_grid, find_image_dims

if TYPE_CHECKING:
    import geopandas as gpd

_CELL = "cell that holds a point"  # no name that a dimension has

LON_LAT = "EPSG:4326"
"""What points are in that come as plain numbers."""


def sample(
    embedding: xr.DataArray, points: Any = None, *, lon: Any = None, lat: Any = None
) -> "gpd.GeoDataFrame":
    """Look up the vectors at points.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps others, such as time. Of a lazy one, only chunks that hold
        points are computed, all at once.
    points : geopandas.GeoDataFrame or GeoSeries, or array of shape (point, 2), optional
        In any CRS; an array holds longitudes and latitudes in degrees.
    lon, lat : array of shape (point,), optional
        Longitudes and latitudes in degrees, in place of `points`.

    Returns
    -------
    geopandas.GeoDataFrame
        The points with their columns, geometry, CRS, index and order, and ``feature_0``,
        ``feature_1``, ... (as the coordinate ``feature`` counts them), ``valid_fraction`` where the
        embedding has it, and ``inside``. Of a time series, one row for each date of a point, one
        after the other, with ``time``; the index of the point is repeated. Any other dims are
        columns likewise. Points outside the grid, empty ones and those without finite coordinates
        hold NaN, and ``inside`` is False.

    Raises
    ------
    GridError
        Where the embedding has no grid or CRS; for points without a CRS, geometries that are no
        points, and columns that have a name of those above.
    ImportError
        Without geopandas.

    Warns
    -----
    TerraMindWarning
        Of the number of points outside the grid.
    """
    check_grid(embedding, with_crs=True)
    table = _make_table(points, lon, lat)
    names = _name_features(embedding)
    images = [str(dim) for dim in find_image_dims(embedding)]
    shares = ["valid_fraction"] if "valid_fraction" in embedding.coords else []
    _refuse_names(table, [*images, *names, "inside", *shares])
    rows, cols, inside = find_cells(embedding, table)
    if not inside.all():
        _warn_outside(embedding, inside)
    vectors, valid = vectors_at(embedding, rows[inside], cols[inside])
    return _join_columns(table, embedding, names, inside, vectors, valid)


def find_cells(
    embedding: xr.DataArray, points: "gpd.GeoDataFrame"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the cells that hold points of any CRS: rows, columns, and whether a cell does.

    As `cells_at` returns them. Points without a CRS, and geometries that are no points, are a
    `GridError`.
    """
    import shapely

    geometry = _check_geometry(points)
    there = np.array(geometry.to_crs(embedding.rio.crs.to_wkt()).array)
    there[shapely.is_empty(there)] = None  # GEOS has no x of an empty point
    return cells_at(embedding, shapely.get_x(there), shapely.get_y(there))


def vectors_at(
    embedding: xr.DataArray, rows: np.ndarray, cols: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Compute the vectors of cells, and of a lazy embedding no chunk without one of them.

    Vectors are float32 (cell, image, feature), where an image is a date, or an entry of whatever
    else the embedding has in front (the last dim is the fastest), and one where it has nothing;
    ``valid_fraction`` is float32 (cell, image), or None where the embedding has none.
    """
    at = {"y": xr.Variable(_CELL, rows), "x": xr.Variable(_CELL, cols)}
    images = {dim: embedding.sizes[dim] for dim in find_image_dims(embedding)}
    n_images = math.prod(images.values())
    if not rows.size:  # Dask would compute a chunk to pick nothing of it
        none = np.empty((0, n_images, embedding.sizes["feature"]), np.float32)
        return none, none[..., 0] if "valid_fraction" in embedding.coords else None
    picked = [embedding.variable.isel(at).transpose(_CELL, *images, "feature").data]
    if "valid_fraction" in embedding.coords:
        share = embedding["valid_fraction"].variable.isel(at)
        share = share.set_dims({**images, **share.sizes})
        picked.append(share.transpose(_CELL, *images).data)
    found = [np.asarray(part, np.float32) for part in compute(*picked)]
    vectors = found[0].reshape(rows.size, n_images, embedding.sizes["feature"])
    return vectors, found[1].reshape(rows.size, n_images) if len(found) == 2 else None


def _make_table(points: Any, lon: Any, lat: Any) -> "gpd.GeoDataFrame":
    gpd = import_optional("geopandas", "vector")
    if (points is None) == (lon is None) or (lon is None) != (lat is None):
        given = [
            name
            for name, value in {"points": points, "lon": lon, "lat": lat}.items()
            if value is not None
        ]
        found = " and ".join(given) or "no points"
        remedy = "Pass embedding.terramind.sample(points) or .sample(lon=..., lat=...)."
        raise GridError(explain(found, "either points, or lon and lat", remedy))
    if isinstance(points, gpd.GeoDataFrame):
        return points
    if isinstance(points, gpd.GeoSeries):
        return gpd.GeoDataFrame(geometry=points)
    lons, lats = _read_lon_lat(points, lon, lat)
    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(lons, lats, crs=LON_LAT))


def _read_lon_lat(points: Any, lon: Any, lat: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        if points is not None:
            pairs = np.asarray(points, np.float64)
            lon, lat = pairs.reshape(0, 2).T if not pairs.size else pairs.T
        lons, lats = (np.atleast_1d(np.asarray(values, np.float64)) for values in (lon, lat))
    except (TypeError, ValueError) as error:
        kind = type(points if lon is None else lon).__name__
        raise _explain_points(f"{kind} ({error})") from error
    if lons.ndim != 1 or lons.shape != lats.shape:
        raise _explain_points(f"longitudes of shape {lons.shape} and latitudes of {lats.shape}")
    if (np.abs(lats) > 90).any():
        raise _explain_points(f"latitudes from {np.nanmin(lats):g} to {np.nanmax(lats):g}")
    return lons, lats


def _explain_points(found: str) -> GridError:
    return GridError(
        explain(
            found,
            "as many longitudes as latitudes, in degrees: lon and lat, or an array (point, 2)",
            "Points in another CRS go in as a GeoDataFrame that has it: "
            "gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y, crs=...)).",
        )
    )


def _check_geometry(points: "gpd.GeoDataFrame") -> Any:
    if points.active_geometry_name is None:
        raise GridError(
            explain("a table without geometries", "points", "Name them with .set_geometry(...).")
        )
    geometry = points.geometry
    if geometry.crs is None:
        remedy = 'Set it with points.set_crs(...), for example "EPSG:4326" for degrees.'
        raise GridError(explain("points without a CRS", "one that says where they lie", remedy))
    some = geometry[~(geometry.isna() | geometry.is_empty)]
    other = sorted(set(some.geom_type) - {"Point"})
    if other:
        remedy = (
            "Choose one of each with points.centroid or points.representative_point(), "
            "several in one with points.explode()."
        )
        raise GridError(explain(f"geometries of type {', '.join(other)}", "points", remedy))
    return geometry


def _name_features(embedding: xr.DataArray) -> list[str]:
    return [f"feature_{number}" for number in embedding["feature"].values]


def _refuse_names(points: "gpd.GeoDataFrame", added: list[str]) -> None:
    taken = [name for name in added if name in points.columns]
    if taken:
        found = f"points with the columns {', '.join(taken[:3])}{', ...' * (len(taken) > 3)}"
        remedy = f"Drop or rename them: points.rename(columns={{{taken[0]!r}: ...}})."
        raise GridError(explain(found, "names that the result does not give to its own", remedy))


def _warn_outside(embedding: xr.DataArray, inside: np.ndarray) -> None:
    west_east, south_north = (sorted(cell_borders(embedding, dim)[[0, -1]]) for dim in "xy")
    warn(
        explain(
            f"{np.count_nonzero(~inside)} of {inside.size} points outside the grid",
            f"x {west_east[0]:.10g} to {west_east[1]:.10g}, "
            f"y {south_north[0]:.10g} to {south_north[1]:.10g} in {embedding.rio.crs.to_string()}",
            "Their features are NaN; look whether their CRS is right.",
        )
    )


def _join_columns(
    points: "gpd.GeoDataFrame",
    embedding: xr.DataArray,
    names: list[str],
    inside: np.ndarray,
    vectors: np.ndarray,
    valid: np.ndarray | None,
) -> "gpd.GeoDataFrame":
    import pandas as pd

    n_images = vectors.shape[1]
    repeated = points.iloc[np.repeat(np.arange(len(points)), n_images)]
    dims = find_image_dims(embedding)
    sizes = [embedding.sizes[dim] for dim in dims]
    columns: dict[str, Any] = {
        str(dim): np.tile(embedding[dim].values[index.ravel()], len(points))
        for dim, index in zip(dims, np.indices(sizes), strict=True)
    }
    spread = np.full((len(points), n_images, len(names)), np.nan, np.float32)
    spread[inside] = vectors
    columns |= dict(zip(names, spread.reshape(-1, len(names)).T, strict=True))
    if valid is not None:
        shares = np.full((len(points), n_images), np.nan, np.float32)
        shares[inside] = valid
        columns["valid_fraction"] = shares.ravel()
    columns["inside"] = np.repeat(inside, n_images)
    found = pd.DataFrame(columns, index=repeated.index)
    joined: Any = pd.concat([repeated, found], axis=1)
    return joined.set_geometry(points.active_geometry_name)
