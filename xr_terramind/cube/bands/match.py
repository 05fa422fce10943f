"""Find the model's bands among a cube's, and put them in order."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from xr_terramind.cube.bands.names import (
    RESOLUTION,
    band_names,
    plain_name,
    read_bands,
)
from xr_terramind.cube.bands.remedies import explain_missing, explain_unnamed, guess_bands
from xr_terramind.cube.caller import AS_USUAL, Caller
from xr_terramind.errors import BandError, explain
from xr_terramind.model.modalities import Modality, band_labels

if TYPE_CHECKING:
    import xarray as xr

# Names of a single image that say nothing of what it holds, as readers give them.
_SAYS_NOTHING = {"data", "banddata", "band1", "1", "0", "image", "raster"}


def match_bands(
    names: Sequence[object],
    modality: Modality,
    *,
    pick: bool = False,
    missing_bands: str = "error",
    caller: Caller = AS_USUAL,
) -> dict[str, int]:
    """Find where the model's bands stand among the names of a cube's bands, in the model's order.

    With `pick`, surplus bands are passed over instead of refused. Where `missing_bands` is
    ``"mean"``, bands may be missing, but not all.

    Raises
    ------
    BandError
        Where a band is missing, stands twice, or (unless `pick`) is not the model's.
    """
    found: dict[str, list[int]] = {}
    for position, (name, band) in enumerate(zip(names, read_bands(names), strict=True)):
        found.setdefault(band or str(name), []).append(position)
    missing = [band for band in modality.bands if band not in found]
    guess = guess_bands(names, modality, missing) if missing else {}
    # Bands that stand there under another name are not missing: half of them is no accident.
    misnamed = len(guess) > 1 and 2 * len(guess) >= len(missing)
    if missing and (missing_bands == "error" or misnamed or len(missing) == len(modality.bands)):
        raise explain_missing(names, missing, guess, modality, caller)
    listed = f"[{', '.join(str(name) for name in names)}]"
    needs = f"{modality.name} needs {', '.join(modality.bands)}"
    doubled = [band for band in modality.bands if len(found.get(band, ())) > 1]
    if doubled:
        which = "; ".join(
            f"{band} as {' and '.join(str(names[i]) for i in found[band])}" for band in doubled
        )
        spare = [i for band in doubled for i in _sort_by_resolution(names, found[band])[1:]]
        drop = f"Drop one of them, for example with {caller.drop_call(names, spare)}."
        raise BandError(explain(f"{which}, in {listed}", f"each band once ({needs})", drop))
    surplus = [band for band in found if band not in modality.bands]
    if surplus and not pick:
        raise BandError(
            explain(
                f"surplus bands {', '.join(str(names[found[b][0]]) for b in surplus)} in {listed}",
                needs,
                f"Pick the model's bands with {caller.arrange_call(modality, lacks=bool(missing))}"
                + (
                    "; B10 belongs to L1C: is this cube of modality 'S2L1C'?"
                    if "B10" in surplus and modality.name == "S2L2A"
                    else "."
                ),
            )
        )
    return {band: found[band][0] for band in modality.bands if band in found}


def _sort_by_resolution(names: Sequence[object], positions: Sequence[int]) -> list[int]:
    # B02_10m before B02_20m; others as they stand.
    def read_metres(position: int) -> int:
        found = RESOLUTION.search(str(names[position]))
        return int("".join(filter(str.isdigit, found[0]))) if found else 0

    return sorted(positions, key=read_metres)


def arrange_bands(
    array: "xr.DataArray",
    modality: Modality,
    *,
    pick: bool = False,
    missing_bands: str = "error",
    caller: Caller = AS_USUAL,
    lone: bool = True,
) -> "tuple[xr.DataArray, dict[str, Hashable], bool]":
    """Bring bands into the model's order and names.

    With `pick`, surplus bands are passed over instead of refused. Where `missing_bands` is
    ``"mean"``, bands may be missing: `names` tells which are there. With `lone`, a single image
    whose name says nothing is taken for the band of a modality that has one.

    Returns
    -------
    arranged : xarray.DataArray
    names : dict
        Model band -> the cube's own name.
    assumed : bool
        The cube names no bands, and has as many as the model.

    Raises
    ------
    BandError
        For bands that are missing, doubled, surplus, or unnamed in another number.
    """
    names = band_names(array)
    if names is None:
        n_bands = array.sizes["band"]
        if n_bands != len(modality.bands):
            raise explain_unnamed(n_bands, modality, caller)
        places, names = {band: i for i, band in enumerate(modality.bands)}, list(modality.bands)
        assumed = n_bands > 1  # a single band has only one order
    else:
        one = len(names) == len(modality.bands) == 1
        if lone and one and plain_name(names[0]) in _SAYS_NOTHING:
            places = {modality.bands[0]: 0}
        else:
            places = match_bands(
                names, modality, pick=pick, missing_bands=missing_bands, caller=caller
            )
        # What an earlier arrange() had to assume stays an assumption.
        assumed = array.attrs.get("band_order") == "assumed"
    order = list(places.values())
    attrs = {key: value for key, value in array.attrs.items() if key != "long_name"}
    if isinstance(array.attrs.get("long_name"), str):
        attrs["long_name"] = array.attrs["long_name"]
    if assumed:
        attrs["band_order"] = "assumed"
    # isel takes other coordinates along band (wavelengths, descriptions) along; a copy is spared
    # where the order is right already.
    picked = array if order == list(range(array.sizes["band"])) else array.isel(band=order)
    arranged = picked.assign_coords(band=band_labels(list(places)))
    arranged.attrs = attrs
    own_names: dict[str, Hashable] = {band: names[i] for band, i in places.items()}
    return arranged, own_names, assumed
