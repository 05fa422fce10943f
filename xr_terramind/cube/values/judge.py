"""Judge raw pixel values by the unit that the modality was trained on: the recipe."""

from collections.abc import Iterator, Sequence

from xr_terramind.cube.report import Issue, make_warning
from xr_terramind.cube.values.backscatter import (
    backscatter_issue,
    height_issue,
    unit_of_backscatter,
)
from xr_terramind.cube.values.images import NOTHING_TOLD, Image, Told, pool
from xr_terramind.cube.values.offset import offset_issues
from xr_terramind.cube.values.reflectance import RIGHT, Unit, range_issues, unit_issue, unit_of
from xr_terramind.cube.values.remedies import Group
from xr_terramind.cube.values.undeclared import find_undeclared, undeclared_issues
from xr_terramind.model.modalities import Modality

_MIN_PIXELS = 64  # of a date, for a verdict of its own


def value_issues(
    images: Sequence[Image],
    modality: Modality,
    told: Told = NOTHING_TOLD,
    nodata: tuple[float, ...] = (),
) -> list[Issue]:
    """Judge the valid pixels of images, dates that differ apart; no issue where none is valid."""
    seen = [image for image in images if image.pixels.size]
    if not seen:
        return []
    undeclared = find_undeclared(seen, modality)
    issues = list(undeclared_issues(undeclared))
    rest = [image.without(undeclared) for image in seen]
    rest = [image for image in rest if image.pixels.size]
    if rest:
        kept = (*nodata, *undeclared)
        issues += _unit_issues(rest, modality, told, kept, tuple(undeclared))
        if modality.clip is not None and not any(issue.severity == "error" for issue in issues):
            issues += range_issues(pool(seen), modality)
    return issues


def no_valid_pixel_issue(where: str = "in the sample") -> Issue:
    """Say that there was nothing to judge."""
    return make_warning(
        "no-valid-pixel",
        f"no valid pixel {where}",
        "pixels that are neither NaN nor nodata (nor 0 in all bands of Sentinel-2)",
        "Look at the area, the dates and the nodata value; every vector would be NaN.",
    )


def _unit_issues(
    images: Sequence[Image],
    modality: Modality,
    told: Told,
    nodata: tuple[float, ...],
    undeclared: tuple[float, ...],
) -> Iterator[Issue]:
    if modality.name == "DEM":
        issue = height_issue(told)
        if issue is not None:
            yield issue
        return
    groups = _group_by_unit(images, modality, told)
    for unit, chosen in groups.items():
        if unit != RIGHT:
            others = tuple(i for other, them in groups.items() if other != unit for i in them)
            group = Group(tuple(chosen), others, nodata, told, undeclared, modality.is_sentinel2)
            if modality.is_sentinel1:
                yield backscatter_issue(unit, group, pool(chosen))
            else:
                yield unit_issue(unit, group, pool(chosen), modality)
    if modality.is_sentinel2 and RIGHT in groups:
        yield from offset_issues(groups[RIGHT], told, nodata)


def _group_by_unit(
    images: Sequence[Image], modality: Modality, told: Told
) -> dict[Unit, list[Image]]:
    groups: dict[Unit, list[Image]] = {}
    for image in images:
        # A date with a handful of valid pixels goes with the others.
        if len(images) == 1 or image.pixels.shape[1] >= _MIN_PIXELS:
            groups.setdefault(_unit(image, modality, told), []).append(image)
    return groups or {_unit(pool(images), modality, told): list(images)}


def _unit(image: Image, modality: Modality, told: Told) -> Unit:
    if modality.is_sentinel1:
        return unit_of_backscatter(image, told)
    return unit_of(image, modality, told)
