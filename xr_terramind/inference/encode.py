"""NumPy blocks -> NumPy tokens: cut windows, batch them, mask what had no valid pixel.

Raw integers go to the device as they are; clipping, normalisation and cutting happen there.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any, NamedTuple

import numpy as np

from xr_terramind.blocks.windows import AxisBlock, Span
from xr_terramind.cube.bands import lacking_issues
from xr_terramind.cube.report import InputReport, Issue
from xr_terramind.cube.values.images import ImageName, cut_images, sample_values
from xr_terramind.cube.values.judge import no_valid_pixel_issue, value_issues
from xr_terramind.errors import warn
from xr_terramind.inference.engines.base import Engine, Waiting, device_dtype
from xr_terramind.inference.loaded import engine_for, in_model_thread, to_model_thread
from xr_terramind.inference.request import EncodeRequest, Input

_BLOCK_SAMPLE_VALUES = 100_000  # judged within 2 ms: a GPU encodes a small block in ten


class _Window(NamedTuple):
    time: int
    row: Span
    col: Span


def encode_block(
    pixels: np.ndarray, rows: AxisBlock, cols: AxisBlock, request: EncodeRequest
) -> np.ndarray:
    """Encode all windows of a block.

    Parameters
    ----------
    pixels : ndarray, shape (time, band, y, x)
        What the block reads of the source, raw.
    rows, cols : AxisBlock
        Where its windows lie and what they fill.
    request : EncodeRequest

    Returns
    -------
    ndarray of float32, shape (time, feature + 1, y, x)
        One vector per patch (or per window, where the request pools). The last feature is the
        valid fraction; cells without enough of it hold NaN in all others.
    """
    engine = engine_for(request.key)
    out_shape = (rows.out_stop - rows.out_start, cols.out_stop - cols.out_start)
    out = np.full((len(pixels), engine.spec.dim + 1, *out_shape), np.nan, np.float32)
    for batch, tokens, valid in _encode_batches(engine, pixels, rows, cols, request):
        for (time, row, col), vectors, share in zip(batch, tokens, valid, strict=True):
            used = np.s_[row.patch_start : row.patch_stop, col.patch_start : col.patch_stop]
            place = np.s_[row.out_start : row.out_stop, col.out_start : col.out_stop]
            fill_cells(out[(time, slice(None), *place)], vectors[used], share[used], request)
    return out


def fill_cells(
    out: np.ndarray, vectors: np.ndarray, share: np.ndarray, request: EncodeRequest
) -> None:
    """Put vectors (y, x, feature) and valid fractions (y, x) into ``out`` (feature + 1, y, x).

    One cell where the request pools; NaN where too little is valid.
    """
    seen = (share > 0) & (share >= request.min_valid_fraction)
    if request.pooling is not None:
        out[:-1, 0, 0] = pool(vectors[seen], request.pooling)
        out[-1] = share.mean()
        return
    out[:-1] = np.moveaxis(vectors, -1, 0)
    out[-1] = share
    if not seen.all():
        out[:-1, ~seen] = np.nan


def pool(vectors: np.ndarray, pooling: str) -> np.ndarray:
    """Reduce the vectors (patch, feature) of valid patches to one; NaN where there is none."""
    if not len(vectors):
        return np.full(vectors.shape[-1], np.nan, np.float32)
    return vectors.max(axis=0) if pooling == "max" else vectors.mean(axis=0)


def _encode_batches(
    engine: Engine, pixels: np.ndarray, rows: AxisBlock, cols: AxisBlock, request: EncodeRequest
) -> Iterator[tuple[list[_Window], np.ndarray, np.ndarray]]:
    left = [
        _Window(time, row, col)
        for time in range(len(pixels))
        for row in rows.spans
        for col in cols.spans
    ]
    under_way: deque[_SentBatch] = deque()
    try:
        while left or under_way:
            # While the model runs, gather the next batch; but wait for a slot only while
            # holding none: those who hold one may be waiting as well.
            if left and engine.slots.acquire(blocking=not under_way):
                try:
                    # Batches of much the same size: a last one of a window or two would be slow.
                    n_batches = math.ceil(len(left) / engine.batch_size(request))
                except BaseException:
                    engine.slots.release()  # or the next block would wait for it for ever
                    raise
                size = math.ceil(len(left) / n_batches)
                under_way.append(_SentBatch(engine, pixels, left[:size], request))
                left = left[size:]
                continue
            sent = under_way.popleft()
            try:
                tokens, valid = sent.fetch()
            except (RuntimeError, MemoryError) as error:
                in_model_thread(engine.halve_batch, len(sent.batch), error)
                left = sent.batch + left
            else:
                yield sent.batch, tokens, valid
    finally:
        for sent in under_way:  # another batch failed for good
            sent.drop()


class _SentBatch:
    """A batch on its way through the model; it takes over a slot, and frees it as it ends."""

    def __init__(
        self, engine: Engine, pixels: np.ndarray, batch: list[_Window], request: EncodeRequest
    ) -> None:
        self.batch = batch
        self._slots = engine.slots
        self._begun: Future[Waiting] = Future()
        try:
            raw = gather_windows(pixels, batch, request.window_px, engine)
            padding = padding_masks(pixels.shape, batch, request.window_px)
            self._begun = to_model_thread(engine.begin, raw, padding, request)
        except (RuntimeError, MemoryError) as error:
            self._begun.set_exception(error)  # raised where those of the model are
        except BaseException:
            self._slots.release()
            raise

    def fetch(self) -> tuple[np.ndarray, ...]:
        """Wait for tokens and valid fractions."""
        try:
            return self._begun.result()()
        finally:
            self._slots.release()

    def drop(self) -> None:
        """Wait for the model to be through with it, whatever comes of it."""
        wait([self._begun])
        self._slots.release()


def gather_windows(
    pixels: np.ndarray, batch: list[_Window], window_px: int, engine: Engine
) -> np.ndarray:
    """Copy windows (window, band, y, x) out of a block, padded where they reach past it.

    They are in the block's dtype, or float32 where the engine's device does not have that; padding
    holds zeros, which `padding_masks` marks.
    """
    shape = (len(batch), pixels.shape[1], window_px, window_px)
    raw = engine.streams.host_buffer(shape, device_dtype(pixels.dtype, engine.device))
    for window, (time, row, col) in zip(raw, batch, strict=True):
        read = pixels[
            time,
            :,
            row.start_px : row.start_px + window_px,
            col.start_px : col.start_px + window_px,
        ]
        height_px, width_px = read.shape[1:]
        # Nodata such as -1.8e308 becomes infinite, and so invalid.
        with np.errstate(over="ignore"):
            window[:, :height_px, :width_px] = read
        window[:, height_px:] = 0
        window[:, :height_px, width_px:] = 0
    return raw


def padding_masks(
    block_shape: tuple[int, ...], batch: list[_Window], window_px: int
) -> np.ndarray | None:
    """Mark the pixels of windows (window, y, x) outside their block; None where none is."""
    height_px, width_px = block_shape[-2:]
    inside_px = np.arange(window_px)
    past = [
        (row.start_px + inside_px >= height_px)[:, None]
        | (col.start_px + inside_px >= width_px)[None, :]
        for _, row, col in batch
    ]
    masks = np.stack(past)
    return masks if masks.any() else None


def check_and_encode(
    pixels: np.ndarray,
    rows: AxisBlock,
    cols: AxisBlock,
    *,
    encode: Any,
    request: EncodeRequest,
    cube_name: str = "",
    dates: Sequence[ImageName] | None = None,
) -> np.ndarray:
    """Look at a block's values before encoding it, so that a wrong unit fails at the first block.

    `encode` is ``encode_block`` or ``encode_resized``; `cube_name` serves to give the same warning
    once per cube and process; `dates` name the block's images, where the block is all of the cube.

    Raises
    ------
    ValueRangeError
        For 0-1 reflectance or linear backscatter, where values are to be z-scored.
    """
    for source in request.inputs:
        issues = lacking_issues([pixels], source.nodata, source.modality, source.caller)
        if not source.scaling.is_identity:  # who scales pixels by hand needs no unit checked
            issues += _judge_values(pixels, source, dates)
        _tell_issues(issues, cube_name)
    return encode(pixels, rows, cols, request)


_warned: set[tuple[str, str]] = set()


def _judge_values(
    pixels: np.ndarray, source: Input, dates: Sequence[ImageName] | None
) -> list[Issue]:
    sampled = sample_values(pixels, _BLOCK_SAMPLE_VALUES)
    images = cut_images(sampled, source.nodata, source.modality, dates or ())
    issues = value_issues(images, source.modality, source.told, source.nodata)
    # A block without a valid pixel is common; a cube without one is not.
    if dates is not None and not any(image.pixels.size for image in images):
        issues.append(no_valid_pixel_issue())
    return issues


def _tell_issues(issues: list[Issue], cube_name: str) -> None:
    report = InputReport(tuple(issues), {})
    report.raise_for_errors()
    for issue in report.warnings:
        if not cube_name or (cube_name, issue.code) not in _warned:
            _warned.add((cube_name, issue.code))
            warn(issue.message, issue)
