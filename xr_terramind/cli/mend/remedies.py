"""The remedies of messages as flags of the command line; what only Python mends says so."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from rasterio.crs import CRS

from xr_terramind.cli.mend.bands import choose_flags, say_bands
from xr_terramind.cli.mend.mends import Line, Mends, show_number
from xr_terramind.cube.bands import band_names
from xr_terramind.cube.bands.names import read_bands
from xr_terramind.cube.datasets import as_dataarray
from xr_terramind.cube.dims import name_band_dim
from xr_terramind.cube.report import InputReport, Issue
from xr_terramind.cube.transforms import name_utm
from xr_terramind.cube.values.images import read_told
from xr_terramind.errors import TerraMindError, TerraMindWarning, split_remedy
from xr_terramind.model.modalities import Modality
from xr_terramind.options import OPTIONS

_KEYWORD = re.compile(r"(?<!--image )\b([a-z_]+)=(?:'([^']*)'|\"([^\"]*)\"|(-?\w+(?:\.\w+)?))")
_SWITCHES = ("overwrite", "resume", "output", "dtype", "sample")
_PYTHON = re.compile(r"\b(cube|ds|embedding|dataset|xarray|xr|numpy|np)\b[.\[]|compute_chunk_sizes")
_WARP = re.compile(r"\.rio\.reproject\((?!\.\.\.)(?:'(EPSG:[\w.]+)')?")
_WRITE_CRS = re.compile(r"cube(?:\.rename\([^)]*\))?\.rio\.write_crs\('?(EPSG:[\d.]+|\.\.\.)'?\)")

# Around the flags, where more is to be said than which they are.
_WORDS = {
    "boa-offset": "Products of processing baseline 04.00 and later (from 25 January 2022) carry an "
    "offset of +1000: pass {flags}, unless the source has subtracted it, or all is as bright as "
    "desert or cloud.",
    "bytes": "Open the product itself rather than a picture of it. If 255 stands for a reflectance "
    "of 1, pass {flags}.",
    "longitudes": "Pass {flags}, which resamples to pixels of 10 m. Until then labels stay as they "
    "are.",
    "pixel-size": "Pass {flags}, which resamples to pixels of 10 m.",
    "band-order-assumed": "If this order is right, say so with {flags}; if not, name the bands in "
    "the order of the file.",
}


def write_flags(message: str) -> str:
    """Write the options of a remedy as flags: ``--resume`` for ``resume=True``."""

    def write(match: re.Match[str]) -> str:
        name = match[1]
        if name not in OPTIONS and name not in _SWITCHES:
            return match[0]
        value = next(text for text in match.groups()[1:] if text is not None)
        flag = f"--{name.replace('_', '-')}"
        return flag if value == "True" else f"{flag} {value.lower() if value == 'None' else value}"

    # Only in what is to be done: what was found is looked up by its words.
    parts = (split_remedy(line) for line in message.split("\n"))
    lines = (
        told + (remedy if _PYTHON.search(remedy) else _KEYWORD.sub(write, remedy))
        for told, remedy in parts
    )
    return "\n".join(lines)


@dataclass(frozen=True)
class Source:
    """A file and its cube, with the flags that were applied; it words what is said of the cube.

    `base` is what was done to its values before, as the file says how they are packed.
    """

    path: Path
    kind: str  # of `format_of`
    cube: xr.DataArray | xr.Dataset
    mends: Mends
    modality: Modality
    base: Line

    @contextmanager
    def reword_messages(self) -> Iterator[None]:
        """Give errors and warnings of this cube remedies of the command line."""
        with warnings.catch_warnings():
            before = warnings.showwarning

            def show(message: Any, *rest: Any, **named: Any) -> None:
                issue = getattr(message, "issue", None)
                if issue is not None:
                    message = TerraMindWarning(self.reword(issue).message)
                before(message, *rest, **named)

            warnings.showwarning = show
            try:
                yield
            except TerraMindError as error:
                if not error.issues:
                    raise
                text = "\n".join(self.reword(issue).message for issue in error.issues)
                raise type(error)(text) from error

    def reword_report(self, report: InputReport) -> InputReport:
        """Give the issues of a report remedies of the command line."""
        return replace(report, issues=tuple(map(self.reword, report.issues)))

    def reword(self, issue: Issue) -> Issue:
        """Give an issue a remedy of the command line."""
        told, remedy = split_remedy(issue.message)
        return replace(issue, message=told + self._word_remedy(issue, remedy))

    def _word_remedy(self, issue: Issue, remedy: str) -> str:
        flags = self.mends.adding(issue.fix, self.base) if issue.fix else ""
        if issue.code == "band-order-assumed":
            flags = f"--bands {','.join(self.modality.bands)}"
        elif _WARP.search(remedy) or issue.code == "longitudes":
            flags = self._warp_flags(remedy)
        elif issue.code == "linear-power" and "numpy.log10" in remedy and "isin(" not in remedy:
            flags = "--decibels"
        if flags:
            return _WORDS.get(issue.code, "Pass {flags}.").format(flags=flags)
        if issue.code == "offset-in-attrs":
            return self._word_told_offset()
        if issue.code == "bands":
            return self._word_bands()
        if issue.code == "band-missing" and (words := self._word_lacking(remedy)):
            return words
        if "rio.write_transform(Affine(10" in remedy and self.kind == "GeoTIFF":
            return self._word_edit_info(remedy)
        flagged = _WRITE_CRS.sub(_write_crs_flag, remedy).replace("with --crs", "by passing --crs")
        if _PYTHON.search(flagged) or (issue.code in ("dims", "dtype") and "--crs" not in flagged):
            return self._say_python(remedy)
        return write_flags_of(flagged)

    # --- values ---

    def _word_told_offset(self) -> str:
        told = read_told(as_dataarray(self.cube, self.modality).attrs)
        offset = float(f"{told.offset * 10000:.9g}")
        return (
            f"If the source has applied it already, say so with --offset 0. If not, pass "
            f"--offset {show_number(offset)}."
        )

    # --- bands ---

    def _word_bands(self) -> str:
        array = name_band_dim(as_dataarray(self.cube, self.modality), self.modality)
        return say_bands(band_names(array), array.sizes["band"], self.modality)

    def _word_lacking(self, remedy: str) -> str:
        # Bands without values are left out by choosing the others.
        found = re.search(r"drop_sel\(band=\[(.*?)\]\)", remedy)
        if found is None or "rolling" in remedy or "fillna" in remedy:
            return ""
        lacking = re.findall(r"'(\w+)'", found[1])
        array = name_band_dim(as_dataarray(self.cube, self.modality), self.modality)
        rest = [band for band in self.modality.bands if band not in lacking]
        names = band_names(array) or list(self.modality.bands)
        flags = choose_flags(names, [band for band in rest if band in read_bands(names)])
        return f"To go on without, pass {flags} --missing-bands mean."

    # --- place ---

    def _warp_flags(self, remedy: str) -> str:
        if self.kind != "GeoTIFF":
            return ""
        found = _WARP.search(remedy)
        target = _choose_metric_crs(self.path, found[1] if found else None, self.mends.crs)
        needs_crs = "write_crs('EPSG:...')" in remedy or "get_gcps(), 'EPSG:...'" in remedy
        return ("--crs EPSG:... " if needs_crs else "") + f"--warp {target or 'EPSG:...'}"

    def _word_edit_info(self, remedy: str) -> str:
        crs = "--crs EPSG:... " if "write_crs(" in remedy else ""
        return (
            f"Write where it lies with rio edit-info {self.path} {crs}"
            "--transform '[10, 0, WEST, 0, -10, NORTH]', for pixels of 10 m. Until then it is an "
            "image without a place, and its first row is the top."
        )

    # --- Python ---

    def _say_python(self, remedy: str) -> str:
        path = str(self.path)
        opened = {
            "GeoTIFF": f"rioxarray.open_rasterio({path!r})",
            "NetCDF": f"xarray.open_dataset({path!r}, decode_coords='all')",
            "Zarr": f"xarray.open_zarr({path!r}, decode_coords='all')",
        }[self.kind]
        if self.base.scale != 1:
            opened = f"{show_number(self.base.scale)} * {opened}"
        remedy = re.sub(r"\bds\[", "cube[", remedy)
        # Encodings of the file may be of integers that hold no NaN.
        kept = "Write it with drop_encoding().to_netcdf('new.nc')."
        return f"It takes Python, with cube = {opened}: {remedy} {kept}"


def write_flags_of(remedy: str) -> str:
    """Write the options of a remedy that stands alone as flags."""
    return write_flags(f"; expected . {remedy}").removeprefix("; expected . ")


def _write_crs_flag(match: re.Match[str]) -> str:
    return f"--crs {match[1]}" if match[1] != "..." else "--crs EPSG:..."


def _choose_metric_crs(path: Path, wanted: str | None, crs: str | None) -> str | None:
    # Pixels of 10 m need metres: of degrees and of Web Mercator the UTM zone is taken.
    if wanted and wanted != "EPSG:..." and wanted != "EPSG:3857":
        found = CRS.from_user_input(wanted)
        if found.is_projected and found.linear_units_factor[1] == 1:
            return wanted
    with rasterio.open(path) as raster:
        points, points_crs = raster.gcps
        own = CRS.from_user_input(crs) if crs else raster.crs or points_crs
        if own is None:
            return None
        if points and raster.transform.is_identity:
            place = tuple(float(np.median([getattr(p, axis) for p in points])) for axis in "xy")
        else:
            place = raster.transform @ (raster.width / 2, raster.height / 2)
    return name_utm(own, *place)
