"""What to do where bands do not fit: messages with the calls that mend the cube at hand."""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from xr_terramind.cube.bands.names import DEA_BANDS, band_of, plain_name, read_bands
from xr_terramind.cube.caller import Caller
from xr_terramind.cube.report import Issue, make_warning
from xr_terramind.errors import BandError, explain
from xr_terramind.model.modalities import MODALITIES, Modality

_FEW_BANDS = 3  # of a modality with at least twice as many


def guess_bands(
    names: Sequence[object], modality: Modality, missing: Sequence[str]
) -> dict[int, str]:
    """Guess the missing bands that names stand for, by position: for remedies, never for pixels."""
    if len(missing) == len(modality.bands):
        numbers, bands = _read_numbers(names), _bands_of_count(len(names), modality)
        if numbers and bands:
            return {i: bands[n - min(numbers)] for i, n in enumerate(numbers)}
        if len(names) == len(modality.bands) == 1 and band_of(names[0]) is None:
            return {0: modality.bands[0]}
    inner = [_cut_affixes(str(name)) for name in names]
    guess = {
        i: band
        for i, (known, band) in enumerate(zip(read_bands(names), read_bands(inner), strict=True))
        if known is None and band is not None and band in missing
    }
    # Landsat and MODIS number their bands as well, and mean others: only Sentinel-2 has these.
    numbered = modality.is_sentinel2 and all(re.fullmatch(r"[bB]\d+", inner[i]) for i in guess)
    if numbered and not {"B8A", "B12"} & set(guess.values()):
        return {}
    return guess if len(set(guess.values())) == len(guess) else {}


def _read_numbers(names: Sequence[object]) -> list[int]:
    # Of "band_1", "band_2", ...: one stem for all, and a number each.
    counts = [re.fullmatch(r"(\D*)(\d+)", str(name)) for name in names]
    found = [count for count in counts if count]
    alike = len(found) == len(names) and len({count[1] for count in found}) == 1
    numbers = [int(count[2]) for count in found]
    first = min(numbers, default=0)
    in_turn = sorted(numbers) == list(range(first, first + len(names)))
    return numbers if alike and in_turn and first in (0, 1) else []


def _bands_of_count(n_bands: int, modality: Modality) -> tuple[str, ...]:
    # All of them, or Sentinel-2's ten of 10 and 20 m, which many products have alone.
    ten = tuple(band for band in modality.bands if band not in ("B1", "B9", "B10"))
    choices = [modality.bands, ten] if modality.is_sentinel2 else [modality.bands]
    return next((bands for bands in choices if len(bands) == n_bands), ())


def _modalities_of_count(n_bands: int, modality: Modality) -> list[Modality]:
    return [m for m in MODALITIES.values() if len(m.bands) == n_bands and m != modality]


def _cut_affixes(name: str) -> str:
    # The longest run of words that is a band: "b8a" of "nbart_b8a", "B02" of "B02_median".
    counted = re.sub(r"(?i)\bband[ _-]?0*(\d+a?)$|^0*(\d+a?)$", r"B\1\2", name)
    words = re.findall(r"[A-Za-z0-9]+", counted)
    runs = ["".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    bands = [run for run in runs if band_of(run) or run.lower() in DEA_BANDS]
    return max(bands, key=len, default=name)


def explain_missing(
    names: Sequence[object],
    missing: Sequence[str],
    guess: Mapping[int, str],
    modality: Modality,
    caller: Caller,
) -> BandError:
    """Say which bands are missing, and the call that names them, or goes on without them."""
    rest = [band for band in missing if band not in guess.values()]
    fits = _name_fitting(names, modality)
    mean = f"missing_bands='mean', which takes {', '.join(rest)} at the mean of pretraining"
    others = _modalities_of_count(len(names), modality) if _read_numbers(names) else []
    if guess:
        sure = all(band_of(_cut_affixes(str(names[i]))) for i in guess)
        start = "Name the bands with" if sure else "If they are these, in this order, name them:"
        remedy = f"{start} {caller.rename_call(names, guess)}"
        remedy += f", and pass {mean}." if rest else "."
    elif others and len(missing) == len(modality.bands):
        first = min(_read_numbers(names))
        bands = {i: others[0].bands[n - first] for i, n in enumerate(_read_numbers(names))}
        remedy = (
            f"If they are these, in this order, name them: {caller.rename_call(names, bands)}, "
            f"and choose {' or '.join(f'modality={m.name!r}' for m in others)}."
        )
    elif len(missing) < len(modality.bands):
        surplus = set(read_bands(names)) - set(modality.bands)
        pick = f" after {caller.arrange_call(modality, lacks=True)}" if surplus else ""
        remedy = f"Pass {mean}{pick}; load them; or choose the modality that fits{fits}."
    elif fits:
        remedy = f"Load the missing ones, or choose the modality that fits{fits}."
    else:
        call = "rename({...})" if caller.band is None else f"assign_coords({caller.band}=[...])"
        remedy = (
            f"Name the bands with cube.{call}, load the missing ones, "
            "or choose the modality that fits them."
        )
    return BandError(
        explain(
            f"bands [{', '.join(map(str, names))}], without {', '.join(missing)}",
            f"{modality.name} needs {', '.join(modality.bands)}",
            remedy,
        )
    )


def explain_unnamed(n_bands: int, modality: Modality, caller: Caller) -> BandError:
    """Say that bands have no names and another number than the model's."""
    call = f"cube.assign_coords({caller.band or 'band'}="
    others = _modalities_of_count(n_bands, modality)
    bands = list(_bands_of_count(n_bands, modality))
    remedy = f"Name them with {call}[...]), or choose another modality."
    if bands:
        remedy = (
            f"If they are {', '.join(bands)}, in this order, name them with {call}{bands}) and "
            "pass missing_bands='mean'."
        )
    elif others:
        remedy = (
            f"Name them with {call}[...]), or, if they are {', '.join(others[0].bands)}, in this "
            f"order, choose {' or '.join(f'modality={m.name!r}' for m in others)}."
        )
    expected = f"the {len(modality.bands)} of {modality.name}: {', '.join(modality.bands)}"
    return BandError(explain(f"{n_bands} bands without names", expected, remedy))


def _name_fitting(names: Sequence[object], modality: Modality) -> str:
    # The other modalities that have just the bands that are known.
    there = set(read_bands(names)) - {None}
    fit = [m.name for m in MODALITIES.values() if set(m.bands) == there and m != modality]
    colour = " for 8-bit colour" if fit == ["RGB"] else ""
    return f": {' or '.join(f'modality={name!r}' for name in fit)}{colour}" if fit else ""


def subset_issues(
    modality: Modality, names: Mapping[str, Hashable], dtype: np.dtype
) -> Iterator[Issue]:
    """Doubt a subset of bands that says little, or that may be another sensor's."""
    total = len(modality.bands) + len(modality.missing)
    if not modality.missing:
        return
    if set(modality.bands) <= set(MODALITIES["RGB"].bands) and dtype == np.uint8:
        yield make_warning(
            "colour",
            f"{', '.join(modality.bands)} of uint8, as 8-bit colours are",
            f"{modality.unit} for {modality.name}",
            "Use modality='RGB' for colours of all three bands.",
        )
    elif len(modality.bands) < _FEW_BANDS <= total / 2:
        yield make_warning(
            "few-bands",
            f"{len(modality.bands)} of the {total} bands of {modality.name}",
            f"{_FEW_BANDS} at least: vectors made of fewer say little",
            f"Load some of {', '.join(modality.missing)}.",
        )
    numbered = all(re.fullmatch(r"b0?\d+", plain_name(name)) for name in names.values())
    if modality.is_sentinel2 and numbered and {"B5", "B6", "B7"} <= set(modality.bands):
        if {"B8", "B8A", "B12"} <= set(modality.missing):
            yield make_warning(
                "landsat-names",
                f"bands {', '.join(modality.bands)}, which Landsat numbers in another way",
                "Sentinel-2, whose B5 to B7 are red edge, and near infrared B8",
                "If they are Landsat's, say which is which: "
                "OLI's B5 is B8A here, its B6 B11, its B7 B12.",
            )
