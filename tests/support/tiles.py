"""A Sentinel-2 tile in miniature, written as archives and tools hold it: one file a band."""

from functools import cache
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from affine import Affine

import xr_terramind as xtm

EDGE_PX = 96  # of 10 m; a whole number of pixels of 20 m and 60 m
RESOLUTION_M = {
    **dict.fromkeys(["B2", "B3", "B4", "B8"], 10),
    **dict.fromkeys(["B5", "B6", "B7", "B8A", "B11", "B12"], 20),
    **dict.fromkeys(["B1", "B9"], 60),
}
EARTH_SEARCH = {
    **{"B1": "coastal", "B2": "blue", "B3": "green", "B4": "red"},
    **{"B5": "rededge1", "B6": "rededge2", "B7": "rededge3"},
    **{"B8": "nir", "B8A": "nir08", "B9": "nir09", "B11": "swir16", "B12": "swir22"},
}
BANDS = tuple(EARTH_SEARCH)
_GRANULE = "GRANULE/L2A_T32VMH_A036459_20220615T103629/IMG_DATA"
_LOSSLESS = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}


@cache
def tile(date: int = 0) -> xr.DataArray:
    """A sample scene in which the bands of 20 m and 60 m are as coarse as they really are."""
    scene = xtm.sample_scene(EDGE_PX, time=2).isel(time=date)
    for band, edge_m in RESOLUTION_M.items():
        fold = edge_m // 10
        pixels = scene.sel(band=band).values  # a view: what is written here stands in the scene
        pixels[:] = pixels[::fold, ::fold].repeat(fold, 0).repeat(fold, 1)
    return scene


def transform(edge_m: int = 10) -> Affine:
    west, north = float(tile().x[0]) - 5, float(tile().y[0]) + 5
    return Affine(edge_m, 0, west, 0, -edge_m, north)


def write_band(path: Path, pixels: np.ndarray, edge_m: int, **profile: object) -> None:
    """Write one band; `pixels` are of 10 m, the file's of `edge_m`."""
    pixels = pixels[:: edge_m // 10, :: edge_m // 10]
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = dict(zip(("height", "width"), pixels.shape, strict=True))
    place = {"crs": tile().rio.crs, "transform": transform(edge_m)}
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint16", **shape, **place, **profile}
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels, 1)


def write_files(folder: Path, date: int = 0) -> dict[str, Path]:
    """A GeoTIFF a band at its own resolution, named as Earth Search does: asset key -> file."""
    files = {key: folder / f"{key}.tif" for key in EARTH_SEARCH.values()}
    for band, key in EARTH_SEARCH.items():
        pixels = tile(date).sel(band=band).values
        write_band(files[key], pixels, RESOLUTION_M[band], nodata=0)
    return files


def write_vrt(path: Path, files: dict[str, Path]) -> None:
    """What ``gdalbuildvrt -separate -resolution highest`` writes, in the order of the files."""
    whole = f'xOff="0" yOff="0" xSize="{EDGE_PX}" ySize="{EDGE_PX}"'
    bands = ""
    for number, file in enumerate(files.values(), 1):
        with rasterio.open(file) as source:
            part = f'xOff="0" yOff="0" xSize="{source.width}" ySize="{source.height}"'
        bands += (
            f'<VRTRasterBand dataType="UInt16" band="{number}"><NoDataValue>0</NoDataValue>'
            f"<ComplexSource><SourceFilename>{file}</SourceFilename><SourceBand>1</SourceBand>"
            f"<SrcRect {part}/><DstRect {whole}/><NODATA>0</NODATA></ComplexSource>"
            "</VRTRasterBand>"
        )
    numbers = ", ".join(map(str, transform().to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{EDGE_PX}" rasterYSize="{EDGE_PX}">'
        f"<SRS>{tile().rio.crs.to_wkt()}</SRS><GeoTransform>{numbers}</GeoTransform>"
        f"{bands}</VRTDataset>"
    )


def write_safe(folder: Path, offset: int) -> Path:
    """A SAFE folder: JPEG 2000, each band also coarser, and layers that are no bands.

    From processing baseline 04.00 on, `offset` is -1000: the files hold the numbers less that.
    """
    safe = folder / "S2A_MSIL2A_20220615T103631_N0400_R008_T32VMH_20220615T164900.SAFE"
    for metres in (10, 20, 60):
        images = safe / _GRANULE / f"R{metres}m"
        for band, finest_m in RESOLUTION_M.items():
            # Copies in coarser folders have other numbers, so that a mix-up shows.
            pixels = tile().sel(band=band).values.astype("int32") - offset + (metres - finest_m)
            if metres >= finest_m:
                name = f"T32VMH_20220615T103631_{esa_name(band)}_{metres}m.jp2"
                write_band(images / name, pixels.astype("uint16"), metres, **_LOSSLESS)
        for layer in ("AOT", "SCL", "TCI", "WVP"):
            name = f"T32VMH_20220615T103631_{layer}_{metres}m.jp2"
            write_band(images / name, np.full((EDGE_PX, EDGE_PX), 4, "u2"), metres, **_LOSSLESS)
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{n}">{offset}</BOA_ADD_OFFSET>' for n in range(13))
    listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>"
    (safe / "MTD_MSIL2A.xml").write_text(f"<Level-2A>{listed if offset else ''}</Level-2A>")
    return safe


def esa_name(band: str) -> str:
    """B2 -> B02."""
    return f"B{band[1:]:0>2}"
