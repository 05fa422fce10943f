"""Tiny cubes for tests, and the options that embed them within milliseconds."""

from functools import cache

import dask.array as da
import numpy as np
import xarray as xr

import xr_terramind as xtm
from xr_terramind.model.modalities import MODALITIES

BANDS = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"]

# Random weights need no file.
TINY = {"model": "terramind_v1_tiny", "weights": "random"}

# Windows of 2 x 2 patches.
QUICK = {**TINY, "window_size": 32, "device": "cpu"}


@cache
def _scene(n_times: int) -> xr.DataArray:
    return xtm.sample_scene(size_px=64, time=n_times)


def scene(height_px: int = 32, width_px: int = 32, n_times: int = 1) -> xr.DataArray:
    """The corner of the sample scene: all is as it should be, and nothing warns."""
    corner = _scene(n_times).isel(y=slice(height_px), x=slice(width_px))
    return corner.copy(deep=True)


def image(bands: list[str], values: np.ndarray, epsg: int = 32632) -> xr.DataArray:
    """An image (band, y, x) at 10 m with given values."""
    height_px, width_px = values.shape[-2:]
    return xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": bands,
            "y": 5_000_000 - 10.0 * np.arange(height_px),
            "x": 500_000 + 10.0 * np.arange(width_px),
        },
    ).rio.write_crs(epsg)


def noise(modality: str, *shape_px: int) -> np.ndarray:
    """Noise (band, y, x) as that modality's values are spread."""
    mode = MODALITIES[modality]
    mean, std = (np.array(n)[:, None, None] for n in mode.statistics["v1"])
    values = np.random.default_rng(5).normal(mean, std, (len(mode.bands), *shape_px))
    if mode.clip is None:
        return values.astype("float32")
    # Some lie outside of what is kept; none is 0, which may stand for no data.
    return values.clip(1, 1.2 * mode.clip[1]).astype("int16")


def noise_image(modality: str, *shape_px: int) -> xr.DataArray:
    return image(list(MODALITIES[modality].bands), noise(modality, *shape_px))


def radar(modality_offset: float = 0.0, size_px: int = 32) -> xr.DataArray:
    """Sentinel-1 in dB."""
    noise = np.random.default_rng(0).normal(-14, 3, (2, size_px, size_px))
    return image(["VV", "VH"], (noise + modality_offset).astype("float32"))


def embed(cube: xr.DataArray | xr.Dataset, **options: object) -> xr.DataArray:
    return cube.terramind.embed(**{**QUICK, **options})


def counted(cube: xr.DataArray, **chunks: int) -> tuple[xr.DataArray, list[tuple[int, ...]]]:
    """The cube in chunks, and the list to which every chunk that is read adds its place."""
    reads: list[tuple[int, ...]] = []

    def read(block: np.ndarray, block_info=None) -> np.ndarray:
        reads.append(tuple(block_info[None]["chunk-location"]))
        return block

    data = cube.chunk(chunks).data
    return cube.copy(data=da.map_blocks(read, data, dtype=data.dtype, meta=data._meta)), reads


def sealed(cube: xr.DataArray) -> xr.DataArray:
    """The cube as a Dask array that cannot be computed."""

    def refuse(block: np.ndarray) -> np.ndarray:
        raise AssertionError("a chunk was computed")

    data = da.map_blocks(refuse, cube.chunk().data, dtype=cube.dtype, meta=cube.chunk().data._meta)
    return cube.copy(data=data)


def assert_same_embedding(one: xr.DataArray, other: xr.DataArray) -> None:
    """Equal at equal labels, within what the contract allows float32 (1e-5)."""
    one, other = one.sortby(["y", "x"]), other.sortby(["y", "x"])
    for axis in ("y", "x"):
        np.testing.assert_allclose(one[axis], other[axis], rtol=1e-9)
    np.testing.assert_allclose(one.values, other.values, atol=1e-5, rtol=0)
    np.testing.assert_allclose(one.valid_fraction, other.valid_fraction, atol=1e-6)
