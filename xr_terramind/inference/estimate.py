"""What an embedding would cost: windows, tasks, bytes, and on demand time."""

import math
import time
from dataclasses import replace
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.system import CPU_COUNT

from xr_terramind.blocks.graph import map_blocks
from xr_terramind.blocks.plan import Plan
from xr_terramind.blocks.windows import AxisBlock
from xr_terramind.choices import EmbedOptions
from xr_terramind.cube.arrange import Cube
from xr_terramind.cube.check import inspect_cube
from xr_terramind.cube.report import PlanReport
from xr_terramind.embed import TASK_NAME, make_plan, make_request
from xr_terramind.inference.device import MAX_BATCH_CPU, window_bytes
from xr_terramind.inference.loaded import in_model_thread, runner_for
from xr_terramind.model.modalities import modality_of
from xr_terramind.model.specs import ModelSpec, model_spec
from xr_terramind.options import resolve_options

PROCESS_BYTES = 700 * 2**20
"""Python with torch, xarray and Dask on Linux, as measured before the first block."""

CALIBRATION_S = 2.0


def plan_embedding(
    obj: xr.DataArray | xr.Dataset, *, calibrate: bool = False, **options: Any
) -> PlanReport:
    """Say what ``embed`` would run; see `TerraMindAccessor.plan`.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
    calibrate : bool
    **options
        Fields of `EmbedOptions`, ``output`` included.

    Returns
    -------
    PlanReport
    """
    chosen = resolve_options(**options)
    modality = modality_of(chosen.modality)
    report, cube = inspect_cube(obj, modality, window_px=chosen.window_size, fit=chosen.fit)
    report.raise_for_errors()
    assert cube is not None  # a report without errors comes with a cube
    plan = make_plan(cube, chosen)
    spec = model_spec(chosen.model)
    n_times, height, width = plan.out_shape
    has_time = "time" in cube.data.dims
    cells = () if chosen.output == "pooled" else (height, width)
    n_vectors = n_times * int(np.prod(cells))
    return PlanReport(
        windows=plan.n_windows,
        patches=n_times * plan.rows.n_patches * plan.cols.n_patches,
        blocks=plan.n_blocks,
        tasks=_count_tasks(cube, plan),
        output_shape=(*((n_times,) if has_time else ()), spec.dim, *cells),
        output_dims=(*(("time",) if has_time else ()), "feature", *(("y", "x") if cells else ())),
        output_bytes=4 * spec.dim * n_vectors,
        output_bytes_int8=(spec.dim + 4) * n_vectors,
        input_bytes=int(cube.data.nbytes),
        task_bytes=_task_bytes(cube, plan, spec),
        worker_bytes=_worker_bytes(cube, plan, spec, chosen),
        model=chosen.model,
        model_bytes=4 * spec.parameters(len(modality.bands)),
        windows_per_s=_windows_per_s(cube, chosen) if calibrate else None,
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
    runner = runner_for(request)
    shape = (len(cube.modality.bands), options.window_size, options.window_size)
    windows = np.ones((runner.batch_size(request), *shape), cube.data.dtype)
    in_model_thread(runner.encode, windows[:1], None, request)  # the first is slower
    n_done, started_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - started_s) < CALIBRATION_S:
        in_model_thread(runner.encode, windows, None, request)
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
