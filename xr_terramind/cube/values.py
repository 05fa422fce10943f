"""Judge raw pixel values by the unit that the modality was trained on."""

import math
from collections.abc import Iterator

import numpy as np

from xr_terramind.cube.report import Issue, make_warning
from xr_terramind.errors import ValueRangeError, explain
from xr_terramind.model.modalities import Modality

_OUTSIDE_SHARE = 0.05  # of values out of range, from which a warning is due
_MAX_SAMPLE_VALUES = 250_000


def value_issues(values: np.ndarray, invalid: np.ndarray, modality: Modality) -> list[Issue]:
    """Judge raw values (..., band, y, x) by the modality's unit, leaving out invalid (..., y, x).

    No issue where the values look right, and where no pixel is valid.
    """
    valid = np.moveaxis(values, -3, -1)[~invalid]  # (pixel, band)
    if not valid.size:
        return []
    if modality.is_sentinel1:
        return list(_backscatter_issues(valid))
    if modality.clip is None:
        return []
    return list(_reflectance_issues(valid, modality))


def _backscatter_issues(valid: np.ndarray) -> Iterator[Issue]:
    if valid.min() >= 0:
        yield Issue(
            "linear-power",
            "error",
            explain(
                f"Sentinel-1 values from {valid.min():.3g} to {valid.max():.3g}, none negative",
                "backscatter in dB, mostly from -30 to 0",
                "Linear power becomes dB by 10 * log10(power): "
                "10 * numpy.log10(cube.where(cube > 0)).",
            ),
            ValueRangeError,
        )


def _reflectance_issues(valid: np.ndarray, modality: Modality) -> Iterator[Issue]:
    low, high = modality.clip or (0.0, 0.0)
    n_values = valid.size
    small = np.count_nonzero((valid > -0.2) & (valid < 2.0)) / n_values
    if valid.dtype.kind == "f" and small >= 0.99 and np.any(valid != np.rint(valid)):
        yield Issue(
            "reflectance-0-1",
            "error",
            explain(
                f"values from {valid.min():.4g} to {valid.max():.4g}, "
                f"{small:.1%} of them under 2: 0-1 reflectance, it seems",
                f"{modality.unit}, {low:g} to {high:g}",
                f"Multiply by {high:g}: (cube * {high:g}).terramind.embed(...).",
            ),
            ValueRangeError,
        )
        return
    for share, words in (
        (np.count_nonzero(valid > high) / n_values, f"above {high:g}"),
        (np.count_nonzero(valid < low) / n_values, f"below {low:g}"),
    ):
        if share > _OUTSIDE_SHARE:
            yield make_warning(
                "value-range",
                f"{share:.1%} of the valid values {words} (they go from {valid.min():.5g} "
                f"to {valid.max():.5g})",
                f"{modality.unit}, {low:g} to {high:g}",
                "Look at scale and offset of the source; values outside are clipped.",
            )
    if modality.is_sentinel2 and valid.min() >= 1000:
        yield make_warning(
            "boa-offset",
            f"no valid value under 1000 (the least is {valid.min():.5g})",
            "dark pixels well under 1000, such as water or shadow",
            "Products of processing baseline 04.00 and later (from 25 January 2022) carry an "
            "offset of +1000: subtract it with cube.where(cube != 0) - 1000, unless the source "
            "has done so.",
        )


def sample_values(values: np.ndarray) -> np.ndarray:
    """View every n-th row and column (..., band, y, x), some 250,000 values at the most."""
    step = max(1, math.ceil(math.sqrt(values.size / _MAX_SAMPLE_VALUES)))
    return values[..., ::step, ::step]


def value_facts(values: np.ndarray, invalid: np.ndarray) -> dict[str, str]:
    """Describe raw values (..., band, y, x) in one line, for a report."""
    valid = np.moveaxis(values, -3, -1)[~invalid]
    share = 1 - np.count_nonzero(invalid) / invalid.size
    if not valid.size:
        return {"values": "no valid pixel in the sample"}
    low, middle, high = (float(np.percentile(valid, q)) for q in (1, 50, 99))
    return {
        "values": f"1 % {low:.5g}, median {middle:.5g}, 99 % {high:.5g}; "
        f"{share:.1%} of {invalid.size} sampled pixels valid"
    }
