"""Judge the unit of optical images: reflectance x 10000, or 8-bit colour."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from xr_terramind.cube.report import Fix, Issue, make_warning
from xr_terramind.cube.values.images import ODD_SHARE, Image, Told
from xr_terramind.cube.values.offset import OFFSET, has_offset
from xr_terramind.cube.values.remedies import Group, format_value
from xr_terramind.errors import ValueRangeError, explain
from xr_terramind.model.modalities import Modality

_OUTSIDE_SHARE = 0.05  # of values out of range, from which a warning is due

# Where all but a few values of 12 bands lie below this, they are no digital numbers: of clear deep
# water, the blue bands alone reach 200 to 400.
_DARKEST_SCENE = 150


class Unit(NamedTuple):
    """A unit that values seem to have, and what brings them to the modality's."""

    code: str
    scale: float = 1.0
    offset: float = 0.0


RIGHT = Unit("")


def unit_of(image: Image, modality: Modality, told: Told) -> Unit:
    """Tell an image's unit, from what attrs say and from quantiles."""
    _, top = modality.clip or (0.0, 1.0)
    packed = _packed_unit(image, top, told)
    if packed is not None:
        return packed
    small = image.share_below(2.0) - image.share_below(-0.2)
    if image.is_fractional and small >= 1 - ODD_SHARE:
        return Unit("reflectance-0-1", top)
    if told.is_percent and image.high <= _DARKEST_SCENE:
        return Unit("percent", top / 100)
    if not modality.is_sentinel2 or image.high > 255:
        return RIGHT
    if image.pixels.dtype == np.uint8:
        return Unit("bytes", top / 255)
    if image.is_fractional and image.high <= _DARKEST_SCENE:
        return Unit("percent", top / 100)
    if image.high <= _DARKEST_SCENE or not _looks_like_water(image, modality):
        return Unit("bytes", top / 255)
    return RIGHT


def _packed_unit(image: Image, top: float, told: Told) -> Unit | None:
    # Only where scaled values are reflectance: attrs may outlive the scaling that they ask for.
    if not told.is_packed:
        return None
    high = told.scale * image.high + told.offset
    whole = 100 if told.is_percent else 1
    if not 0.01 * whole < high < 1.6 * whole:
        return None
    scale, offset = told.scale * top / whole, told.offset * top / whole
    if abs(scale - 1) < 1e-6:  # digital numbers; an offset alone is `offset`'s matter
        return RIGHT
    return Unit("packed-values", float(f"{scale:.9g}"), float(f"{offset:.9g}"))


def _looks_like_water(image: Image, modality: Modality) -> bool:
    # Water is dark beyond the visible; land is not.
    def middle(*bands: str) -> float:
        found = [i for i, band in enumerate(modality.bands) if band in bands]
        return float(np.median(image.pixels[found])) if found else 0.0

    return 0 < middle("B8", "B8A", "B11", "B12") < 0.5 * middle("B2", "B3")


def unit_issue(unit: Unit, group: Group, whole: Image, modality: Modality) -> Issue:
    """Explain a unit that is not the modality's; `whole` holds the group's values."""
    low, high = modality.clip or (0.0, 0.0)
    expected = f"{modality.unit}, {low:g} to {high:g}"
    span = f"values from {whole.low:.4g} to {whole.high:.4g} but for a few{group.where}"
    span += group.told.words
    offset = unit.offset
    also = ""
    if not offset and modality.is_sentinel2 and has_offset(whole, unit.scale):
        # Half a remedy would bring the next message.
        offset, also = -OFFSET, " and subtract the offset of +1000, which they seem to carry"
    call = group.rescale(unit.scale, offset)
    fix = None if group.others else Fix(scale=unit.scale, offset=offset)
    if unit.code == "reflectance-0-1":
        small = whole.share_below(2.0) - whole.share_below(-0.2)
        return Issue(
            unit.code,
            "error",
            explain(
                f"{span}, {small:.1%} of them under 2: 0-1 reflectance, it seems",
                expected,
                f"Multiply by {high:g}{also}: ({call}).terramind.embed(...).",
            ),
            ValueRangeError,
            fix,
        )
    words, remedy = {
        "percent": (
            "percent, it seems",
            f"Multiply by {format_value(unit.scale)}{also}: {call}.",
        ),
        "bytes": (
            "bytes scaled to 0..255, it seems",
            f"Open the product itself rather than a picture of it. If 255 stands for a "
            f"reflectance of 1{also}: {call}.",
        ),
        "packed-values": (
            "which are not scaled yet",
            f"Scale them{also}: {call}, which is {modality.unit}.",
        ),
    }[unit.code]
    return make_warning(unit.code, f"{span}: {words}", expected, remedy, fix=fix)


def range_issues(whole: Image, modality: Modality) -> Iterator[Issue]:
    """Tell of values that will be clipped, where they are more than a few."""
    low, high = modality.clip or (0.0, 0.0)
    for share, words in (
        (whole.share_above(high), f"above {high:g}"),
        (whole.share_below(low), f"below {low:g}"),
    ):
        if share > _OUTSIDE_SHARE:
            yield make_warning(
                "value-range",
                f"{share:.1%} of the valid values {words} (they go from {whole.ordered[0]:.5g} "
                f"to {whole.ordered[-1]:.5g})",
                f"{modality.unit}, {low:g} to {high:g}",
                "Look at scale, offset and nodata of the source; values outside are clipped.",
            )
