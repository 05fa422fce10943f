"""The +1000 that Sentinel-2 products carry since processing baseline 04.00, date by date.

Neither the date nor the attrs decide: older scenes were processed again with the offset, and many
sources have subtracted it. The darkest pixels tell.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from xr_terramind.cube.report import Fix, Issue, make_warning
from xr_terramind.cube.values.images import Image, Told, pool
from xr_terramind.cube.values.remedies import Group

OFFSET = 1000.0
_BASELINE = "2022-01-25"  # the first day of baseline 04.00
_MIN_PIXELS = 64  # of a date, to be judged beside others

# Where the darkest few percent of the values lie. Deep shadow and water come out below 1000, which
# is what the offset is for; a scene that is brighter at its darkest (snow, cloud) tells nothing.
_DARKEST = (900.0, 1700.0)

# What the offset adds to the dark end of each band; clouds and snow add more to some bands.
_STEP = (700.0, 1300.0)


def has_offset(image: Image, scale: float = 1.0) -> bool:
    """Whether an image's darkest pixels lie where the offset puts them, once it is scaled."""
    return _DARKEST[0] <= image.low * scale <= _DARKEST[1]


def offset_issues(
    images: Sequence[Image], told: Told, nodata: tuple[float, ...]
) -> Iterator[Issue]:
    """Judge digital numbers of Sentinel-2 for the offset, and name the dates that have it."""
    if told.is_packed and abs(told.scale * 10000 - 1) < 1e-6 and told.offset:
        yield _told_issue(images, told, nodata)
        return
    judged = [image for image in images if len(images) == 1 or image.pixels.shape[1] >= _MIN_PIXELS]
    without = [image for image in judged if image.low < _DARKEST[0]]
    shifted = [image for image in judged if has_offset(image)]
    if without:
        floor = np.median([_floors(image) for image in without], axis=0)
        shifted = [image for image in shifted if _is_step(_floors(image) - floor)]
    if not shifted:
        return
    chosen = {id(image) for image in shifted}
    others = tuple(image for image in judged if id(image) not in chosen) if without else ()
    group = Group(
        tuple(shifted) if without else tuple(images), others, nodata, told, zero_is_nodata=True
    )
    whole = pool(shifted)
    yield make_warning(
        "boa-offset",
        f"{_darkest_words(whole)}{group.where}",
        "dark pixels well under 1000, such as water or shadow",
        "Products of processing baseline 04.00 and later (from 25 January 2022) carry an "
        f"offset of +1000: subtract it with {group.rescale(offset=-OFFSET)}, unless the source "
        "has done so, or all is as bright as desert or cloud.",
        fix=None if others else Fix(offset=-OFFSET),
    )


def _darkest_words(whole: Image) -> str:
    if whole.ordered[0] >= OFFSET:
        return f"no valid value under 1000 (the least is {whole.ordered[0]:.5g})"
    return (
        f"{whole.share_below(OFFSET):.2%} of the valid values under 1000 (96 % are {whole.low:.5g} "
        f"or more, the least is {whole.ordered[0]:.5g})"
    )


def _floors(image: Image) -> np.ndarray:
    return np.quantile(image.pixels, 0.05, axis=1)


def _is_step(step: np.ndarray) -> bool:
    inside = (step > _STEP[0]) & (step < _STEP[1])
    return bool(_STEP[0] < np.median(step) < _STEP[1] and inside.mean() >= 0.6)


def _told_issue(images: Sequence[Image], told: Told, nodata: tuple[float, ...]) -> Issue:
    whole, offset = pool(images), told.offset * 10000
    group = Group(tuple(images), (), nodata, told, zero_is_nodata=True)
    arithmetic = f"value * {told.scale:g} + {told.offset:g} is reflectance"
    call = group.rescale(offset=float(f"{offset:.9g}"))
    below = whole.share_below(-offset - 100)
    if below <= 0.04:
        return make_warning(
            "boa-offset",
            f"scale_factor={told.scale:g} and add_offset={told.offset:g} in attrs, not applied to "
            f"the values (96 % of them are {whole.low:.5g} or more)",
            f"reflectance x 10000 ({arithmetic})",
            f"Add {offset:g}: {call}.",
            fix=Fix(offset=offset),
        )
    return make_warning(
        "offset-in-attrs",
        f"add_offset={told.offset:g} in attrs, which asks for {offset:g}, beside values of which "
        f"{below:.1%} would fall below 0",
        "one or the other",
        "If the source has applied it already, say so: cube.assign_attrs(scale_factor=1, "
        f"add_offset=0). If not, {call}.",
    )
