"""Embeddings -> GeoParquet 1.1: a table with one row per cell.

Rows follow a Hilbert curve, so that neighbours on the ground stand near each other in the file, and
a reader finds the row groups of a place by the statistics of the column ``bbox``.
"""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute

from xr_terramind.errors import GridError, explain, import_optional
from xr_terramind.result.cells import cell_borders, footprints
from xr_terramind.result.check import check_even, check_grid
from xr_terramind.storage.whole_files import complete_file

MAX_GROUP_BYTES = 32 << 20
"""Vectors in a row group, and in chunks computed at once; a larger chunk is computed alone."""

_Chunk = tuple[slice, slice, slice]  # of time, y and x


def to_geoparquet(embedding: xr.DataArray, path: Any) -> None:
    """Write a table with one row per cell, for GIS and databases.

    Columns: ``time`` where the embedding has it, ``valid_fraction`` where it has it, ``embedding``
    (a list of float32 of fixed size), ``geometry`` (the cell's footprint, WKB) and ``bbox``. Cells
    without data are left out. Dates follow each other, the cells of each along a Hilbert curve: of
    all cells, or of a few chunks at a time, which follow it among themselves; so many of a lazy
    embedding are in memory. Row groups have up to 32 MiB of vectors and are compressed with ZSTD.
    The attrs stand as JSON in the file's metadata under ``emb``.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims ``([time,] feature, y, x)``.
    path : str or path
        A file that is there is replaced once the new one is complete.

    Raises
    ------
    GridError
        Where there is no grid, CRS or even spacing.
    ImportError
        Without geopandas and pyarrow.
    OSError
        Where the file cannot be written.
    """
    check_grid(embedding, with_crs=True)
    _check_dims(embedding)
    check_even(embedding)
    for package in ("geopandas", "pyarrow"):
        import_optional(package, "vector")
    from pyarrow import parquet

    times = ("time",) if "time" in embedding.dims else ()
    embedding = embedding.transpose(*times, "y", "x", "feature")
    schema = _make_schema(embedding)
    with (
        complete_file(path) as unfinished,
        parquet.ParquetWriter(
            unfinished,
            schema,
            compression="zstd",
            use_dictionary=[name for name in ("time", "valid_fraction") if name in schema.names],
            # Sorted by their significance, the bytes of floats compress a tenth better.
            column_encoding={"embedding.list.element": "BYTE_STREAM_SPLIT"},
        ) as writer,
    ):
        for piece in _make_pieces(embedding):
            for table in _make_tables(embedding, piece, schema):
                writer.write_table(table)


def _check_dims(embedding: xr.DataArray) -> None:
    other = set(embedding.dims) - {"time", "feature", "y", "x"}
    if other:
        found = f"the dimensions {', '.join(map(str, other))}"
        expected = "time, feature, y and x only"
        raise GridError(explain(found, expected, "Choose one of each with .isel(...)."))


def _read_borders(embedding: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    return cell_borders(embedding, "y"), cell_borders(embedding, "x")


def _read_bounds(embedding: xr.DataArray) -> tuple[float, float, float, float]:
    ys, xs = _read_borders(embedding)
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


# -- What the file says of itself ----------------------------------------------------------------


def _make_schema(embedding: xr.DataArray) -> Any:
    import pyarrow as pa

    template = _read_geopandas_schema(embedding)
    fields = []
    if "time" in embedding.coords:
        fields.append(pa.field("time", _read_times(embedding).type))
    if "valid_fraction" in embedding.coords:
        fields.append(pa.field("valid_fraction", pa.float32()))
    fields.append(pa.field("embedding", pa.list_(pa.float32(), embedding.sizes["feature"])))
    fields += [template.field("geometry"), template.field("bbox")]
    metadata = {b"geo": _make_geo(template, embedding), b"emb": _make_emb(embedding.attrs)}
    return pa.schema(fields, metadata=metadata)


def _read_geopandas_schema(embedding: xr.DataArray) -> Any:
    # What geopandas writes of a single footprint holds all that GeoParquet asks of metadata.
    import geopandas as gpd
    import shapely
    from pyarrow import parquet

    whole = gpd.GeoSeries([shapely.box(*_read_bounds(embedding))], crs=embedding.rio.crs.to_wkt())
    file = io.BytesIO()
    gpd.GeoDataFrame(geometry=whole).to_parquet(
        file, index=False, write_covering_bbox=True, schema_version="1.1.0"
    )
    return parquet.read_schema(file)


def _make_geo(template: Any, embedding: xr.DataArray) -> bytes:
    # The bounds are those of the grid: which of its cells hold data is known only at the end.
    geo = json.loads(template.metadata[b"geo"])
    geo["columns"]["geometry"] |= {"bbox": list(_read_bounds(embedding)), "edges": "planar"}
    return json.dumps(geo).encode()


def _make_emb(attrs: dict[Any, Any]) -> bytes:
    return json.dumps({str(name): _simplify(value) for name, value in attrs.items()}).encode()


def _simplify(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_simplify(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    return value if isinstance(value, str | int | float) or value is None else str(value)


# -- Rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cells:
    """Cells of one piece, in the order of the file; those without data are left out already."""

    vectors: np.ndarray  # (cell of the piece, feature)
    shares: np.ndarray | None  # (cell of the piece,)
    order: np.ndarray  # (cell of the file,), into those of the piece
    times: np.ndarray  # (cell of the piece,), indices of the embedding
    rows: np.ndarray
    cols: np.ndarray


def _make_pieces(embedding: xr.DataArray) -> Iterator[list[_Chunk]]:
    """Yield chunks to be computed at once: neighbours on the curve, of the same dates."""
    chunks = {dim: _list_slices(embedding, dim) for dim in ("time", "y", "x")}
    lattice = [(rows, cols) for rows in chunks["y"] for cols in chunks["x"]]
    ys, xs = _read_borders(embedding)
    middles_y = np.array([(ys[rows.start] + ys[rows.stop]) / 2 for rows, _ in lattice])
    middles_x = np.array([(xs[cols.start] + xs[cols.stop]) / 2 for _, cols in lattice])
    along = np.argsort(_locate_on_curve(embedding, middles_y, middles_x), kind="stable")
    for times in chunks["time"]:
        piece: list[_Chunk] = []
        for chunk in ((times, *lattice[index]) for index in along):
            if piece and sum(map(_count_cells, [*piece, chunk])) > _limit_cells(embedding):
                yield piece
                piece = []
            piece.append(chunk)
        yield piece


def _list_slices(embedding: xr.DataArray, dim: str) -> list[slice]:
    sizes = embedding.chunksizes.get(dim, (embedding.sizes.get(dim, 1),))
    stops = np.cumsum(sizes).tolist()
    return [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]


def _count_cells(chunk: _Chunk) -> int:
    return math.prod(part.stop - part.start for part in chunk)


def _limit_cells(embedding: xr.DataArray) -> int:
    return max(1, MAX_GROUP_BYTES // (4 * embedding.sizes["feature"]))


def _compute_cells(embedding: xr.DataArray, piece: list[_Chunk]) -> _Cells:
    variables = [embedding.variable, *_read_shares(embedding)]
    n_features = embedding.sizes["feature"]
    found = compute(*([_select(variable, chunk) for chunk in piece] for variable in variables))
    flat = [np.asarray(part, np.float32).reshape(-1, n_features) for part in found[0]]
    places = [np.indices([part.stop - part.start for part in chunk]) for chunk in piece]
    times, rows, cols = np.concatenate(
        [
            place.reshape(3, -1) + [[part.start] for part in chunk]
            for place, chunk in zip(places, piece, strict=True)
        ],
        axis=1,
    )
    joined = flat[0] if len(flat) == 1 else np.concatenate(flat)
    order = np.lexsort((_locate_cells(embedding, rows, cols), times))
    seen = np.asarray(np.isfinite(joined).all(axis=1))
    return _Cells(
        vectors=joined,
        shares=np.concatenate([np.ravel(part) for part in found[1]]) if len(found) > 1 else None,
        order=order[seen[order]],
        times=times,
        rows=rows,
        cols=cols,
    )


def _read_shares(embedding: xr.DataArray) -> list[xr.Variable]:
    # One ([time,] y, x), as the vectors lie, or none.
    if "valid_fraction" not in embedding.coords:
        return []
    shares = embedding["valid_fraction"].variable
    if "time" in embedding.dims and "time" not in shares.dims:
        shares = shares.set_dims({"time": embedding.sizes["time"], **shares.sizes})
    return [shares.transpose(*(dim for dim in embedding.dims if dim != "feature"))]


def _select(variable: xr.Variable, chunk: _Chunk) -> Any:
    named = dict(zip(("time", "y", "x"), chunk, strict=True))
    return variable.isel({dim: named[str(dim)] for dim in variable.dims if dim in named}).data


def _make_tables(embedding: xr.DataArray, piece: list[_Chunk], schema: Any) -> Iterator[Any]:
    """Compute a piece, and yield its rows in groups."""
    import pyarrow as pa

    cells = _compute_cells(embedding, piece)
    step = _limit_cells(embedding)
    for start in range(0, len(cells.order), step):
        chosen = cells.order[start : start + step]
        columns = _make_columns(embedding, cells, chosen)
        yield pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _make_columns(embedding: xr.DataArray, cells: _Cells, chosen: np.ndarray) -> dict[str, Any]:
    import pyarrow as pa
    import shapely

    rows, cols = cells.rows[chosen], cells.cols[chosen]
    south, north = (edge[rows] for edge in footprints(embedding, "y"))
    west, east = (edge[cols] for edge in footprints(embedding, "x"))
    vectors = pa.array(cells.vectors[chosen].ravel())
    columns = {
        "embedding": pa.FixedSizeListArray.from_arrays(vectors, embedding.sizes["feature"]),
        "geometry": pa.array(shapely.to_wkb(shapely.box(west, south, east, north), byte_order=1)),
        "bbox": pa.StructArray.from_arrays(
            [pa.array(edge) for edge in (west, south, east, north)],
            names=["xmin", "ymin", "xmax", "ymax"],
        ),
    }
    if "time" in embedding.coords:
        columns["time"] = _read_times(embedding).take(pa.array(cells.times[chosen]))
    if cells.shares is not None:
        columns["valid_fraction"] = pa.array(cells.shares[chosen].astype(np.float32))
    return columns


def _read_times(embedding: xr.DataArray) -> Any:
    import pyarrow as pa

    values = np.atleast_1d(embedding["time"].values)
    return pa.array(values if values.dtype.kind in "Miu" else [str(value) for value in values])


def _locate_cells(embedding: xr.DataArray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    ys, xs = _read_borders(embedding)
    # A cell has the same place at all dates: the curve is followed once.
    n_cols = embedding.sizes["x"]
    places, back = np.unique(rows * n_cols + cols, return_inverse=True)
    row, col = np.divmod(places, n_cols)
    middles = (ys[row] + ys[row + 1]) / 2, (xs[col] + xs[col + 1]) / 2
    return _locate_on_curve(embedding, *middles)[back]


def _locate_on_curve(embedding: xr.DataArray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    import geopandas as gpd

    places = gpd.GeoSeries.from_xy(xs, ys)
    return places.hilbert_distance(total_bounds=_read_bounds(embedding)).to_numpy()
