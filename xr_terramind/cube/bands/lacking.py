"""Bands that lack values where other bands have them."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from xr_terramind.cube.bands.nodata import counting_values
from xr_terramind.cube.caller import Caller
from xr_terramind.cube.report import Issue, make_warning
from xr_terramind.model.modalities import Modality

LACKING_SHARE = 0.001
"""Of the pixels in which other bands have values: from here on a band that lacks them is told."""

_MAX_SAMPLE_VALUES = 1_000_000


def lacking_issues(
    images: Sequence[np.ndarray], nodata: Sequence[float], modality: Modality, caller: Caller
) -> list[Issue]:
    """Tell of bands that lack values where other bands have them.

    `images` are raw values (..., band, y, x), whole: of every n-th pixel only, a band that is there
    in every third would seem to be there in all or in none.
    """
    counting = counting_values(nodata, modality)
    if len(modality.bands) == 1 or not any(counting or i.dtype.kind == "f" for i in images):
        return []
    n_lacking, n_seen = np.zeros(len(modality.bands), int), 0
    for image in images:
        values = _thin(image)
        lacking = _find_lacking(values, counting)
        # Where the other bands are 0, a pixel of Sentinel-2 is missing in all.
        nothing = lacking | (values == 0) if modality.is_sentinel2 else lacking
        seen = ~nothing.all(axis=-3)
        along = tuple(axis for axis in range(lacking.ndim) if axis != lacking.ndim - 3)
        n_lacking += np.count_nonzero(lacking & np.expand_dims(seen, -3), axis=along)
        n_seen += int(np.count_nonzero(seen))
    shares = {
        band: float(n / n_seen)
        for band, n in zip(modality.bands, n_lacking, strict=True)
        if n > LACKING_SHARE * n_seen
    }
    return [_make_issue(shares, images, counting, modality, caller)] if shares else []


def _find_lacking(values: np.ndarray, nodata: Sequence[float]) -> np.ndarray:
    lacking = ~np.isfinite(values)
    with np.errstate(over="ignore"):  # as in invalid_pixels
        for value in nodata:
            lacking |= values == value
    return lacking


def _thin(values: np.ndarray) -> np.ndarray:
    # Bands of 20 m and 60 m on a finer grid stand in every 2nd, 3rd or 6th row and column: a step
    # without these divisors meets them in their true share.
    step = max(1, math.ceil(math.sqrt(values.size / _MAX_SAMPLE_VALUES)))
    while math.gcd(step, 6) > 1:
        step += 1
    return values[..., ::step, ::step]


def _make_issue(
    shares: Mapping[str, float],
    images: Sequence[np.ndarray],
    nodata: Sequence[float],
    modality: Modality,
    caller: Caller,
) -> Issue:
    listed = ", ".join(f"{band} in {share:.1%}" for band, share in shares.items())
    spacings = _find_spacings(shares, images, nodata, modality)
    remedies = []
    if spacings:
        # Twice the spacing reaches a value from everywhere, also from the edges; bands that stand
        # closer are filled first, and so from their nearest values.
        windows = ", ".join(str(2 * n - 1) for n in spacings)
        remedies.append(
            f"Values stand in every {' or '.join(map(_ordinal, spacings))} row and column only, "
            "as where coarser bands were merged with finer ones. Fill the gaps: "
            f"for n in [{windows}]: cube = cube.fillna(cube.rolling({{{caller.y!r}: n, "
            f"{caller.x!r}: n}}, center=True, min_periods=1).mean())."
        )
    if caller.masks_zero and modality.is_sentinel2:
        remedies.append(
            "Where dark pixels are meant, whose 0 was masked as the file was opened, bring them "
            "back with cube.fillna(0); 0 in all bands still counts as missing."
        )
    if 2 * len(shares) <= len(modality.bands):
        remedies.append(
            f"To go on without: {caller.arrange_call(modality)}.drop_sel(band={list(shares)}), "
            "with missing_bands='mean'."
        )
    elif not spacings:
        remedies.append(
            "Look at how bands were masked. Where these pixels are meant to be missing, say so of "
            f"all bands: cube = {caller.arrange_call(modality)}; "
            + "".join(f"cube = cube.where(cube != {value:g}); " for value in nodata)
            + "cube = cube.where(cube.notnull().all('band'))."
        )
    return make_warning(
        "band-missing",
        f"bands without values where other bands have them: {listed} of these pixels",
        "all bands in each pixel; one that lacks a band counts as missing",
        " ".join(remedies),
    )


def _ordinal(n: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(n, f"{n}th")


def _find_spacings(
    shares: Mapping[str, float],
    images: Sequence[np.ndarray],
    nodata: Sequence[float],
    modality: Modality,
) -> list[int]:
    # How far apart rows and columns with values stand, of bands that are NaN in between.
    found = set()
    for band in () if nodata else shares:
        number = modality.bands.index(band)
        for image in images:
            there = np.isfinite(image[..., number, :, :])
            there = there.reshape(-1, *there.shape[-2:]).any(axis=0)
            steps = [np.diff(np.flatnonzero(there.any(axis=axis))) for axis in (1, 0)]
            apart = [int(np.gcd.reduce(step)) if step.size else 1 for step in steps]
            if min(apart) > 1:
                found.add(max(apart))
                break
    return sorted(found)
