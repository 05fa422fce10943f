"""Files that say themselves how reflectance is packed: taken at their word, not as 0-1."""

from collections.abc import Hashable

import xarray as xr

from xr_terramind.cli.mend.mends import Line, rescale, show_number
from xr_terramind.cube.bands import band_of
from xr_terramind.model.modalities import Modality

SCALE = 1e-4
"""Of digital numbers, which are reflectance x 10000, before an offset."""


def find_packed(stored: xr.Dataset, modality: Modality) -> dict[Hashable, Line]:
    """Find the variables that hold digital numbers of Sentinel-2, and what is to be added to them.

    They are integers with a ``scale_factor`` of 1e-4. Empty where any band is packed otherwise, so
    that bands are never of two units.
    """
    images = [name for name, one in stored.data_vars.items() if one.ndim >= 2]
    bands = [name for name in images if band_of(name) in modality.bands] or images
    found = {name: _read_packing(stored[name]) for name in bands}
    if not modality.is_sentinel2 or not all(found.values()):
        return {}
    return {name: line for name, line in found.items() if line is not None}


def _read_packing(variable: xr.DataArray) -> Line | None:
    packing = variable.encoding
    scale = packing.get("scale_factor")
    is_integer = getattr(packing.get("dtype"), "kind", "") in ("i", "u")
    if scale is None or not is_integer or "_Unsigned" in packing:
        return None
    if abs(float(scale) / SCALE - 1) > 1e-6:
        return None
    return Line(1.0, float(f"{float(packing.get('add_offset', 0)) / SCALE:.9g}"))


def unpack(stored: xr.Dataset, packed: dict[Hashable, Line], modality: Modality) -> xr.Dataset:
    """Make reflectance x 10000 of digital numbers that were read as they are stored."""
    return stored.assign(
        {name: rescale(stored[name], line, modality) for name, line in packed.items()}
    )


def describe_unpacking(packed: dict[Hashable, Line]) -> str:
    """Say what the file says, and what was made of it."""
    offsets = sorted({line.offset for line in packed.values()})
    told = " or ".join(show_number(float(f"{offset * SCALE:.9g}")) for offset in offsets)
    taken = " or ".join(f"stored numbers {offset:+g}" for offset in offsets if offset)
    return (
        f"the file says scale_factor {SCALE:g} and add_offset {told}: its "
        f"{taken or 'stored numbers'} are taken, which is reflectance x 10000. Pass --scale to "
        "multiply what the file says instead."
    )
