"""Embeddings -> GeoParquet 1.1: a table with one row per cell.

Rows follow a Hilbert curve, so that neighbours on the ground stand near each other in the file, and
a reader finds the row groups of a place by the statistics of the column ``bbox``.
"""

import io
import json
import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute

from xr_terramind.errors import GridError, explain, import_optional
from xr_terramind.result.cells import cell_borders, footprints
from xr_terramind.result.check import check_even, check_grid, find_image_dims
from xr_terramind.storage.whole_files import complete_file

MAX_GROUP_BYTES = 32 << 20
"""Vectors in a row group, and in chunks computed at once; a larger chunk is computed alone."""

_Chunk = tuple[slice, ...]  # of the dims that count images, if any, y and x

_OWN_COLUMNS = ("valid_fraction", "embedding", "geometry", "bbox")


def to_geoparquet(embedding: xr.DataArray, path: Any) -> None:
    """Write a table with one row per cell, for GIS and databases.

    Columns: ``time`` where the embedding has it, and any other dim in front, ``valid_fraction``
    where it has it, ``embedding`` (a list of float32 of fixed size), ``geometry`` (the cell's
    footprint, WKB) and ``bbox``. Cells without data are left out. Dates follow each other, the
    cells of each along a Hilbert curve: of all cells, or of a few chunks at a time, which follow it
    among themselves; so many of a lazy embedding are in memory. Row groups have up to 32 MiB of
    vectors and are compressed with ZSTD. The attrs stand as JSON in the file's metadata under
    ``emb``.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps others, such as time.
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
    _check_columns(embedding)
    check_even(embedding)
    for package in ("geopandas", "pyarrow"):
        import_optional(package, "vector")
    from pyarrow import parquet

    embedding = embedding.transpose(*find_image_dims(embedding), "y", "x", "feature")
    schema = _make_schema(embedding)
    with (
        complete_file(path) as unfinished,
        parquet.ParquetWriter(
            unfinished,
            schema,
            compression="zstd",
            use_dictionary=[*_list_columns(embedding), "valid_fraction"],
            # Sorted by their significance, the bytes of floats compress a tenth better.
            column_encoding={"embedding.list.element": "BYTE_STREAM_SPLIT"},
        ) as writer,
    ):
        for piece in _make_pieces(embedding):
            for table in _make_tables(embedding, piece, schema):
                writer.write_table(table)


def _check_columns(embedding: xr.DataArray) -> None:
    taken = {str(dim): f"{dim}_" for dim in embedding.dims if dim in _OWN_COLUMNS}
    if taken:
        found = f"the dimensions {', '.join(taken)}, which columns are called"
        remedy = f"Rename them: embedding.rename({taken})."
        raise GridError(explain(found, "other names", remedy))


def _list_columns(embedding: xr.DataArray) -> list[str]:
    # What tells images apart; a lone date has its column, too.
    lone = ["time"] if "time" in embedding.coords and "time" not in embedding.dims else []
    return [*lone, *map(str, find_image_dims(embedding))]


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
    for name in _list_columns(embedding):
        fields.append(pa.field(name, _read_labels(embedding, name).type))
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
    images: np.ndarray  # (dim, cell of the piece), indices along the dims that count images
    rows: np.ndarray
    cols: np.ndarray


def _make_pieces(embedding: xr.DataArray) -> Iterator[list[_Chunk]]:
    """Yield chunks to be computed at once: neighbours on the curve, of the same dates."""
    dims = find_image_dims(embedding)
    chunks = {dim: _list_slices(embedding, dim) for dim in (*dims, "y", "x")}
    lattice = [(rows, cols) for rows in chunks["y"] for cols in chunks["x"]]
    ys, xs = _read_borders(embedding)
    middles_y = np.array([(ys[rows.start] + ys[rows.stop]) / 2 for rows, _ in lattice])
    middles_x = np.array([(xs[cols.start] + xs[cols.stop]) / 2 for _, cols in lattice])
    along = np.argsort(_locate_on_curve(embedding, middles_y, middles_x), kind="stable")
    for images in product(*(chunks[dim] for dim in dims)):
        piece: list[_Chunk] = []
        for chunk in ((*images, *lattice[index]) for index in along):
            if piece and sum(map(_count_cells, [*piece, chunk])) > _limit_cells(embedding):
                yield piece
                piece = []
            piece.append(chunk)
        yield piece


def _list_slices(embedding: xr.DataArray, dim: Hashable) -> list[slice]:
    sizes = embedding.chunksizes.get(dim, (embedding.sizes[dim],))
    stops = np.cumsum(sizes).tolist()
    return [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]


def _count_cells(chunk: _Chunk) -> int:
    return math.prod(part.stop - part.start for part in chunk)


def _limit_cells(embedding: xr.DataArray) -> int:
    return max(1, MAX_GROUP_BYTES // (4 * embedding.sizes["feature"]))


def _compute_cells(embedding: xr.DataArray, piece: list[_Chunk]) -> _Cells:
    dims = embedding.dims[:-1]
    variables = [embedding.variable, *_read_shares(embedding)]
    n_features = embedding.sizes["feature"]
    regions = [dict(zip(dims, chunk, strict=True)) for chunk in piece]
    found = compute(*([variable.isel(part).data for part in regions] for variable in variables))
    flat = [np.asarray(part, np.float32).reshape(-1, n_features) for part in found[0]]
    places = [np.indices([part.stop - part.start for part in chunk]) for chunk in piece]
    *images, rows, cols = np.concatenate(
        [
            place.reshape(len(chunk), -1) + [[part.start] for part in chunk]
            for place, chunk in zip(places, piece, strict=True)
        ],
        axis=1,
    )
    joined = flat[0] if len(flat) == 1 else np.concatenate(flat)
    order = np.lexsort((_locate_cells(embedding, rows, cols), *reversed(images)))
    seen = np.asarray(np.isfinite(joined).all(axis=1))
    return _Cells(
        vectors=joined,
        shares=np.concatenate([np.ravel(part) for part in found[1]]) if len(found) > 1 else None,
        order=order[seen[order]],
        images=np.reshape(images, (len(images), rows.size)),
        rows=rows,
        cols=cols,
    )


def _read_shares(embedding: xr.DataArray) -> list[xr.Variable]:
    # One (..., y, x), as the vectors lie, or none.
    if "valid_fraction" not in embedding.coords:
        return []
    shares = embedding["valid_fraction"].variable
    images = {dim: embedding.sizes[dim] for dim in find_image_dims(embedding)}
    shares = shares.set_dims({**images, **shares.sizes})
    return [shares.transpose(*(dim for dim in embedding.dims if dim != "feature"))]


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
    indices = dict(zip(map(str, find_image_dims(embedding)), cells.images, strict=True))
    for name in _list_columns(embedding):
        index = indices.get(name, np.zeros(len(cells.rows), np.int64))
        columns[name] = _read_labels(embedding, name).take(pa.array(index[chosen]))
    if cells.shares is not None:
        columns["valid_fraction"] = pa.array(cells.shares[chosen].astype(np.float32))
    return columns


def _read_labels(embedding: xr.DataArray, name: str) -> Any:
    import pyarrow as pa

    # Without labels along a dim, xarray counts its entries.
    values = np.atleast_1d(embedding[name].values)
    return pa.array(values if values.dtype.kind in "Miufb" else [str(value) for value in values])


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
