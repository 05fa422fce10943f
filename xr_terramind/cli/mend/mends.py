"""What the command line is told about a file, applied to its cube: lazily, before anything else."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from rioxarray.exceptions import MissingSpatialDimensionError

from xr_terramind.cli.mend.bands import choose_bands
from xr_terramind.cli.mend.warp import read_crs
from xr_terramind.cube.bands import drop_nodata, nodata_values
from xr_terramind.cube.datasets import as_dataarray
from xr_terramind.cube.report import Fix
from xr_terramind.model.modalities import Modality

_TOLD = ("scale_factor", "add_offset", "scales", "offsets")


class Line(NamedTuple):
    """What was done to values: value * scale + offset."""

    scale: float = 1.0
    offset: float = 0.0

    def then(self, scale: float, offset: float) -> "Line":
        """Write what a further line makes of it."""
        return Line(_tidy(self.scale * scale), _tidy(self.offset * scale + offset))

    def undo(self, value: float) -> float:
        """Find the value from which a value was made."""
        return float(f"{(value - self.offset) / self.scale:.7g}") if self != Line() else value


def _tidy(number: float) -> float:
    return float(f"{number:.9g}")  # without what binary arithmetic leaves behind


@dataclass(frozen=True)
class Mends:
    """The flags that say of a file what it does not say itself; None where one is not given."""

    bands: str | None = None
    nodata: tuple[float, ...] = ()
    scale: float | None = None
    offset: float | None = None
    decibels: bool = False
    crs: str | None = None
    warp: str | None = None

    @property
    def line(self) -> Line:
        """Scale and offset as arithmetic."""
        return Line(1.0 if self.scale is None else self.scale, self.offset or 0.0)

    def apply(self, cube: Any, modality: Modality) -> xr.DataArray | xr.Dataset:
        """Return the cube with all that was said of it; the same object where nothing was.

        A Dataset becomes a DataArray. Raises BandError and GridError where bands do not fit.
        """
        if self == Mends(warp=self.warp):  # a file is warped as it is opened
            return cube
        array = _write_crs(cube, self.crs, modality) if self.crs else as_dataarray(cube, modality)
        if self.bands is not None:
            array = choose_bands(array, self.bands, modality)
        if self.nodata:
            array = mask_values(array, self.nodata)
        if self.scale is not None or self.offset is not None:
            array = rescale(array, self.line, modality)
        return _make_decibels(array) if self.decibels else array

    def adding(self, fix: Fix, base: Line = Line()) -> str:  # noqa: B008 - immutable
        """Write the flags that mend values, with those of scale and offset that are given.

        `base` is what was done to the values of the file before: a scale that is given replaces it.
        """
        flags = []
        if fix.nodata is not None:
            flags.append(f"--nodata {show_number(self.line.undo(fix.nodata))}")
        if (fix.scale, fix.offset) != (1.0, 0.0):
            own = self.line.then(fix.scale, fix.offset)
            if own.scale != 1:
                own = base.then(*own)
                flags.append(f"--scale {show_number(own.scale)}")
            if own.offset:
                flags.append(f"--offset {show_number(own.offset)}")
        return " ".join(flags)


def show_number(value: float) -> str:
    """Write a number as it is typed: whole ones without ".0"."""
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    short = f"{value:.10g}"
    return short if float(short) == float(value) else repr(float(value))


def _write_crs(cube: Any, text: str, modality: Modality) -> xr.DataArray:
    crs = read_crs(text, "--crs")
    if isinstance(cube, xr.Dataset):
        # Before the bands are stacked: a CRS that cannot be read would be in the way.
        try:
            cube = cube.rio.write_crs(crs)
        except MissingSpatialDimensionError:  # dimensions with names that rioxarray does not know
            pass
        cube = as_dataarray(cube, modality)
    written: xr.DataArray = cube.rio.write_crs(crs)
    return written


def mask_values(array: xr.DataArray, values: tuple[float, ...]) -> xr.DataArray:
    """Make values missing, each compared in the precision of the array."""
    masked = array
    for value in values:
        near = array.dtype.type(value) if array.dtype.kind == "f" else value
        masked = masked.where(array != near)
    return _with_attrs(masked, array.attrs)


def rescale(array: xr.DataArray, line: Line, modality: Modality) -> xr.DataArray:
    """Multiply and add; nodata is left alone, and what attrs ask for is done then.

    0 stays 0 in Sentinel-2, where it means no data in all bands of a pixel, and black in one.
    """
    keeps_zero = modality.is_sentinel2
    declared = tuple(v for v in nodata_values(array) if v != 0 or not keeps_zero)
    done = {key: value for key, value in array.attrs.items() if key not in _TOLD}
    if line == Line():
        return _with_attrs(array, done)
    masked = mask_values(array, declared) if declared else array
    if masked.dtype.kind != "f":  # as masking does, too
        masked = masked.astype("float32" if masked.dtype.itemsize <= 2 else "float64")
    scaled = masked * line.scale + line.offset
    if keeps_zero and line.offset:
        scaled = scaled.where(masked != 0, 0)
    if declared:
        done = drop_nodata(done)
    if line.scale != 1:
        done.pop("units", None)
    return _with_attrs(scaled, done)


def _make_decibels(array: xr.DataArray) -> xr.DataArray:
    values = mask_values(array, nodata_values(array))
    power = values.where(values > 0)
    decibels = power.copy(data=10 * np.log10(power.data))
    kept = drop_nodata(array.attrs)
    kept.pop("units", None)
    return _with_attrs(decibels, kept)


def _with_attrs(array: xr.DataArray, attrs: dict[Any, Any]) -> xr.DataArray:
    # Whether arithmetic keeps them is a setting of xarray.
    changed = array.copy(deep=False)
    changed.attrs = attrs
    return changed
