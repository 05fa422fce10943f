"""What TerraMind was trained on: modalities, their bands and statistics.

Band orders, means and standard deviations are those of TerraTorch 1.2.11
(``terramind_register.py``: ``PRETRAINED_BANDS``, ``v1_pretraining_mean/std``,
``v01_pretraining_mean/std``); a test holds them equal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from xr_terramind.errors import BandError, did_you_mean, explain

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


def band_labels(names: Sequence[str]) -> np.ndarray:
    """Return names as values of a ``band`` coordinate.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    ndarray of object
        Zarr 3 has a stable type for strings of any length, but none for those of a fixed one.
    """
    return np.array(names, dtype=object)


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
