"""Recognise bands by their many names, put them in order, find pixels without data."""

import math
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from xr_terramind.errors import BandError, explain
from xr_terramind.model.modalities import Modality

Array = Any  # numpy.ndarray or torch.Tensor
# Model band -> other spellings, normalised by `_plain`: ESA's zero-padded names and TerraTorch's
# names, STAC common names, Earth Search's asset keys. Compared without case and punctuation.
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

# "B02_10m" of a SAFE folder: the resolution is not part of the band's name.
_RESOLUTION = re.compile(r"[ _-]?\d0 ?m$", re.IGNORECASE)


def _plain(name: str) -> str:
    head = name.split(",")[0].strip()  # GDAL describes bands as "B2, central wavelength 490 nm"
    return re.sub(r"[^a-z0-9]", "", _RESOLUTION.sub("", head).lower())


def band_of(name: object) -> str | None:
    """Recognise a band by any of its usual names.

    Parameters
    ----------
    name : object
        A band's name, for example ``"B08"``, ``"nir"`` or ``"NIR_BROAD"``.

    Returns
    -------
    str or None
        Earth Engine's name (``"B8"``), or None where the name is not known.
    """
    return _BAND_OF_ALIAS.get(_plain(str(name)))


def match_bands(names: Sequence[object], modality: Modality, *, pick: bool = False) -> list[int]:
    """Find where each of the model's bands stands among a cube's bands.

    Parameters
    ----------
    names : sequence
        The cube's band names, in the cube's order.
    modality : Modality
        Whose bands are wanted.
    pick : bool, default False
        Pass over surplus bands instead of refusing them.

    Returns
    -------
    list of int
        Position in `names` of each band in the model's order.

    Raises
    ------
    BandError
        Where a band is missing, stands twice, or (unless `pick`) is not the model's.
    """
    found: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        found.setdefault(band_of(name) or str(name), []).append(position)
    listed = f"[{', '.join(str(name) for name in names)}]"
    needs = f"{modality.name} needs {', '.join(modality.bands)}"

    missing = [band for band in modality.bands if band not in found]
    if missing:
        raise BandError(
            explain(
                f"bands {listed}, without {', '.join(missing)}",
                needs,
                "Name the bands with cube.assign_coords(band=[...]), load the missing ones, "
                "or choose the modality that fits them.",
            )
        )
    doubled = [band for band in modality.bands if len(found[band]) > 1]
    if doubled:
        which = "; ".join(
            f"{band} as {' and '.join(str(names[i]) for i in found[band])}" for band in doubled
        )
        raise BandError(
            explain(
                f"{which}, in {listed}",
                f"each band once ({needs})",
                "Drop one of them with cube.isel(band=[...]).",
            )
        )
    surplus = [band for band in found if band not in modality.bands]
    if surplus and not pick:
        raise BandError(
            explain(
                f"surplus bands {', '.join(str(names[found[b][0]]) for b in surplus)} in {listed}",
                needs,
                f"Pick the model's bands with cube.terramind.arrange({modality.name!r})"
                + (
                    "; B10 belongs to L1C: is this cube of modality 'S2L1C'?"
                    if "B10" in surplus and modality.name == "S2L2A"
                    else "."
                ),
            )
        )
    return [found[band][0] for band in modality.bands]


def invalid_pixels(values: Array, nodata: Sequence[float], modality: Modality) -> Array:
    """Find the pixels that hold no data, in a NumPy array or a torch tensor alike.

    A pixel is invalid where any band is NaN, infinite or nodata. Sentinel-2 products mark missing
    pixels by 0 in all bands, while a single band may truly be 0 over dark water: there, 0 counts
    only where all bands have it, even where the file declares 0 as its nodata value.

    Parameters
    ----------
    values : ndarray or Tensor, shape (..., band, y, x)
        Raw values.
    nodata : sequence of float
        Values that stand for no data.
    modality : Modality

    Returns
    -------
    ndarray or Tensor of bool, shape (..., y, x)
    """
    library = sys.modules[type(values).__module__.partition(".")[0]]  # numpy or torch
    # The extremes tell both without a temporary of the size of the cube; NaN shows in them, too.
    low, high = library.amin(values, -3), library.amax(values, -3)
    invalid = ~((low > -math.inf) & (high < math.inf))
    for value in nodata:
        if not (modality.is_sentinel2 and value == 0):
            with np.errstate(over="ignore"):  # beyond float32, where such values are infinite
                invalid |= (values == value).any(-3)
    if modality.is_sentinel2:
        invalid |= (low == 0) & (high == 0)
    return invalid
