"""What to do where bands do not fit: messages with the calls that mend the cube at hand."""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xr_terramind.cube.bands.names import DEA_BANDS, band_of, plain_name, read_bands
from xr_terramind.cube.report import Issue, make_warning
from xr_terramind.errors import BandError, explain
from xr_terramind.model.modalities import MODALITIES, Modality

_FEW_BANDS = 3  # of a modality with at least twice as many


class Source(NamedTuple):
    """How a cube's owner writes it, for remedies that work on it as it is."""

    band: Hashable | None = "band"  # dimension of the bands; None where each is a variable
    y: Hashable = "y"
    x: Hashable = "x"
    masks_zero: bool = False  # was read with 0 as NaN

    def rename_call(self, names: Sequence[object], bands: Mapping[int, str]) -> str:
        """Write the call that gives bands, by their positions, the model's names."""
        if self.band is None:
            return f"cube.rename({ {str(names[i]): band for i, band in bands.items()} })"
        renamed = [bands.get(i, str(name)) for i, name in enumerate(names)]
        return f"cube.assign_coords({self.band}={renamed})"

    def drop_call(self, names: Sequence[object], surplus: Sequence[int]) -> str:
        """Write the call that leaves out the bands at some positions."""
        if self.band is None:
            return f"cube.drop_vars({[str(names[i]) for i in surplus]})"
        kept = [i for i in range(len(names)) if i not in surplus]
        # Names first: those in attributes would not follow.
        labels = [str(names[i]) for i in kept]
        return f"cube.isel({self.band}={kept}).assign_coords({self.band}={labels})"

    def arrange_call(self, modality: Modality, *, lacks: bool = False) -> str:
        """Write the call that picks the model's bands, of a cube that may lack some."""
        also = ", missing_bands='mean'" if lacks or modality.full else ""
        return f"cube.terramind.arrange({modality.name!r}{also})"


AS_USUAL = Source()


def guess_bands(
    names: Sequence[object], modality: Modality, missing: Sequence[str]
) -> dict[int, str]:
    """Guess the missing bands that names stand for, by position: for remedies, never for pixels."""
    if len(missing) == len(modality.bands) == len(names):
        numbers = _read_numbers(names)
        if sorted(numbers) in (list(range(len(names))), list(range(1, len(names) + 1))):
            return {i: modality.bands[n - min(numbers)] for i, n in enumerate(numbers)}
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
    return [int(count[2]) for count in found] if alike else []


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
    source: Source,
) -> BandError:
    """Say which bands are missing, and the call that names them, or goes on without them."""
    rest = [band for band in missing if band not in guess.values()]
    fits = _name_fitting(names, modality)
    mean = f"missing_bands='mean', which takes {', '.join(rest)} at the mean of pretraining"
    if len(guess) == len(names) == len(modality.bands) and _read_numbers(names):
        call = source.rename_call(names, guess)
        remedy = f"If they are these bands in this order, name them with {call}."
    elif guess:
        call = source.rename_call(names, guess)
        remedy = f"Name the bands with {call}" + (f", and pass {mean}." if rest else ".")
    elif len(missing) < len(modality.bands):
        surplus = set(read_bands(names)) - set(modality.bands)
        pick = f" after {source.arrange_call(modality, lacks=True)}" if surplus else ""
        remedy = f"Pass {mean}{pick}; load them; or choose the modality that fits{fits}."
    elif fits:
        remedy = f"Load the missing ones, or choose the modality that fits{fits}."
    else:
        call = "rename({...})" if source.band is None else f"assign_coords({source.band}=[...])"
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
