"""What TerraMind was trained on: modalities, bands, their aliases and statistics.

Band orders, means and standard deviations are those of TerraTorch 1.2.11
(``terramind_register.py``: ``PRETRAINED_BANDS``, ``v1_pretraining_mean/std``,
``v01_pretraining_mean/std``); a test holds them equal.
"""

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xr_terramind.errors import BandError, did_you_mean, explain

Array = Any  # numpy.ndarray or torch.Tensor
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # (mean, std), one number a band


@dataclass(frozen=True)
class Modality:
    """One kind of image that TerraMind takes in raw.

    Attributes
    ----------
    name : str
        TerraTorch's name, for example ``"S2L2A"``.
    embedding : str
        Name of the patch embedding in TerraMind's state dict.
    bands, bands_terramind : tuple of str
        The bands in the model's order, in Earth Engine's and in TerraTorch's names.
    clip : tuple of float or None
        Range of raw values that ``clip="auto"`` keeps.
    unit : str
        Unit of the raw values.
    statistics : dict
        Version (``"v1"``, ``"v01"``) -> (mean, standard deviation) of each band.
    """

    name: str
    embedding: str
    bands: tuple[str, ...]
    bands_terramind: tuple[str, ...]
    clip: tuple[float, float] | None
    unit: str
    statistics: dict[str, Statistics] = field(hash=False)

    @property
    def is_sentinel2(self) -> bool:
        """Whether values are Sentinel-2 digital numbers (reflectance x 10000)."""
        return self.name in ("S2L2A", "S2L1C")

    @property
    def is_sentinel1(self) -> bool:
        """Whether values are Sentinel-1 backscatter in dB."""
        return self.name in ("S1GRD", "S1RTC")


MODALITIES: dict[str, Modality] = {
    "S2L2A": Modality(
        name="S2L2A",
        embedding="untok_sen2l2a@224",
        bands=("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"),
        bands_terramind=(
            *("COASTAL_AEROSOL", "BLUE", "GREEN", "RED"),
            *("RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3", "NIR_BROAD", "NIR_NARROW"),
            *("WATER_VAPOR", "SWIR_1", "SWIR_2"),
        ),
        clip=(0.0, 10000.0),
        unit="reflectance x 10000",
        statistics={
            "v1": (
                (
                    *(1390.458, 1503.317, 1718.197, 1853.91, 2199.1, 2779.975),
                    *(2987.011, 3083.234, 3132.22, 3162.988, 2424.884, 1857.648),
                ),
                (
                    *(2106.761, 2141.107, 2038.973, 2134.138, 2085.321, 1889.926),
                    *(1820.257, 1871.918, 1753.829, 1797.379, 1434.261, 1334.311),
                ),
            ),
            "v01": (
                (
                    *(794.311, 925.161, 1183.128, 1338.041, 1667.254, 2233.633),
                    *(2460.96, 2555.569, 2619.542, 2703.298, 2406.497, 1841.645),
                ),
                (
                    *(1164.883, 1205.586, 1223.713, 1399.638, 1403.298, 1378.513),
                    *(1434.924, 1491.141, 1454.089, 1660.395, 1473.248, 1365.080),
                ),
            ),
        },
    ),
    "S2L1C": Modality(
        name="S2L1C",
        embedding="untok_sen2l1c@224",
        bands=("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"),
        bands_terramind=(
            *("COASTAL_AEROSOL", "BLUE", "GREEN", "RED"),
            *("RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3", "NIR_BROAD", "NIR_NARROW"),
            *("WATER_VAPOR", "CIRRUS", "SWIR_1", "SWIR_2"),
        ),
        clip=(0.0, 10000.0),
        unit="reflectance x 10000",
        statistics={
            "v1": (
                (
                    *(2357.089, 2137.385, 2018.788, 2082.986, 2295.651, 2854.537, 3122.849),
                    *(3040.56, 3306.481, 1473.847, 506.07, 2472.825, 1838.929),
                ),
                (
                    *(1624.683, 1675.806, 1557.708, 1833.702, 1823.738, 1733.977, 1732.131),
                    *(1679.732, 1727.26, 1024.687, 442.165, 1331.411, 1160.419),
                ),
            ),
        },
    ),
    "RGB": Modality(
        name="RGB",
        embedding="untok_sen2rgb@224",
        bands=("B4", "B3", "B2"),
        bands_terramind=("RED", "GREEN", "BLUE"),
        clip=(0.0, 255.0),
        unit="8-bit colour",
        statistics={"v1": ((87.271, 80.931, 66.667), (58.767, 47.663, 42.631))},
    ),
    "S1GRD": Modality(
        name="S1GRD",
        embedding="untok_sen1grd@224",
        bands=("VV", "VH"),
        bands_terramind=("VV", "VH"),
        clip=None,
        unit="dB",
        statistics={"v1": ((-12.599, -20.293), (5.195, 5.890))},
    ),
    "S1RTC": Modality(
        name="S1RTC",
        embedding="untok_sen1rtc@224",
        bands=("VV", "VH"),
        bands_terramind=("VV", "VH"),
        clip=None,
        unit="dB",
        statistics={"v1": ((-10.93, -17.329), (4.391, 4.459))},
    ),
    "DEM": Modality(
        name="DEM",
        embedding="untok_dem@224",
        bands=("DEM",),
        bands_terramind=("DEM",),
        clip=None,
        unit="m",
        statistics={"v1": ((670.665,), (951.272,))},
    ),
}

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


def modality_of(name: str) -> Modality:
    """Look up a modality, forgiving case, ``-`` and ``_``.

    Parameters
    ----------
    name : str
        For example ``"S2L2A"`` or ``"s2_l2a"``.

    Returns
    -------
    Modality

    Raises
    ------
    BandError
        For an unknown modality.
    """
    wanted = re.sub(r"[^A-Z0-9]", "", str(name).upper())
    if wanted in MODALITIES:
        return MODALITIES[wanted]
    raise BandError(
        explain(
            f"modality={name!r}",
            f"one of {', '.join(MODALITIES)}",
            "Choose the one that the cube's bands come from."
            + did_you_mean(wanted.lower(), [key.lower() for key in MODALITIES]),
        )
    )


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
            invalid |= (values == value).any(-3)
    if modality.is_sentinel2:
        invalid |= (low == 0) & (high == 0)
    return invalid
