"""Embeddings -> GeoParquet 1.1: a table with one row a cell.

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

from xr_terramind.errors import GridError, explain
from xr_terramind.result.cells import cell_borders, footprints, is_even
from xr_terramind.result.check import check_grid
from xr_terramind.storage.whole_files import complete_file

MAX_GROUP_BYTES = 32 << 20
"""Vectors in a row group, and in chunks computed at once; a larger chunk is computed alone."""

_Chunk = tuple[slice, slice, slice]  # of time, y and x


def to_geoparquet(embedding: xr.DataArray, path: Any) -> None:
    """Write a table with one row a cell; cells without data are left out.

    Columns: ``time`` where the embedding has it, ``valid_fraction`` where it has it, ``embedding``
    (a list of float32 of fixed size), ``geometry`` (the cell's footprint, WKB) and ``bbox``. Dates
    follow each other, the cells of each along a Hilbert curve: of all cells, or of a few chunks at
    a time, which follow it among themselves. Row groups have up to 32 MiB of vectors and are
    compressed with ZSTD. The attrs stand as JSON in the file's metadata under ``emb``.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims ``([time,] feature, y, x)``. Of a lazy one a few chunks are in memory at a time.
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
    _check_cells(embedding)
    _import_writers()
    from pyarrow import parquet

    times = ("time",) if "time" in embedding.dims else ()
    embedding = embedding.transpose(*times, "y", "x", "feature")
    schema = _schema(embedding)
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
        for piece in _pieces(embedding):
            for table in _tables(embedding, piece, schema):
                writer.write_table(table)


def _check_cells(embedding: xr.DataArray) -> None:
    other = set(embedding.dims) - {"time", "feature", "y", "x"}
    uneven = [dim for dim in ("y", "x") if not is_even(embedding[dim].values.astype(np.float64))]
    if other:
        found = f"the dimensions {', '.join(map(str, other))}"
        expected, remedy = "time, feature, y and x only", "Choose one of each with .isel(...)."
    elif uneven:
        found = f"cells that are not evenly spaced along {' and '.join(uneven)}"
        expected = "footprints that do not overlap"
        remedy = "Embed an extent of whole windows, or write to Zarr or NetCDF."
    else:
        return
    raise GridError(explain(found, expected, remedy))


def _import_writers() -> None:
    try:
        import geopandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            explain(
                f"no {error.name}",
                "geopandas and pyarrow for GeoParquet",
                "Install them with: pip install 'xr_terramind[vector]'",
            )
        ) from error


def _borders(embedding: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    return cell_borders(embedding, "y"), cell_borders(embedding, "x")


def _bounds(embedding: xr.DataArray) -> tuple[float, float, float, float]:
    ys, xs = _borders(embedding)
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


# -- What the file says of itself ----------------------------------------------------------------


def _schema(embedding: xr.DataArray) -> Any:
    import pyarrow as pa

    template = _geopandas_schema(embedding)
    fields = []
    if "time" in embedding.coords:
        fields.append(pa.field("time", _times(embedding).type))
    if "valid_fraction" in embedding.coords:
        fields.append(pa.field("valid_fraction", pa.float32()))
    fields.append(pa.field("embedding", pa.list_(pa.float32(), embedding.sizes["feature"])))
    fields += [template.field("geometry"), template.field("bbox")]
    metadata = {b"geo": _geo(template, embedding), b"emb": _emb(embedding.attrs)}
    return pa.schema(fields, metadata=metadata)


def _geopandas_schema(embedding: xr.DataArray) -> Any:
    # What geopandas writes of a single footprint holds all that GeoParquet asks of metadata.
    import geopandas as gpd
    import shapely
    from pyarrow import parquet

    whole = gpd.GeoSeries([shapely.box(*_bounds(embedding))], crs=embedding.rio.crs.to_wkt())
    file = io.BytesIO()
    gpd.GeoDataFrame(geometry=whole).to_parquet(
        file, index=False, write_covering_bbox=True, schema_version="1.1.0"
    )
    return parquet.read_schema(file)


def _geo(template: Any, embedding: xr.DataArray) -> bytes:
    # The bounds are those of the grid: which of its cells hold data is known only at the end.
    geo = json.loads(template.metadata[b"geo"])
    geo["columns"]["geometry"] |= {"bbox": list(_bounds(embedding)), "edges": "planar"}
    return json.dumps(geo).encode()


def _emb(attrs: dict[Any, Any]) -> bytes:
    return json.dumps({str(name): _jsonable(value) for name, value in attrs.items()}).encode()


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
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


def _pieces(embedding: xr.DataArray) -> Iterator[list[_Chunk]]:
    """Yield chunks to be computed at once: neighbours on the curve, of the same dates."""
    chunks = {dim: _slices(embedding, dim) for dim in ("time", "y", "x")}
    lattice = [(rows, cols) for rows in chunks["y"] for cols in chunks["x"]]
    ys, xs = _borders(embedding)
    middles_y = np.array([(ys[rows.start] + ys[rows.stop]) / 2 for rows, _ in lattice])
    middles_x = np.array([(xs[cols.start] + xs[cols.stop]) / 2 for _, cols in lattice])
    along = np.argsort(_hilbert(embedding, middles_y, middles_x), kind="stable")
    for times in chunks["time"]:
        piece: list[_Chunk] = []
        for chunk in ((times, *lattice[index]) for index in along):
            if piece and sum(map(_n_cells, [*piece, chunk])) > _max_cells(embedding):
                yield piece
                piece = []
            piece.append(chunk)
        yield piece


def _slices(embedding: xr.DataArray, dim: str) -> list[slice]:
    sizes = embedding.chunksizes.get(dim, (embedding.sizes.get(dim, 1),))
    stops = np.cumsum(sizes).tolist()
    return [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]


def _n_cells(chunk: _Chunk) -> int:
    return math.prod(part.stop - part.start for part in chunk)


def _max_cells(embedding: xr.DataArray) -> int:
    return max(1, MAX_GROUP_BYTES // (4 * embedding.sizes["feature"]))


def _computed(embedding: xr.DataArray, piece: list[_Chunk]) -> _Cells:
    vectors = embedding.variable
    shares = _shares(embedding)
    n_features = embedding.sizes["feature"]
    found = compute(
        [vectors.isel(_indexers(vectors, chunk)).data for chunk in piece],
        [] if shares is None else [shares.isel(_indexers(shares, chunk)).data for chunk in piece],
    )
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
    order = np.lexsort((_hilbert_of_cells(embedding, rows, cols), times))
    seen = np.asarray(np.isfinite(joined).all(axis=1))
    return _Cells(
        vectors=joined,
        shares=None if shares is None else np.concatenate([np.ravel(part) for part in found[1]]),
        order=order[seen[order]],
        times=times,
        rows=rows,
        cols=cols,
    )


def _shares(embedding: xr.DataArray) -> xr.Variable | None:
    # ([time,] y, x), as the vectors lie
    if "valid_fraction" not in embedding.coords:
        return None
    shares = embedding["valid_fraction"].variable
    if "time" in embedding.dims and "time" not in shares.dims:
        shares = shares.set_dims({"time": embedding.sizes["time"], **shares.sizes})
    return shares.transpose(*(dim for dim in embedding.dims if dim != "feature"))


def _indexers(variable: xr.Variable, chunk: _Chunk) -> dict[Any, slice]:
    named = dict(zip(("time", "y", "x"), chunk, strict=True))
    return {dim: part for dim, part in named.items() if dim in variable.dims}


def _tables(embedding: xr.DataArray, piece: list[_Chunk], schema: Any) -> Iterator[Any]:
    """Compute a piece, and yield its rows in groups."""
    import pyarrow as pa

    cells = _computed(embedding, piece)
    step = _max_cells(embedding)
    for start in range(0, len(cells.order), step):
        chosen = cells.order[start : start + step]
        columns = _columns(embedding, cells, chosen)
        yield pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _columns(embedding: xr.DataArray, cells: _Cells, chosen: np.ndarray) -> dict[str, Any]:
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
        columns["time"] = _times(embedding).take(pa.array(cells.times[chosen]))
    if cells.shares is not None:
        columns["valid_fraction"] = pa.array(cells.shares[chosen].astype(np.float32))
    return columns


def _times(embedding: xr.DataArray) -> Any:
    import pyarrow as pa

    values = np.atleast_1d(embedding["time"].values)
    return pa.array(values if values.dtype.kind in "Miu" else [str(value) for value in values])


def _hilbert_of_cells(embedding: xr.DataArray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    ys, xs = _borders(embedding)
    # A cell has the same place at all dates: the curve is followed once.
    n_cols = embedding.sizes["x"]
    places, back = np.unique(rows * n_cols + cols, return_inverse=True)
    row, col = np.divmod(places, n_cols)
    return _hilbert(embedding, (ys[row] + ys[row + 1]) / 2, (xs[col] + xs[col + 1]) / 2)[back]


def _hilbert(embedding: xr.DataArray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    import geopandas as gpd

    places = gpd.GeoSeries.from_xy(xs, ys)
    return places.hilbert_distance(total_bounds=_bounds(embedding)).to_numpy()
