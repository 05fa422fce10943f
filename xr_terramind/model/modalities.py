"""What TerraMind was trained on: modalities, their bands and statistics.

Band orders, means and standard deviations are those of TerraTorch 1.2.11
(``terramind_register.py``: ``PRETRAINED_BANDS``, ``v1_pretraining_mean/std``,
``v01_pretraining_mean/std``); a test holds them equal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from xr_terramind.errors import BandError, EngineError, did_you_mean, explain
from xr_terramind.model.specs import ModelSpec

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # (mean, std), one number a band


class Scaling(NamedTuple):
    """How raw values enter the encoder, band by band: (value - mean) / std, and what fills holes.

    `fill` is in raw values: the mean of pretraining, whatever `mean` is.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    fill: tuple[float, ...]

    @property
    def is_identity(self) -> bool:
        """Whether values enter as they are."""
        return not any(self.mean) and set(self.std) == {1.0}


@dataclass(frozen=True)
class Modality:
    """One kind of image that TerraMind takes in raw."""

    name: str  # TerraTorch's, for example "S2L2A"
    embedding: str  # name of the patch embedding in TerraMind's state dict
    bands: tuple[str, ...]  # in the model's order, in Earth Engine's names
    bands_terramind: tuple[str, ...]  # the same in TerraTorch's names
    clip: tuple[float, float] | None  # range of raw values that clip="auto" keeps
    unit: str  # of raw values
    statistics: dict[str, Statistics] = field(hash=False)  # by version, "v1" or "v01"
    full: "Modality | None" = None  # of a subset of bands: the modality with all of them

    @property
    def is_sentinel2(self) -> bool:
        """Whether values are Sentinel-2 digital numbers (reflectance x 10000)."""
        return self.name in ("S2L2A", "S2L1C")

    @property
    def is_sentinel1(self) -> bool:
        """Whether values are Sentinel-1 backscatter in dB."""
        return self.name in ("S1GRD", "S1RTC")

    @property
    def positions(self) -> tuple[int, ...]:
        """Where the bands stand among those of the full modality."""
        return tuple((self.full or self).bands.index(band) for band in self.bands)

    @property
    def missing(self) -> tuple[str, ...]:
        """Bands of the full modality that are not among these."""
        return tuple(band for band in (self.full or self).bands if band not in self.bands)

    def subset(self, bands: Sequence[str]) -> "Modality":
        """Keep some of the bands, in the model's order whatever the order given.

        Raises
        ------
        BandError
            For a band that is not the modality's, and for none at all.
        """
        unknown = [str(band) for band in bands if band not in self.bands]
        if unknown or not len(bands):
            raise BandError(
                explain(
                    f"the bands {', '.join(unknown) or 'of an empty list'}",
                    f"some of {', '.join(self.bands)} of {self.name}",
                    "Name at least one of them.",
                )
            )
        positions = [i for i, band in enumerate(self.bands) if band in bands]
        if len(positions) == len(self.bands):
            return self

        def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in positions)

        return replace(
            self,
            bands=pick(self.bands),
            bands_terramind=pick(self.bands_terramind),
            statistics={
                version: (pick(mean), pick(std)) for version, (mean, std) in self.statistics.items()
            },
            full=self.full or self,
        )

    def scaling(self, spec: ModelSpec, normalize: str) -> Scaling:
        """Return what a model's pixels are scaled and filled with.

        Raises
        ------
        EngineError
            Where the model was not pretrained on the modality and values are to be z-scored.
        """
        fill = self.statistics.get(spec.statistics, self.statistics["v1"])[0]
        if normalize != "zscore":
            return Scaling((0.0,) * len(self.bands), (1.0,) * len(self.bands), fill)
        if spec.statistics not in self.statistics:
            raise EngineError(
                explain(
                    f"model={spec.key!r} with modality={self.name!r}",
                    "S2L2A: version 0.1 was pretrained on no other raw modality",
                    "Use a terramind_v1 model, or normalize='raw' with values that you scaled.",
                )
            )
        return Scaling(*self.statistics[spec.statistics], fill)


def band_labels(names: Sequence[str]) -> np.ndarray:
    """Return names as values of a ``band`` coordinate.

    As objects: Zarr 3 has a stable type for strings of any length, but none for a fixed one.
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
    """Look up a modality, forgiving case, ``-`` and ``_``: ``"S2L2A"`` or ``"s2_l2a"``.

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
