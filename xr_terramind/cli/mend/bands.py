"""``--bands``: names for the bands of a file, or a choice; and the messages that ask for it."""

from collections.abc import Sequence

import xarray as xr

from xr_terramind.cube.bands import band_names, band_of
from xr_terramind.cube.bands.names import read_bands
from xr_terramind.cube.bands.remedies import guess_bands
from xr_terramind.cube.dims import name_band_dim
from xr_terramind.errors import BandError, explain
from xr_terramind.model.modalities import MODALITIES, Modality


def choose_bands(array: xr.DataArray, text: str, modality: Modality) -> xr.DataArray:
    """Name or choose bands as a user wrote it.

    ``B2,B3,B4`` names the bands in the file's order, and chooses where the file has these names.
    ``red=B4,3=B2`` chooses by name or by number from 1, and says which band each is.

    Raises
    ------
    BandError
        For a name that the file does not have, or another number of names than it has bands.
    """
    array = name_band_dim(array, modality)
    own = band_names(array)
    n_bands = array.sizes["band"]
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    if any("=" in word for word in wanted):
        pairs = [word.partition("=")[::2] for word in wanted]
        places = [_find_band(name.strip(), own, n_bands) for name, _ in pairs]
        names = [band.strip() or name.strip() for name, band in pairs]
    elif own is not None and all(_list_places(name, own) for name in wanted):
        places, names = [_find_band(name, own, n_bands) for name in wanted], wanted
    elif len(wanted) == n_bands:
        # Whoever names each band knows which are none of the model's.
        kept = [i for i, name in enumerate(wanted) if band_of(name) or name in modality.bands]
        places, names = kept, [wanted[i] for i in kept]
    else:
        raise BandError(
            explain(
                f"--bands with {len(wanted)} names",
                f"one for each of the file's {n_bands} bands, or some of its own names "
                f"({', '.join(own) if own else 'it has none'})",
                "Or choose them by number, as in --bands 1=B2,2=B3.",
            )
        )
    chosen = array.isel(band=places).assign_coords(band=names)
    # Descriptions would name the bands, too.
    chosen.attrs = {key: value for key, value in array.attrs.items() if key != "long_name"}
    return chosen


def _list_places(name: str, own: Sequence[str]) -> list[int]:
    # Its own spelling comes first: a file may have B8 and nir.
    exact = [i for i, other in enumerate(own) if other == name]
    band = band_of(name)
    return exact or [
        i for i, other in enumerate(own) if band is not None and band_of(other) == band
    ]


def _find_band(name: str, own: Sequence[str] | None, n_bands: int) -> int:
    places = _list_places(name, own or ())
    if len(places) == 1:
        return places[0]
    if not places and name.isdecimal() and 1 <= int(name) <= n_bands:
        return int(name) - 1
    found = f"--bands with {name}" + (f", as {len(places)} bands are called" if places else "")
    raise BandError(
        explain(
            found,
            f"names of this file: {', '.join(own)}" if own else f"numbers from 1 to {n_bands}",
            f"Choose by number, from 1 to {n_bands}: --bands 1=B2,2=B3.",
        )
    )


def list_pairs(bands: Sequence[str], places: Sequence[int]) -> str:
    """Write bands as pairs of their number in the file, from 1, and their name."""
    return ",".join(f"{place + 1}={band}" for place, band in zip(places, bands, strict=True))


def choose_flags(names: Sequence[str], bands: Sequence[str]) -> str:
    """Write the flag that chooses some of the model's bands, by name where that is clear."""
    own = read_bands(names)
    places = [own.index(band) for band in bands]
    chosen = [names[place] for place in places]
    clear = all(names.count(name) == 1 and not set(name) & set(",= ") for name in chosen)
    return f"--bands {','.join(chosen) if clear else list_pairs(bands, places)}"


def say_bands(names: list[str] | None, n_bands: int, modality: Modality) -> str:
    """Say which flags make the bands of a file those of a modality; None is for no names."""
    if names is None:
        return _say_unnamed(n_bands, modality)
    own = read_bands(names)
    missing = [band for band in modality.bands if band not in own]
    if missing:
        return _say_missing(names, missing, modality)
    also = ""
    if modality.name == "S2L2A" and "B10" in own:
        also = " B10 belongs to L1C: if this file is L1C, pass --modality S2L1C instead."
    return f"Choose the model's bands with {choose_flags(names, modality.bands)}.{also}"


def _say_unnamed(n_bands: int, modality: Modality) -> str:
    ways = [
        f"--modality {name} if they are {', '.join(other.bands)}, in this order"
        for name, other in MODALITIES.items()
        if len(other.bands) == n_bands
    ]
    named = "--bands with their names in the order of the file"
    if n_bands > len(modality.bands):
        numbered = list_pairs(modality.bands, range(len(modality.bands)))
        ways.append(f"{named}, or with numbers: --bands {numbered}")
    else:
        ways.append(f"{named}, and --missing-bands mean")
    return f"Pass {'; or '.join(ways)}."


def _say_missing(names: list[str], missing: list[str], modality: Modality) -> str:
    own = read_bands(names)
    guess = guess_bands(names, modality, missing)
    if guess:
        # As they stand in the file, with those that are known already.
        bands = [guess.get(place, band) for place, band in enumerate(own)]
        kept = [place for place, band in enumerate(bands) if band in modality.bands]
        pairs = list_pairs([str(bands[place]) for place in kept], kept)
        lack = len(missing) > len(guess)
        return f"If they are these, pass --bands {pairs}{' --missing-bands mean' if lack else ''}."
    words = "If they are there under other names, pass --bands with the right ones in the order "
    words += f"of the file, {len(names)} of them."
    fitting = [
        name
        for name, other in MODALITIES.items()
        if set(other.bands) == set(own) - {None} and name != modality.name
    ]
    colour = " if they are 8-bit colours" if fitting == ["RGB"] else ""
    words += "".join(f" Or pass --modality {name}{colour}." for name in fitting)
    if len(missing) < len(modality.bands):
        surplus = set(own) - set(modality.bands)
        there = [band for band in modality.bands if band in own]
        pick = f"{choose_flags(names, there)} " if surplus else ""
        words += f" If they are not there, {pick}--missing-bands mean goes on without them."
    return words
