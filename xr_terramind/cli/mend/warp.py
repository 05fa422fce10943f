"""``--warp``: a GeoTIFF on a straight grid of 10 m, resampled as it is read."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rioxarray
import xarray as xr
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.vrt import WarpedVRT
from rasterio.warp import aligned_target, calculate_default_transform

from xr_terramind.cube.place import PIXEL_SIZE_M
from xr_terramind.errors import GridError, SourceError, explain
from xr_terramind.model.modalities import Modality


def open_warped(
    path: Path, target: str, crs: str | None, modality: Modality, chunk_px: int
) -> xr.DataArray:
    """Open a GeoTIFF warped to a CRS, the whole of it; `crs` is said to be its own.

    Each pixel takes the nearest value. What only ground control points place, or longitudes beyond
    180, is warped at once, in memory. Raises GridError where a CRS is missing or cannot be read.
    """
    wanted = read_crs(target, "--warp")
    with rasterio.open(path) as raster:
        points, points_crs = raster.gcps
        own = read_crs(crs, "--crs") if crs else raster.crs or points_crs
        if own is None:
            raise GridError(
                explain(
                    f"no CRS in {path.name}, to warp it from",
                    "an EPSG code",
                    "Pass --crs EPSG:..., the one of its coordinates, beside --warp.",
                )
            )
        nodata, dtype = _choose_nodata(raster, modality)
        by_points = bool(points) and raster.transform.is_identity
        # A virtual image loses what lies beyond 180 degrees.
        if by_points or (own.is_geographic and raster.bounds.right > 180):
            return _warp_in_memory(path, own, wanted, nodata, chunk_px)
        found = calculate_default_transform(
            own, wanted, raster.width, raster.height, *raster.bounds, resolution=PIXEL_SIZE_M
        )
        place, width_px, height_px = aligned_target(*found, (PIXEL_SIZE_M, PIXEL_SIZE_M))
        with WarpedVRT(
            raster,
            src_crs=own,
            crs=wanted,
            transform=place,
            width=width_px,
            height=height_px,
            nodata=nodata,
            dtype=dtype,
        ) as warped:
            opened: Any = rioxarray.open_rasterio(warped, chunks={"x": chunk_px, "y": chunk_px})
            return opened


def _warp_in_memory(
    path: Path, own: CRS, wanted: CRS, nodata: float, chunk_px: int
) -> xr.DataArray:
    opened: Any = rioxarray.open_rasterio(path)
    with opened as image:
        points = image.rio.get_gcps()
        placed = image.rio.write_gcps(points, own) if points else image.rio.write_crs(own)
        if np.isnan(nodata):
            placed = placed.astype("float32")
        warped: xr.DataArray = placed.rio.reproject(wanted, resolution=PIXEL_SIZE_M, nodata=nodata)
    return warped.chunk({"x": chunk_px, "y": chunk_px})


def _choose_nodata(raster: Any, modality: Modality) -> tuple[float, str | None]:
    # Around a turned image there is nothing, which must not look like a value.
    if raster.nodata is not None:
        return raster.nodata, None
    if modality.is_sentinel2:
        return 0, None
    return np.nan, "float32" if np.dtype(raster.dtypes[0]).kind != "f" else None


def read_crs(text: str, flag: str) -> CRS:
    """Read the CRS of a flag; raise SourceError where it is none."""
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise SourceError(
            explain(f"{flag} {text}", "a CRS such as EPSG:32632", f"Correct it ({error}).")
        ) from error
