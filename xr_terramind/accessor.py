"""``.terramind`` on DataArray and Dataset: each method is a documented function, wrapped."""

import functools
import inspect
import re
from collections.abc import Callable, Hashable, Mapping
from html import escape
from typing import Any, Concatenate, ParamSpec, TypeVar

import xarray as xr

from xr_terramind import embed as recipes
from xr_terramind.cube.report import html_table
from xr_terramind.explore.change import change
from xr_terramind.explore.classify import classify
from xr_terramind.explore.cluster import cluster
from xr_terramind.explore.rgb import rgb_basis, to_rgb
from xr_terramind.explore.sample import sample
from xr_terramind.explore.similarity import similarity
from xr_terramind.result.kinds import name_kind
from xr_terramind.result.quantize import dequantize, quantize
from xr_terramind.storage.cog import to_cog
from xr_terramind.storage.geoparquet import to_geoparquet

P = ParamSpec("P")
R = TypeVar("R")


def _as_method(
    function: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate["TerraMindAccessor", P], R]:
    # A docstring that stands once cannot drift. The function's first parameter is what the accessor
    # stands on, so it leaves the signature and the docstring.
    @functools.wraps(function)
    def method(self: "TerraMindAccessor", *args: P.args, **kwargs: P.kwargs) -> R:
        return function(self._obj, *args, **kwargs)

    shown = inspect.signature(function)
    first, *others = shown.parameters.values()
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__signature__ = shown.replace(parameters=[itself, *others])  # type: ignore[attr-defined]
    method.__doc__ = _without_entry(inspect.getdoc(function) or "", first.name)
    method.__qualname__ = f"TerraMindAccessor.{function.__name__}"
    method.__module__ = __name__
    return method


def _without_entry(docstring: str, parameter: str) -> str:
    # One entry of the section Parameters: its line, and what is indented below it.
    cut = re.sub(rf"(?m)^{parameter} : .*\n(?:    .*\n|\n(?=    ))*", "", docstring, count=1)
    return re.sub(r"Parameters\n-+\n(?=\n|\Z)\n?", "", cut)  # a section that is empty now


@xr.register_dataarray_accessor("terramind")
@xr.register_dataset_accessor("terramind")
class TerraMindAccessor:
    """TerraMind embeddings of a satellite cube, and what can be done with them.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
        A cube with dimensions band, y, x in any order, and any others, whose entries are images of
        their own; or a Dataset with one variable per band; or an embedding.
    """

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj: Any = obj

    @property
    def bands(self) -> dict[str, Hashable]:
        """Model band -> the cube's own name, for the modality that the options set.

        Raises
        ------
        BandError
            For bands that are missing, doubled or unnamed in another number.
        """
        return recipes.find_bands(self._obj)

    check = _as_method(recipes.check)
    plan = _as_method(recipes.plan)
    arrange = _as_method(recipes.arrange)
    embed = _as_method(recipes.embed)

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
            Draw a bar with blocks per second and the time left.
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
        # Imported here and documented here: zarr takes a quarter of a second to import.
        from xr_terramind.storage.to_zarr import to_zarr

        return to_zarr(
            self._obj,
            store,
            resume=resume,
            overwrite=overwrite,
            dtype=dtype,
            retries=retries,
            progress=progress,
            storage_options=storage_options,
        )

    quantize = _as_method(quantize)
    dequantize = _as_method(dequantize)
    to_geoparquet = _as_method(to_geoparquet)
    to_cog = _as_method(to_cog)

    to_rgb = _as_method(to_rgb)
    rgb_basis = _as_method(rgb_basis)
    similarity = _as_method(similarity)
    change = _as_method(change)
    cluster = _as_method(cluster)
    sample = _as_method(sample)
    classify = _as_method(classify)

    def _summarize(self) -> tuple[str, list[tuple[str, str]]]:
        # What the object is, and each method that it is good for with its docstring's first line.
        kind, title = name_kind(self._obj)
        methods = [(name, getattr(type(self), name)) for name in _METHODS[kind]]
        return title, [
            (f".{name}" + "()" * callable(method), str(inspect.getdoc(method)).splitlines()[0])
            for name, method in methods
        ]

    def __repr__(self) -> str:
        title, rows = self._summarize()
        width = max(len(name) for name, _ in rows)
        lines = (f"  {name:<{width}}  {text}" for name, text in rows)
        return "\n".join([f"<terramind: {title}>", *lines])

    def _repr_html_(self) -> str:
        title, rows = self._summarize()
        shown = [(f"<code>{escape(name)}</code>", escape(text), "inherit") for name, text in rows]
        return html_table(f"terramind: {title}", shown)


_METHODS = {
    "cube": ("check", "plan", "bands", "arrange", "embed"),
    "grid": (
        *("to_zarr", "quantize", "to_cog", "to_geoparquet"),
        *("to_rgb", "rgb_basis", "similarity", "change", "cluster", "sample", "classify"),
    ),
    "pooled": ("to_zarr", "quantize"),
    "quantized": ("dequantize",),
    "map": ("to_cog",),
    "unknown": ("check",),
}
