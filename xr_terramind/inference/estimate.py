"""What an embedding would cost: windows, tasks, bytes, and on demand time."""

import math
import time
from dataclasses import dataclass, replace
from html import escape

import dask
import dask.array as da
import numpy as np
from dask.system import CPU_COUNT
from dask.utils import format_bytes, format_time

from xr_terramind.blocks.graph import TASK_NAME, map_blocks
from xr_terramind.blocks.plan import Plan
from xr_terramind.blocks.windows import AxisBlock
from xr_terramind.cube.arrange import Cube
from xr_terramind.cube.report import html_table
from xr_terramind.inference.device import MAX_BATCH_CPU, window_bytes
from xr_terramind.inference.loaded import engine_for, in_model_thread
from xr_terramind.inference.request import make_plan, make_request
from xr_terramind.model.specs import ModelSpec, model_spec
from xr_terramind.options import EmbedOptions

PROCESS_BYTES = 700 * 2**20
"""Python with torch, xarray and Dask on Linux, as measured before the first block."""

CALIBRATION_S = 2.0


@dataclass(frozen=True)
class PlanReport:
    """What ``embed`` would run; nothing was computed for it.

    Attributes
    ----------
    windows : int
        Windows that pass through the encoder, over all dates or other images.
    patches : int
        Patches of the source, over all images: vectors of ``output="grid"``.
    blocks : int
        Embedding tasks.
    tasks : int
        All tasks of the graph, reading included.
    output_shape, output_dims : tuple
        Of the result.
    output_bytes : int
        Of the result in float32, without its coordinates.
    output_bytes_int8 : int
        The same as int8 with a float32 scale a vector.
    input_bytes : int
        Of the whole source.
    task_bytes : int
        Pixels and vectors that the largest embedding task holds, beside the model.
    worker_bytes : int
        Peak memory of a process that embeds and writes, about: libraries, model, a batch, and the
        blocks and chunks that its threads have under way.
    model : str
    model_bytes : int
        Of the weights in float32.
    windows_per_s : float or None
        Measured on this machine, where ``calibrate=True`` asked for it.
    """

    windows: int
    patches: int
    blocks: int
    tasks: int
    output_shape: tuple[int, ...]
    output_dims: tuple[str, ...]
    output_bytes: int
    output_bytes_int8: int
    input_bytes: int
    task_bytes: int
    worker_bytes: int
    model: str
    model_bytes: int
    windows_per_s: float | None = None

    @property
    def seconds(self) -> float | None:
        """Time to encode all windows on this machine, where ``calibrate=True`` asked for it."""
        return None if self.windows_per_s is None else self.windows / self.windows_per_s

    def _rows(self) -> list[tuple[str, str]]:
        shape = ", ".join(
            f"{dim} {size:,}" for dim, size in zip(self.output_dims, self.output_shape, strict=True)
        )
        rows = [
            ("model", f"{self.model}, {format_bytes(self.model_bytes)} in float32"),
            ("input", format_bytes(self.input_bytes)),
            ("windows", f"{self.windows:,}"),
            ("patches", f"{self.patches:,}"),
            ("blocks", f"{self.blocks:,}, in {self.tasks:,} tasks"),
            ("memory", f"{format_bytes(self.task_bytes)} a task, "
                       f"about {format_bytes(self.worker_bytes)} a worker at its peak"),
            ("output", f"{shape}: {format_bytes(self.output_bytes)} in float32, "
                       f"{format_bytes(self.output_bytes_int8)} in int8"),
        ]  # fmt: skip
        if self.seconds is not None:
            spent = format_time(self.seconds)
            rows.append(
                ("time", f"{spent} at {self.windows_per_s:.1f} windows/s, as measured here")
            )
        return rows

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(len(key) for key, _ in rows)
        return "\n".join(["<terramind.Plan>", *(f"  {key:<{width}}  {text}" for key, text in rows)])

    def _repr_html_(self) -> str:
        return html_table(
            "terramind.Plan", [(escape(key), escape(text), "inherit") for key, text in self._rows()]
        )


def estimate(cube: Cube, options: EmbedOptions, *, calibrate: bool = False) -> PlanReport:
    """Say what an arranged cube would cost; computes nothing unless asked to calibrate."""
    plan = make_plan(cube, options)
    spec = model_spec(options.model)
    n_images, height, width = plan.out_shape
    image_dims = tuple(map(str, cube.image_dims))
    cells = () if options.output == "pooled" else (height, width)
    n_vectors = n_images * int(np.prod(cells))
    return PlanReport(
        windows=plan.n_windows,
        patches=n_images * plan.rows.n_patches * plan.cols.n_patches,
        blocks=plan.n_blocks,
        tasks=_count_tasks(cube, plan),
        output_shape=(*cube.data.shape[:-3], spec.dim, *cells),
        output_dims=(*image_dims, "feature", *(("y", "x") if cells else ())),
        output_bytes=4 * spec.dim * n_vectors,
        output_bytes_int8=(spec.dim + 4) * n_vectors,
        input_bytes=int(cube.data.nbytes),
        task_bytes=_task_bytes(cube, plan, spec),
        worker_bytes=_worker_bytes(cube, plan, spec, options),
        model=options.model,
        model_bytes=4 * spec.parameters(len(cube.modality.bands)),
        windows_per_s=_windows_per_s(cube, options) if calibrate else None,
    )


def _pixel_bytes(cube: Cube) -> int:
    return int(cube.data.dtype.itemsize * cube.data.sizes["band"])


def _block_px(plan: Plan) -> tuple[int, int]:
    # The largest block's height and width.
    height_px, width_px = (
        max(block.read_stop - block.read_start for block in blocks)
        for blocks in (plan.row_blocks, plan.col_blocks)
    )
    return height_px, width_px


def _task_bytes(cube: Cube, plan: Plan, spec: ModelSpec) -> int:
    height_px, width_px = _block_px(plan)
    pixels = plan.times_per_block * height_px * width_px * _pixel_bytes(cube)
    cells = int(np.prod([max(sizes) for sizes in plan.block_sizes]))
    return pixels + 4 * (spec.dim + 1) * cells


def _worker_bytes(cube: Cube, plan: Plan, spec: ModelSpec, options: EmbedOptions) -> int:
    # Process, model, one batch; blocks and chunks under way; and of the chunks that cross the
    # border of two rows of blocks, what the next row will use.
    batch = MAX_BATCH_CPU * window_bytes(spec, cube.modality, options.window_size)
    fixed = PROCESS_BYTES + 4 * spec.parameters(len(cube.modality.bands)) + batch
    if not cube.is_lazy:
        return fixed + int(cube.data.nbytes) + _task_bytes(cube, plan, spec)
    n_threads = dask.config.get("num_workers", None) or CPU_COUNT
    chunk = math.prod(max(sizes) for sizes in cube.data.chunksizes.values())
    chunk_bytes = chunk * cube.data.dtype.itemsize
    height_px = _block_px(plan)[0]
    is_cut = any(start % height_px for start in np.cumsum(cube.data.chunksizes["y"])[:-1])
    waiting = plan.times_per_block * height_px * cube.shape[2] * _pixel_bytes(cube) * is_cut
    return (
        fixed + (n_threads + 1) * _task_bytes(cube, plan, spec) + n_threads * chunk_bytes + waiting
    )


def _windows_per_s(cube: Cube, options: EmbedOptions) -> float:
    # Speed does not depend on the weights: random ones need no download.
    request = make_request(cube, replace(options, weights="random"))
    engine = engine_for(request.key)
    shape = (len(cube.modality.bands), options.window_size, options.window_size)
    windows = np.ones((engine.batch_size(request), *shape), cube.data.dtype)
    in_model_thread(engine.encode, windows[:1], None, request)  # the first is slower
    n_done, started_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - started_s) < CALIBRATION_S:
        in_model_thread(engine.encode, windows, None, request)
        n_done += len(windows)
    return n_done / elapsed_s


def _count_tasks(cube: Cube, plan: Plan) -> int:
    if not cube.is_lazy:
        return plan.n_blocks
    source: da.Array = cube.data.data
    results = map_blocks(source, plan, _no_function, n_features=1, name=TASK_NAME)
    return len({key for result in results for key in result.__dask_graph__()})


def _no_function(pixels: np.ndarray, rows: AxisBlock, cols: AxisBlock) -> np.ndarray:
    raise NotImplementedError("counted, never run")
