"""A cube in the order that the model takes, and what is refused whatever its bands are."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from xr_terramind.cube.caller import AS_USUAL, Caller
from xr_terramind.cube.geometry import PixelGrid
from xr_terramind.cube.values.images import NOTHING_TOLD, ImageName, Told, name_images
from xr_terramind.errors import GridError, ValueRangeError, explain
from xr_terramind.model.modalities import Modality


@dataclass(frozen=True)
class Cube:
    """A source cube in the order that the model takes, as `inspect_cube` arranges it."""

    data: xr.DataArray  # (..., band, y, x), bands in the model's order and names
    modality: Modality  # with the bands that are there
    names: dict[str, Hashable]  # model band -> the name that it has in the source
    assumed: bool  # the source names no bands, so that the model's order was assumed
    grid: PixelGrid
    nodata: tuple[float, ...]  # raw values for no data; NaN and infinity always stand for it
    told: Told = NOTHING_TOLD  # what the attrs say of unit and scale
    # Where images lie on grids of their own, alike but for their place: the first pixel's centre of
    # each along y or x, with the dimensions that it differs along. `grid` is that of the first.
    origins: Mapping[str, xr.Variable] = field(default_factory=dict)
    caller: Caller = AS_USUAL  # how remedies write the source

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size as (image, y, x): what stands in front of the bands counts images."""
        sizes = self.data.shape
        return math.prod(sizes[:-3]), sizes[-2], sizes[-1]

    @property
    def image_dims(self) -> tuple[Hashable, ...]:
        """Dimensions in front of band, y and x, such as time: each entry is an image of its own."""
        return self.data.dims[:-3]

    def image(self, number: int) -> xr.DataArray:
        """Select one image (band, y, x); of several dimensions in front the last counts fastest."""
        sizes = [self.data.sizes[dim] for dim in self.image_dims]
        place = np.unravel_index(number, sizes) if sizes else ()
        return self.data.isel({d: int(n) for d, n in zip(self.image_dims, place, strict=True)})

    @property
    def image_names(self) -> tuple[ImageName, ...]:
        """What messages call the images: the dates of a series, or their place in the cube."""
        if not self.image_dims and "time" in self.data.coords:
            return name_images({"time": (1, np.atleast_1d(self.data.coords["time"].values))})
        return name_images({dim: self._read_labels(dim) for dim in self.image_dims})

    def _read_labels(self, dim: Hashable) -> tuple[int, np.ndarray | None]:
        # An index, so that a time with a zone is read as UTC; of (sample, time) a coordinate time
        # may have both dimensions, and so labels neither.
        index = self.data.indexes.get(dim)
        if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
            index = index.tz_convert(None)
        return self.data.sizes[dim], None if index is None else np.asarray(index)

    @property
    def is_lazy(self) -> bool:
        """Whether the pixels are a Dask array."""
        return self.data.chunks is not None


def check_dtype(array: xr.DataArray) -> None:
    """Refuse strings, complex numbers, booleans, times and objects."""
    if array.dtype.kind not in "iuf":
        raise ValueRangeError(
            explain(
                f"values of dtype {array.dtype}",
                "integers or floats",
                "Convert them with cube.astype('float32').",
            )
        )


def check_sizes(array: xr.DataArray) -> None:
    """Refuse a cube without a pixel, or of a size that nobody knows yet."""
    if any(math.isnan(size) for size in array.shape):
        raise GridError(
            explain(
                f"a cube of shape {array.shape}, whose chunk sizes are unknown",
                "sizes that are known before anything is computed",
                "Call compute_chunk_sizes() on its Dask array first.",
            )
        )
    empty = [str(dim) for dim, size in array.sizes.items() if size == 0]
    if empty:
        raise GridError(
            explain(
                f"an empty cube of shape {dict(array.sizes)}",
                "at least one pixel, band and date",
                f"Look at the selection that left {', '.join(empty)} empty.",
            )
        )
