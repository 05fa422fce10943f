"""Recognise bands by their many names, put them in order, find pixels without data."""

import math
import re
import sys
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_terramind.errors import BandError, explain
from xr_terramind.model.modalities import MODALITIES, Modality, band_labels

if TYPE_CHECKING:
    import xarray as xr

Array = Any  # numpy.ndarray or torch.Tensor
# Model band -> other spellings, as `_normalise_name` makes them: ESA's zero-padded names and
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

# "B02_10m" of a SAFE folder: the resolution is not part of the band's name.
_RESOLUTION = re.compile(r"[ _-]?\d0 ?m$", re.IGNORECASE)


def _normalise_name(name: str) -> str:
    head = name.split(",")[0].strip()  # GDAL describes bands as "B2, central wavelength 490 nm"
    return re.sub(r"[^a-z0-9]", "", _RESOLUTION.sub("", head).lower())


def band_of(name: object) -> str | None:
    """Return Earth Engine's name (``"B8"``) for any usual one (``"B08"``, ``"nir"``), or None."""
    return _BAND_OF_ALIAS.get(_normalise_name(str(name)))


def match_bands(names: Sequence[object], modality: Modality, *, pick: bool = False) -> list[int]:
    """Find where each of the model's bands stands among the names of a cube's bands.

    With `pick`, surplus bands are passed over instead of refused.

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
    """Find the pixels (..., y, x) that hold no data in raw values (..., band, y, x).

    A pixel is invalid where any band is NaN, infinite or nodata. Sentinel-2 products mark missing
    pixels by 0 in all bands, while a single band may truly be 0 over dark water: there, 0 counts
    only where all bands have it, even where the file declares 0 as its nodata value.

    NumPy arrays and torch tensors alike give their own kind of array.
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


def _modality_remedy(n_bands: int) -> str:
    fitting = [name for name, other in MODALITIES.items() if len(other.bands) == n_bands]
    if not fitting:
        return "choose another modality."
    options = " or ".join(f"modality={name!r}" for name in fitting)
    bands = ", ".join(MODALITIES[fitting[0]].bands)
    return f"if they are {bands}, in this order, choose {options}."


def arrange_bands(
    array: "xr.DataArray", modality: Modality, *, pick: bool = False
) -> "tuple[xr.DataArray, dict[str, Hashable], bool]":
    """Bring bands into the model's order and names.

    With `pick`, surplus bands are passed over instead of refused.

    Returns
    -------
    arranged : xarray.DataArray
    names : dict
        Model band -> the cube's own name.
    assumed : bool
        The cube names no bands, and has as many as the model.

    Raises
    ------
    BandError
        For bands that are missing, doubled, surplus, or unnamed in another number.
    """
    names = band_names(array)
    if names is None:
        n_bands = array.sizes["band"]
        if n_bands != len(modality.bands):
            raise BandError(
                explain(
                    f"{n_bands} bands without names",
                    f"the {len(modality.bands)} of {modality.name}: {', '.join(modality.bands)}",
                    "Name them with cube.assign_coords(band=[...]), or "
                    + _modality_remedy(n_bands),
                )
            )
        order, names = list(range(n_bands)), list(modality.bands)
        assumed = n_bands > 1  # a single band has only one order
    else:
        order = match_bands(names, modality, pick=pick)
        # What an earlier arrange() had to assume stays an assumption.
        assumed = array.attrs.get("band_order") == "assumed"
    attrs = {key: value for key, value in array.attrs.items() if key != "long_name"}
    if isinstance(array.attrs.get("long_name"), str):
        attrs["long_name"] = array.attrs["long_name"]
    if assumed:
        attrs["band_order"] = "assumed"
    # isel takes other coordinates along band (wavelengths, descriptions) along; a copy is spared
    # where the order is right already.
    picked = array if order == list(range(array.sizes["band"])) else array.isel(band=order)
    arranged = picked.assign_coords(band=band_labels(modality.bands))
    arranged.attrs = attrs
    own_names: dict[str, Hashable] = {
        band: names[i] for band, i in zip(modality.bands, order, strict=True)
    }
    return arranged, own_names, assumed
