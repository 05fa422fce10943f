"""The many names of a band."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

# Model band -> other spellings, as `plain_name` makes them: ESA's zero-padded names and
# TerraTorch's names, STAC common names, Earth Search's asset keys.
_ALIASES: dict[str, tuple[str, ...]] = {
    "B1": ("b01", "coastal", "coastalaerosol"),
    "B2": ("b02", "blue"),
    "B3": ("b03", "green"),
    "B4": ("b04", "red"),
    "B5": ("b05", "rededge1", "rededge071"),
    "B6": ("b06", "rededge2", "rededge075"),
    "B7": ("b07", "rededge3", "rededge078"),
    "B8": ("b08", "nir", "nirbroad"),
    "B8A": ("b08a", "nir08", "nirnarrow"),
    "B9": ("b09", "nir09", "watervapor", "watervapour"),
    "B10": ("cirrus",),
    "B11": ("swir16", "swir1"),
    "B12": ("swir22", "swir2"),
    "VV": (),
    "VH": (),
    "DEM": ("elevation", "height", "altitude"),
}

_BAND_OF_ALIAS: dict[str, str] = {
    alias: band for band, others in _ALIASES.items() for alias in (band.lower(), *others)
}

# Digital Earth Australia numbers as nobody else does. The third short-wave band tells it apart.
DEA_BANDS = {"nir1": "B8", "nir2": "B8A", "swir2": "B11", "swir3": "B12"}

# "B02_10m" of a SAFE folder: the resolution is not part of the band's name.
RESOLUTION = re.compile(r"[ _-]?\d0 ?m$", re.IGNORECASE)


def plain_name(name: object) -> str:
    """Leave of a name what tells bands apart: letters in lower case and digits."""
    head = (
        str(name).split(",")[0].strip()
    )  # GDAL describes bands as "B2, central wavelength 490 nm"
    return re.sub(r"[^a-z0-9]", "", RESOLUTION.sub("", head).lower())


def band_of(name: object) -> str | None:
    """Return Earth Engine's name (``"B8"``) for any usual one (``"B08"``, ``"nir"``), or None."""
    return _BAND_OF_ALIAS.get(plain_name(name))


def read_bands(names: Sequence[object]) -> list[str | None]:
    """Return the bands that a cube's names stand for, as `band_of` does, but seen together."""
    plain = [plain_name(name) for name in names]
    dea = DEA_BANDS if "swir3" in plain and "swir1" not in plain else {}
    return [dea.get(name, _BAND_OF_ALIAS.get(name)) for name in plain]


def band_names(array: "xr.DataArray") -> list[str] | None:
    """Return the names that a cube gives its bands, or None where it gives none.

    They stand in the ``band`` coordinate, or in a ``long_name`` with one entry per band (as
    rioxarray reads GDAL's band descriptions). Band numbers 1, 2, ... or 0, 1, ... are no names.
    """
    n_bands = array.sizes["band"]
    if "band" in array.coords:
        values = np.atleast_1d(array.coords["band"].values)
        counts = (np.arange(n_bands), np.arange(1, n_bands + 1))
        if not any(np.array_equal(values, count) for count in counts):
            return [str(value) for value in values]
    described = array.attrs.get("long_name")
    if isinstance(described, list | tuple | np.ndarray) and len(described) == n_bands:
        names = [str(name) for name in described]
        if any(band_of(name) for name in names):
            return names
    return None
