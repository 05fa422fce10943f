"""A whole extent resized to one window: rs-embed's way."""

import numpy as np

from xr_terramind.blocks.windows import AxisBlock
from xr_terramind.inference.encode import fill_cells
from xr_terramind.inference.engines.base import Engine
from xr_terramind.inference.loaded import engine_for, in_model_thread
from xr_terramind.inference.request import EncodeRequest
from xr_terramind.model.specs import PATCH_PX


def encode_resized(
    pixels: np.ndarray, rows: AxisBlock, cols: AxisBlock, request: EncodeRequest
) -> np.ndarray:
    """Encode each date's whole extent, resized to one window, as rs-embed's adapter does.

    Invalid pixels take the band mean before resizing, so that they do not bleed into others.
    Arguments and result are those of `encode_block`; the valid fraction is that of each patch's
    footprint in the source.
    """
    engine = engine_for(request.key)
    return np.stack([in_model_thread(_encode_date, engine, date, request) for date in pixels])


def _encode_date(engine: Engine, date: np.ndarray, request: EncodeRequest) -> np.ndarray:
    # (band, y, x) -> (feature + 1, y, x)
    vectors, invalid = engine.encode_extent(date, request)
    valid = footprint_share(~invalid, request.window_px // PATCH_PX)
    cells = valid.shape if request.pooling is None else (1, 1)
    out = np.empty((engine.spec.dim + 1, *cells), np.float32)
    fill_cells(out, vectors, valid, request)
    return out


def footprint_share(valid: np.ndarray, side: int) -> np.ndarray:
    """Average a mask (y, x) over the footprints of the patches of a resized image (side, side).

    Each footprint is exactly 1 / side of the extent; pixels that it cuts count in part.
    """
    by_row, by_col = (_footprint_weights(size, side) for size in valid.shape)
    return (by_row @ valid.astype(np.float64) @ by_col.T).astype(np.float32)


def _footprint_weights(size: int, side: int) -> np.ndarray:
    edges = np.arange(side + 1) * size / side
    pixel = np.arange(size)
    lower = np.maximum(edges[:-1, None], pixel)
    upper = np.minimum(edges[1:, None], pixel + 1)
    return np.clip(upper - lower, 0.0, None) * side / size
