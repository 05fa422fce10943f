"""What an embedding would cost: windows, tasks, bytes, without computing any of it."""

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xr_terramind import lazy
from xr_terramind.check import inspect_cube
from xr_terramind.choices import EmbedOptions
from xr_terramind.cube import Cube
from xr_terramind.modalities import modality_of
from xr_terramind.models import model_spec
from xr_terramind.options import resolve_options
from xr_terramind.plan import Plan, plan_resize, plan_windows
from xr_terramind.report import PlanReport
from xr_terramind.windows import AxisBlock

TASK_NAME = "terramind-embed"


def make_plan(cube: Cube, options: EmbedOptions) -> Plan:
    """Lay windows over a cube.

    Parameters
    ----------
    cube : Cube
    options : EmbedOptions

    Returns
    -------
    Plan
    """
    if options.fit == "resize":
        pooled = options.output == "windows"
        return plan_resize(cube.shape, window_px=options.window_size, per_window=pooled)
    time_chunks = cube.data.chunksizes.get("time", (1,)) if cube.is_lazy else (1,)
    return plan_windows(
        cube.shape,
        window_px=options.window_size,
        overlap_px=options.overlap,
        pixel_bytes=cube.data.dtype.itemsize * cube.data.sizes["band"],
        times_per_chunk=max(time_chunks),
        per_window=options.output == "windows",
        in_memory=not cube.is_lazy,
    )


def plan_embedding(obj: xr.DataArray | xr.Dataset, **options: Any) -> PlanReport:
    """Say what ``embed`` would run; see `TerraMindAccessor.plan`.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
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
    block_px = max(b.read_stop - b.read_start for b in plan.row_blocks) * max(
        b.read_stop - b.read_start for b in plan.col_blocks
    )
    pixel_bytes = cube.data.dtype.itemsize * cube.data.sizes["band"]
    block_cells = int(np.prod([max(sizes) for sizes in plan.block_sizes]))
    return PlanReport(
        windows=plan.n_windows,
        patches=n_times * plan.rows.n_patches * plan.cols.n_patches,
        blocks=plan.n_blocks,
        tasks=_count_tasks(cube, plan),
        output_shape=(*((n_times,) if has_time else ()), spec.dim, *cells),
        output_dims=(*(("time",) if has_time else ()), "feature", *(("y", "x") if cells else ())),
        output_bytes=4 * n_times * spec.dim * int(np.prod(cells)),
        input_bytes=int(cube.data.nbytes),
        task_bytes=plan.times_per_block * block_px * pixel_bytes + 4 * (spec.dim + 1) * block_cells,
        model=chosen.model,
        model_bytes=4 * spec.parameters(len(modality.bands)),
    )


def _count_tasks(cube: Cube, plan: Plan) -> int:
    if not cube.is_lazy:
        return plan.n_blocks
    source: da.Array = cube.data.data
    results = lazy.map_blocks(source, plan, _no_function, n_features=1, name=TASK_NAME)
    return len({key for result in results for key in result.__dask_graph__()})


def _no_function(pixels: np.ndarray, rows: AxisBlock, cols: AxisBlock) -> np.ndarray:
    raise NotImplementedError("counted, never run")
