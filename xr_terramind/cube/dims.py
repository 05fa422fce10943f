"""Any array -> an array with dimensions (..., band, y, x): which of them is which."""

import re
from collections.abc import Hashable

import numpy as np
import pandas as pd
import xarray as xr
from xarray.indexes import PandasMultiIndex

from xr_terramind.cube.bands import band_names, band_of
from xr_terramind.errors import GridError, explain
from xr_terramind.model.modalities import Modality, band_labels

# Names that a dimension may have, in lower case. The result always says band, y, x and time.
_DIM_NAMES = {
    "band": ("band", "bands", "channel", "channels", "variable", "spectral"),
    "y": ("y", "lat", "latitude", "northing", "projection_y_coordinate"),
    "x": ("x", "lon", "longitude", "easting", "projection_x_coordinate"),
    "time": ("time", "t", "date", "datetime"),
}

# What may be meant for y or x, but is no more than a guess: only for remedies.
_GUESSES = {
    "y": ("row", "rows", "line", "lines", "height", "h", "i", "nlat", "south_north"),
    "x": (
        "col",
        "cols",
        "column",
        "columns",
        "pixel",
        "pixels",
        "width",
        "w",
        "j",
        "nlon",
        "west_east",
    ),
}

# Layers that products keep beside their bands, as `_plain` writes them: what is seen on the ground
# (scene classes, clouds, snow), how sure that is, what the air held, and how it was measured.
_QUALITY = frozenset(
    "scl sceneclassification aot wvp cld snw cldprb snwprb mskcldprb msksnwprb mskclassiopaque "
    "mskclassicirrus mskclassisnowice qa qa10 qa20 qa60 qapixel qaradsat cs cscdf clm clp clouds "
    "cloud cloudmask cloudprob cloudprobability cloudshadow cloudshadowmask probability shadow "
    "shadowmask snow snowmask water watermask mask masks datamask validmask validdata validity "
    "valid nodata nodatamask fmask quality qualitymask visual overview preview thumbnail tcir tcig "
    "tcib angle incidenceangle localincidenceangle lia layover layovershadow layovershadowmask "
    "sunazimuthangles sunzenithangles viewazimuthmean viewzenithmean "
    "sunazimuth sunzenith viewazimuth viewzenith edm flm hem wbm".split()
)

# Attributes that rioxarray gives one entry for each band.
_PER_BAND = {"long_name", "description", "units", "scales", "offsets"}

_UNLIKE_PX = 0.1

# The result has these for itself.
_TAKEN = ("feature", "valid_fraction")


def find_role(dim: Hashable) -> str | None:
    """Return ``"band"``, ``"y"``, ``"x"`` or ``"time"`` for a dimension's usual names, or None."""
    name = str(dim).lower()
    return next((role for role, names in _DIM_NAMES.items() if name in names), None)


def find_band_dims(array: xr.DataArray) -> list[Hashable]:
    """Find the dimensions that hold bands: by their names, or else by labels that are bands."""
    named = [dim for dim in array.dims if find_role(dim) == "band"]
    return named or [dim for dim in array.dims if not find_role(dim) and _holds_bands(array, dim)]


def _holds_bands(array: xr.DataArray, dim: Hashable) -> bool:
    # ("polarization" with VV and VH, "wavelength" with blue, green, red): most labels are bands.
    labels = array.coords[dim].values if dim in array.coords else np.array(())
    if labels.ndim != 1 or labels.dtype.kind not in "OUST":
        return False
    return 2 * sum(band_of(label) is not None for label in labels) > len(labels)


def is_quality(name: object) -> bool:
    """Say whether a layer is none of the bands but says something of them, by its name."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower()) in _QUALITY


def order_dims(array: xr.DataArray, modality: Modality | None = None) -> xr.DataArray:
    """Rename and order the dimensions to ``(..., band, y, x)``.

    In front stay all others, in their order: each of their entries is an image of its own.

    Raises
    ------
    GridError
        For missing or doubled dimensions, and names that the result needs for itself.
    """
    array = name_band_dim(array, modality)
    for dim in array.dims:
        array = _split_multiindex(array, dim)
    axes = {role: _find_dims(array, role) for role in ("y", "x")}
    if any(len(dims) != 1 for dims in axes.values()):
        raise _explain_dims(array, modality)
    taken = {str(dim): f"{dim}_of_cube" for dim in array.dims if dim in _TAKEN}
    if taken:
        raise _make_error(array, f"Rename them with cube.rename({taken}).")
    renames = {dims[0]: role for role, dims in axes.items()}
    renames |= {dim: "time" for dim in _find_dims(array, "time")[:1]}
    return _rename_dims(array, renames).transpose(..., "band", "y", "x")


def name_band_dim(array: xr.DataArray, modality: Modality | None = None) -> xr.DataArray:
    """Call the dimension of the bands ``band``.

    Raises
    ------
    GridError
        Where there is none, or more than one.
    """
    found = find_band_dims(array)
    if len(found) != 1:
        raise _explain_dims(array, modality)
    return _rename_dims(_split_multiindex(array, found[0]), {found[0]: "band"})


def _split_multiindex(array: xr.DataArray, dim: Hashable) -> xr.DataArray:
    # Levels become coordinates, as a file can hold them; the one that says what the dim says labels
    # it. Where none does, dates go without a label, and all else by the text of its levels: no
    # pixel is named or placed by a guess.
    index = array.xindexes.get(dim)
    if not isinstance(index, PandasMultiIndex):
        return array
    table = index.index
    levels = {name: table.get_level_values(n) for n, name in enumerate(table.names)}
    role = find_role(dim)
    chosen = _choose_level(levels, role)
    coords = {name: (dim, labels, array.coords[name].attrs) for name, labels in levels.items()}
    if chosen is not None:
        coords[dim] = coords[chosen]
    elif role not in ("time", None):
        coords[dim] = (dim, table.map(str), {})
    return array.drop_vars([dim, *levels]).assign_coords(coords)


def _choose_level(levels: dict[Hashable, pd.Index], role: str | None) -> Hashable | None:
    if role == "band":
        known = {name: sum(band_of(x) is not None for x in levels[name]) for name in levels}
        best = max(known, key=lambda name: known[name])
        return best if known[best] else None
    if role is None:
        return None
    found = [name for name in levels if find_role(name) == role]
    if role == "time" and not found:
        found = [name for name in levels if isinstance(levels[name], pd.DatetimeIndex)]
    return found[0] if len(found) == 1 else None


def _find_dims(array: xr.DataArray, role: str) -> list[Hashable]:
    # The one with the first of the role's names comes first.
    if role == "band":
        return find_band_dims(array)
    found = [dim for dim in array.dims if find_role(dim) == role]
    return sorted(found, key=lambda dim: _DIM_NAMES[role].index(str(dim).lower()))


def _explain_dims(array: xr.DataArray, modality: Modality | None) -> GridError:
    found = {role: _find_dims(array, role) for role in ("band", "y", "x")}
    doubled = [dims for dims in found.values() if len(dims) > 1]
    if doubled:
        lone = [str(dim) for dims in doubled for dim in dims if array.sizes[dim] == 1]
        others = {str(dim): f"{dim}_of_image" for dims in doubled for dim in dims[1:]}
        return _make_error(
            array,
            f"Drop what has one entry only with cube.squeeze({lone}, drop=True)."
            if lone
            else f"Keep one of each, and rename what counts images: cube.rename({others}).",
        )
    return _make_error(array, _find_missing(array, found, modality))


def guess_axes(array: xr.DataArray) -> dict[str, str]:
    """Guess which dimensions are meant for x and y, where none has their names: for remedies.

    By the name, or as rows and columns are the last axes.
    """
    bands = find_band_dims(array)
    free = [dim for dim in array.dims if not find_role(dim) and dim not in bands]
    renames = {}
    for axis in ("x", "y"):
        meant = [dim for dim in free if str(dim).lower() in _GUESSES[axis]] or free[-1:]
        if meant and not _find_dims(array, axis):
            renames[str(meant[0])] = axis
            free.remove(meant[0])
    return renames


def _find_missing(
    array: xr.DataArray, found: dict[str, list[Hashable]], modality: Modality | None
) -> str:
    free = [dim for dim in array.dims if not find_role(dim) and dim not in found["band"]]
    bands = list(modality.bands) if modality else []
    renames = guess_axes(array)
    for axis in ("x", "y"):
        if not found[axis] and axis not in renames.values():
            return f"Give it an axis {axis}: cube.expand_dims({axis!r}, -1)."
    free = [dim for dim in free if str(dim) not in renames]
    name_bands = ""
    if not found["band"]:
        fitting = [dim for dim in free if array.sizes[dim] == len(bands) > 1]
        if not fitting:
            return (
                "Stack the bands with xarray.concat([...], dim='band'), or give a single band its "
                "dimension with cube.expand_dims('band')."
            )
        renames[str(fitting[0])] = "band"
        name_bands = f".assign_coords(band={bands}), if these are the bands, in this order"
    return f"Rename them: cube.rename({renames}){name_bands}."


def _rename_dims(array: xr.DataArray, roles: dict[Hashable, str]) -> xr.DataArray:
    for dim, role in roles.items():
        if dim == role:
            continue
        if role in array.coords and array.coords[role].dims == (dim,):
            array = array.swap_dims({dim: role})  # its labels stand under the right name already
            if dim in array.coords and np.array_equal(array[dim].values, array[role].values):
                array = array.drop_vars([dim])
        else:
            # A scalar coordinate of the new name that is left over must not stand in the way.
            array = array.drop_vars(role, errors="ignore").rename({dim: role})
    return array


def _make_error(array: xr.DataArray, remedy: str) -> GridError:
    return GridError(
        explain(
            f"dimensions {tuple(str(dim) for dim in array.dims)}",
            "one dimension each for band, y and x, and others for images, such as time",
            remedy,
        )
    )


def add_band_dim(array: xr.DataArray, modality: Modality) -> xr.DataArray:
    """Give a two-dimensional image of a one-band modality (a DEM) its band dimension."""
    if len(modality.bands) > 1 or find_band_dims(array):
        return array
    return array.drop_vars("band", errors="ignore").expand_dims(band=band_labels(modality.bands))


def split_images(array: xr.DataArray) -> tuple[xr.DataArray, dict[str, xr.Variable]]:
    """Give a cube whose images lie apart the y and x of the first; return where each begins.

    That is what y (sample, y) and x (sample, x) say: one axis for each image.

    Raises
    ------
    GridError
        Where images have pixels of other sizes, or run another way.
    """
    origins = {}
    for dim in ("y", "x"):
        axis = array.coords[dim].variable if dim in array.coords else xr.Variable((), 0.0)
        in_front = [other for other in axis.dims if other != dim]
        if dim not in axis.dims or not set(in_front) <= set(array.dims[:-3]) or not in_front:
            continue
        axis = axis.transpose(*in_front, dim)
        _check_alike(dim, np.asarray(axis.values, np.float64))
        first = {other: 0 for other in in_front}
        origins[dim] = axis.isel({dim: 0}).astype(np.float64)
        array = array.drop_vars(dim).assign_coords({dim: axis.isel(first)})
    return array, origins


def _check_alike(dim: str, centres: np.ndarray) -> None:
    # (..., pixel): from the first pixel of each image on they are to be the same
    offsets = centres - centres[..., :1]
    first = offsets.reshape(-1, centres.shape[-1])[0]
    off = np.abs(offsets - first).max()
    if off > _UNLIKE_PX * np.abs(np.diff(first)).max(initial=0):
        found = f"a coordinate {dim} whose steps differ from image to image, by up to {off:.3g}"
        remedy = "Embed those of one pixel size together, selected with cube.isel({...})."
        raise GridError(explain(found, "images of one pixel size that run one way", remedy))


def list_quality(array: xr.DataArray, modality: Modality) -> tuple[tuple[int, str], ...]:
    """List quality layers among the bands, such as a scene classification: where, what."""
    return tuple(
        (number, name)
        for number, name in enumerate(band_names(array) or [])
        if band_of(name) not in modality.bands and is_quality(name)
    )


def drop_quality(array: xr.DataArray, modality: Modality) -> xr.DataArray:
    """Leave out quality layers that stand among the bands."""
    names = band_names(array) or []
    beside = dict(list_quality(array, modality))
    kept = [number for number in range(len(names)) if number not in beside]
    if not beside:
        return array
    picked = array.isel(band=kept)
    for key in _PER_BAND & array.attrs.keys():
        values = array.attrs[key]
        if isinstance(values, list | tuple | np.ndarray) and len(values) == len(names):
            picked.attrs[key] = [values[number] for number in kept]
    return picked
