"""``.terramind`` on embeddings, to keep them: documentation, one delegating line a method."""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from xr_terramind.result import quantize


class StoreMethods:
    """Write and pack embeddings: part of the accessor.

    What formats need is imported by their methods: zarr takes a quarter of a second.
    """

    _obj: Any

    def to_zarr(
        self,
        store: Any,
        *,
        resume: bool = False,
        overwrite: bool = False,
        dtype: Any = "float32",
        retries: int = 2,
        progress: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.DataArray:
        """Write an embedding to Zarr 3, block by block, so that nothing is lost or done twice.

        Each block is one shard, written by its own task, whole or not at all. Where the run ends
        before its time (a worker is killed, the disk is full, a source breaks), the same call with
        ``resume=True`` computes only what is missing, in this process or another.

        Parameters
        ----------
        store : str, path, zarr store or obstore store
            A local path, a URL that fsspec understands (``"s3://..."``), or an open store.
        resume : bool, default False
            Go on with a store that was begun; one of another cube, other weights or options is
            refused. Where there is nothing yet, begin.
        overwrite : bool, default False
            Replace a Zarr group that stands there.
        dtype : {"float32", "int8"}, default "float32"
            ``"int8"`` takes about a quarter of the bytes: the store holds what `quantize` returns,
            and is read with ``xr.open_zarr(store, consolidated=False,
            decode_coords="all").terramind.dequantize()``.
        retries : int, default 2
            Further attempts of a read or a block that failed.
        progress : bool, default False
            Draw a bar with windows a second and the time left.
        storage_options : mapping, optional
            For fsspec.

        Returns
        -------
        xarray.DataArray
            What stands in the store, opened lazily, as floats.

        Raises
        ------
        StoreError
            Where the store cannot be written, or holds something else. `StoreExistsError`, also a
            FileExistsError, where neither `resume` nor `overwrite` was asked for.
        SourceError
            At the end, with all blocks that could not be embedded; the others are written.
        GridError
            For an array that is no embedding.
        EngineError
            For another dtype.

        Examples
        --------
        >>> import tempfile, xr_terramind as xtm
        >>> cube = xtm.sample_scene(448, chunks={"x": 224, "y": 224})
        >>> embedding = cube.terramind.embed(model="terramind_v1_tiny", weights="random")
        >>> embedding.terramind.to_zarr(tempfile.mkdtemp() + "/e.zarr").shape
        (192, 28, 28)
        """
        from xr_terramind.storage import to_zarr

        return to_zarr.to_zarr(
            self._obj,
            store,
            resume=resume,
            overwrite=overwrite,
            dtype=dtype,
            retries=retries,
            progress=progress,
            storage_options=storage_options,
        )

    def quantize(self) -> xr.Dataset:
        """Round an embedding to int8, with a float32 scale for each vector.

        Returns
        -------
        xarray.Dataset
            ``embedding``, int8 with dims ``([time,] feature, y, x)``, and ``scale``, float32 with
            dims ``([time,] y, x)``: ``max |v| / 127`` of each vector ``v``, NaN where it has no
            data. Lazy where the embedding is. Any format that xarray writes holds it.

        Raises
        ------
        GridError
            For what is no embedding of floats.

        Examples
        --------
        >>> import xr_terramind as xtm
        >>> cube = xtm.sample_scene(224)
        >>> embedding = cube.terramind.embed(model="terramind_v1_tiny", weights="random")
        >>> embedding.terramind.quantize().embedding.dtype
        dtype('int8')
        """
        return quantize.quantize(self._obj)

    def dequantize(self) -> xr.DataArray:
        """Turn what `quantize` returned, or what a store of it holds, into floats again.

        Returns
        -------
        xarray.DataArray
            float32, named ``embedding``, with the dims, coords and attrs that it had before; each
            feature within half a step, ``scale / 2``. Lazy where the Dataset is.

        Raises
        ------
        GridError
            For anything else.
        """
        return quantize.dequantize(self._obj)

    def to_geoparquet(self, path: Any) -> None:
        """Write a table with one row a cell, for GIS and databases.

        Columns: ``geometry`` (the cell's footprint), ``embedding`` (a list of float32), ``time``
        where the embedding has it, ``valid_fraction``, and ``bbox``. Rows follow a Hilbert curve,
        compressed with ZSTD; cells without data are left out. The attrs stand in the file's
        metadata under ``emb``. A lazy embedding is computed chunk by chunk.

        Parameters
        ----------
        path : str or path
            A file that is there is replaced once the new one is complete.

        Raises
        ------
        GridError
            Where there is no grid or CRS.
        ImportError
            Without geopandas and pyarrow.
        """
        from xr_terramind.storage.geoparquet import to_geoparquet

        to_geoparquet(self._obj, path)

    def to_cog(self, path: Any) -> None:
        """Write a cloud-optimised GeoTIFF that GDAL and QGIS read.

        Works for an embedding (a band a feature) and for maps made of one: similarity, labels,
        change, colours. A lazy one is computed block by block.

        Parameters
        ----------
        path : str or path
            A file that is there is replaced once the new one is complete.

        Raises
        ------
        GridError
            Where there is no grid, CRS or even spacing; or several dates.
        """
        from xr_terramind.storage.cog import to_cog

        to_cog(self._obj, path)
