"""Chunks of a cube from Earth Engine: whole windows, few requests, none too large."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from dask.array.core import normalize_chunks

from xr_terramind.errors import SourceError, explain
from xr_terramind.model.specs import PRETRAINING_PX

REQUEST_LIMIT_BYTES = 48 * 2**20
"""The most that Earth Engine answers, with one mask byte per value."""

_VALUE_BYTES = 4 + 1
_CHUNK_WINDOWS = 5  # 1120 px: 6 MB per request, 60 MB per chunk of 12 bands


def chunk_sizes(sizes: dict[str, int], chunks: Any) -> tuple[tuple[int, ...], ...]:
    """Choose or check the chunks of a cube; each chunk is one request per band.

    `sizes` are the cube's, by dimension; `chunks` are ``"auto"`` or as for ``DataArray.chunk``.

    Raises
    ------
    SourceError
        For chunks that cannot be, or whose requests Earth Engine would refuse.
    """
    default = {"time": 1, "band": sizes["band"]}
    default |= {dim: _even_edge_px(sizes[dim]) for dim in ("y", "x")}
    try:
        wanted = _resolve_chunks(sizes, chunks, default)
        found = normalize_chunks(tuple(wanted.values()), tuple(sizes.values()), dtype=np.float32)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise SourceError(
            explain(
                f"chunks={chunks!r}, which cannot be ({error})",
                f"'auto', a size, one for each of {', '.join(sizes)}, or sizes by their names",
                "Leave chunks at 'auto'.",
            )
        ) from error
    largest = {dim: max(run) for dim, run in zip(sizes, found, strict=True)}
    request_bytes = largest.get("time", 1) * largest["y"] * largest["x"] * _VALUE_BYTES
    if request_bytes > REQUEST_LIMIT_BYTES:
        raise SourceError(
            explain(
                f"chunks of {largest}, whose requests take {request_bytes / 2**20:.0f} MB per band",
                "48 MB at the most, which is what Earth Engine answers",
                "Leave chunks at 'auto', or pass smaller ones.",
            )
        )
    return tuple(found)


def _resolve_chunks(sizes: dict[str, int], chunks: Any, default: dict[str, int]) -> dict[str, Any]:
    if chunks is None or (isinstance(chunks, str) and chunks == "auto"):
        return {dim: default[dim] for dim in sizes}
    if isinstance(chunks, Mapping):
        unknown = [str(dim) for dim in chunks if dim not in sizes]
        if unknown:
            raise ValueError(f"there is no dimension {', '.join(unknown)}")
        return {dim: chunks.get(dim, default[dim]) for dim in sizes}
    each = chunks if isinstance(chunks, tuple | list) else (chunks,) * len(sizes)
    return dict(zip(sizes, each, strict=True))


def _even_edge_px(size_px: int) -> int:
    # Whole windows, and chunks of much the same size: a sliver at the far edge costs as many
    # requests as a full chunk.
    windows = math.ceil(size_px / PRETRAINING_PX)
    n_chunks = math.ceil(windows / _CHUNK_WINDOWS)
    return math.ceil(windows / n_chunks) * PRETRAINING_PX
