"""Judge the unit of Sentinel-1 images, which is dB, and of heights, which is metres."""

from xr_terramind.cube.report import Fix, Issue, make_warning
from xr_terramind.cube.values.images import ODD_SHARE, Image, Told
from xr_terramind.cube.values.reflectance import RIGHT, Unit
from xr_terramind.cube.values.remedies import Group, format_value
from xr_terramind.errors import ValueRangeError, explain

# Metres per unit of height.
_METRES = {
    "ft": 0.3048, "feet": 0.3048, "foot": 0.3048, "us survey foot": 1200 / 3937,
    "cm": 0.01, "centimetre": 0.01, "centimeter": 0.01, "dm": 0.1, "decimetre": 0.1,
    "decimeter": 0.1, "mm": 0.001, "km": 1000.0,
}  # fmt: skip

# Between these lies the median of any scene in dB: VV and VH of land, sea and ice.
_MEDIAN_DB = (-45.0, -0.5)

_GREATEST_POWER = 100  # of all but a few pixels; digital numbers of a GRD product go to thousands


def unit_of_backscatter(image: Image, told: Told) -> Unit:
    """Tell an image's unit by where its median lies and how many of its values are negative."""
    middle = image.quantile(0.5)
    scaled = told.scale * middle + told.offset
    is_db = _MEDIAN_DB[0] < middle < _MEDIAN_DB[1]
    if told.is_packed and not is_db and _MEDIAN_DB[0] < scaled < _MEDIAN_DB[1]:
        return Unit("packed-values", told.scale, told.offset)
    # Noise that was subtracted leaves negative power, over water in many pixels, but little of it.
    if image.share_below(0) <= ODD_SHARE or (middle > _MEDIAN_DB[1] and image.low > -0.5):
        return Unit("linear-power")
    if middle < _MEDIAN_DB[0] and image.share_below(0) > 0.5:
        return Unit("decibel-scaled", 0.01 if middle < -400 else 0.1)
    return RIGHT


def backscatter_issue(unit: Unit, group: Group, whole: Image) -> Issue:
    """Explain a unit that is not dB; `whole` holds the group's values."""
    expected = "backscatter in dB, mostly from -30 to 0"
    negative = whole.share_below(0)
    words = "none negative" if not negative else f"{negative:.1%} of them negative"
    span = f"Sentinel-1 values from {whole.low:.3g} to {whole.high:.3g} but for a few{group.where}"
    if unit.code == "linear-power":
        # What is neither dB nor power is an error where it is all that there is.
        is_sure = whole.high <= _GREATEST_POWER or min(group.undeclared, default=0) >= 0
        return Issue(
            unit.code,
            "error" if is_sure else "warning",
            explain(f"{span}, {words}{group.told.words}", expected, _power_remedy(group, whole)),
            ValueRangeError,
        )
    call = group.rescale(unit.scale, unit.offset)
    return make_warning(
        unit.code,
        f"{span}{group.told.words}: dB x {1 / unit.scale:g}, it seems",
        expected,
        f"Multiply by {format_value(unit.scale)}: {call}.",
        fix=None if group.others else Fix(scale=unit.scale, offset=unit.offset),
    )


def _power_remedy(group: Group, whole: Image) -> str:
    if whole.high > _GREATEST_POWER:
        return (
            "Digital numbers of a GRD product are to be calibrated to sigma0 or gamma0 first; "
            "linear power then becomes dB by 10 * log10(power)."
        )
    call = group.only_here("10 * numpy.log10(cube.where(cube > 0))")
    return f"Linear power becomes dB by 10 * log10(power): {call}."


def height_issue(told: Told) -> Issue | None:
    """Tell of heights whose attrs name another unit than metres."""
    metres = _METRES.get(told.units.strip().lower())
    if metres is None:
        return None
    return make_warning(
        "height-unit",
        f"heights in {told.units!r}, as attrs say",
        "m",
        f"Multiply by {metres:.6g}: (cube * {metres:.6g}).assign_attrs(units='m').",
        fix=Fix(scale=metres),
    )
