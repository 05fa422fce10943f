"""The Python that mends a cube: the same calls work on a DataArray and on a Dataset."""

from collections.abc import Sequence
from dataclasses import dataclass

from xr_terramind.cube.values.images import NOTHING_TOLD, Image, Told

MAX_NAMES = 24
"""Dates that a message names."""


@dataclass(frozen=True)
class Group:
    """The images of a cube that a message speaks of."""

    images: tuple[Image, ...]
    others: tuple[Image, ...] = ()
    nodata: tuple[float, ...] = ()  # declared or found: arithmetic must not move it
    told: Told = NOTHING_TOLD
    undeclared: tuple[float, ...] = ()  # the part of `nodata` that was found
    zero_is_nodata: bool = False  # beside what is declared, as in Sentinel-2

    @property
    def where(self) -> str:
        """Say which dates, where it is not all of them."""
        if not self.others:
            return ""
        n_images = len(self.images) + len(self.others)
        what = "images" if any(image.test for image in self.images) else "dates"
        return f" on {len(self.images)} of {n_images} {what} ({self._names})"

    @property
    def _names(self) -> str:
        labels = [image.label for image in self.images]
        if not all(labels):  # a block of a lazy cube does not know its dates
            return "cube.terramind.check() names them"
        more = len(labels) - MAX_NAMES
        return ", ".join(labels[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")

    def rescale(self, scale: float = 1.0, offset: float = 0.0) -> str:
        """Write the call that multiplies and then adds, on the dates of the group."""
        # Nodata must not be moved; 0 is moved by an offset alone.
        keep = [value for value in self.nodata if value != 0]
        if offset and (self.zero_is_nodata or 0 in self.nodata):
            keep = sorted({*keep, 0.0})
        text = mask_values("cube", keep)
        if not keep and scale != 1 and self._is_integer:
            text += ".astype('float32')"  # bytes times 100 would overflow
        if scale != 1:
            text = f"{text} * {format_value(scale)}"
        if offset:
            text = f"{text} {'-' if offset < 0 else '+'} {format_value(abs(offset))}"
        if self.told.is_packed:  # what is done must not be told any longer
            text = f"({text}).assign_attrs(scale_factor=1, add_offset=0)"
        return self.only_here(text)

    def only_here(self, call: str) -> str:
        """Write a call so that it changes no other image than those of the group."""
        if not self.others:
            return call
        days = [image.label for image in self.images]
        test = f"cube.time.dt.strftime('%Y-%m-%d').isin({days})"
        if any(image.test for image in self.images):
            test = f"({' | '.join(f'({image.test})' for image in self.images)})"
        return f"cube.where(~{test}, {call})"

    @property
    def _is_integer(self) -> bool:
        return self.images[0].pixels.dtype.kind != "f"


def mask_values(name: str, values: Sequence[float]) -> str:
    """Write the call that makes NaN of some values, or the name alone where there are none."""
    if not values:
        return name
    tests = [f"{name} != {format_value(value)}" for value in values]
    return f"{name}.where({tests[0] if len(tests) == 1 else ' & '.join(f'({t})' for t in tests)})"


def format_value(value: float) -> str:
    """Write a number so that it can be typed and compared with: whole ones without ".0"."""
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    short = f"{value:.10g}"
    return short if float(short) == float(value) else repr(float(value))
