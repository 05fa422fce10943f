"""What a result says of how it was made, in attributes that every file format takes."""

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind._version import __version__
from xr_terramind.blocks.plan import Plan
from xr_terramind.cube.arrange import Cube
from xr_terramind.cube.report import Issue, make_warning
from xr_terramind.inference.request import EncodeRequest
from xr_terramind.model.specs import PATCH_PX
from xr_terramind.options import EmbedOptions
from xr_terramind.result.coords import keep_coords
from xr_terramind.result.plain import is_cftime, keep_attrs

_SOURCE_ATTRS = (
    *("collection", "scale_m", "cloudy_pct", "composite", "fill_value", "cloud_mask"),
    *("temporal_start", "temporal_end"),
)


def result_attrs(
    cube: Cube, options: EmbedOptions, request: EncodeRequest, plan: Plan
) -> dict[str, Any]:
    """Describe an embedding: strings, numbers and lists of one type."""
    return {
        "model": "terramind",
        "model_key": options.model,
        "modality": options.modality,
        "bands": list(cube.modality.bands),
        "bands_terramind": list(cube.modality.bands_terramind),
        # Only where there are any: an empty list has no type, and NetCDF refuses it.
        **({"bands_missing": list(cube.modality.missing)} if cube.modality.missing else {}),
        "band_order": "assumed" if cube.assumed else "named",
        "normalization": options.normalize,
        "clip": "none" if request.inputs[0].clip is None else list(request.inputs[0].clip),
        "layer_index": options.layer,
        "output": options.output,
        "fit": options.fit,
        "image_size": options.window_size,
        "overlap": options.overlap,
        "patch_size": PATCH_PX,
        "grid_type": "vit_patch_tokens",
        "grid_hw": list(plan.out_shape[1:]),
        "cls_removed": 0,
        "pooling": "none" if options.output == "grid" else options.pooling,
        "min_valid_fraction": options.min_valid_fraction,
        "pretrained": int(options.weights == "pretrained"),
        "weights": options.weights,
        "weights_sha256": request.key.weights.sha256,
        "engine": request.key.engine,
        "precision": request.key.precision,
        "device": request.key.device,
        "backend": "provider" if cube.data.attrs.get("backend") == "provider" else "tensor",
        **source_attrs(cube.data),
        "xr_terramind_version": __version__,
    }


def source_attrs(data: xr.DataArray) -> dict[str, Any]:
    """Carry over what the cube says of its source, as every file takes it.

    A time coordinate gives ``temporal_start`` and ``temporal_end`` where no attribute does.
    """
    kept, _ = keep_attrs(_list_source_attrs(data))
    return {**_find_days(data), **{str(name): value for name, value in kept.items()}}


def _list_source_attrs(data: xr.DataArray) -> dict[Hashable, Any]:
    return {name: data.attrs[name] for name in _SOURCE_ATTRS if name in data.attrs}


def _find_days(data: xr.DataArray) -> dict[str, str]:
    time = keep_coords(data).coords.get("time")
    if time is None or time.dtype.kind not in "MO":
        return {}
    dates = np.ravel(time.values)
    if time.dtype.kind == "M":
        days = np.datetime_as_string(dates[~np.isnat(dates)], unit="D").tolist()
    else:
        days = [item.isoformat()[:10] for item in dates if is_cftime(item)]
    return {"temporal_start": min(days), "temporal_end": max(days)} if days else {}


def find_lost(cube: xr.DataArray | xr.Dataset, data: xr.DataArray) -> Iterator[Issue]:
    """Say what the embedding of a cube is without, as no file takes it; `data` is it arranged."""
    kept = keep_coords(data)
    _, lost_attrs = keep_attrs(_list_source_attrs(data))
    names = {name: _name_in_cube(name, cube, data) for name in data.coords}
    found = [f"the coordinate {names[name]!r} ({why})" for name, why in kept.lost.items()]
    found += [f"the attribute {attr!r} of {names[name]!r}" for name, attr in kept.lost_attrs]
    found += [f"the attribute {attr!r}" for attr in lost_attrs]
    calls = [f"cube = cube.drop_vars({[names[n] for n in kept.lost]})"] if kept.lost else []
    calls += [f"del cube[{names[name]!r}].attrs[{attr!r}]" for name, attr in kept.lost_attrs]
    calls += [f"cube.attrs[{attr!r}] = '...'" for attr in lost_attrs]
    if found:
        yield make_warning(
            "lost-metadata",
            f"what no file takes: {', '.join(found)}",
            "numbers, times or text, with a name of their own that has no slash",
            "The embedding is without; write it as text to keep it, or drop it: "
            + "; ".join(calls),
        )


def _name_in_cube(name: Hashable, cube: xr.DataArray | xr.Dataset, data: xr.DataArray) -> Hashable:
    # Arranging renames the coordinates of dims: t becomes time.
    if name in cube.coords or name not in data.dims:
        return name
    labels = data.get_index(name)
    others = (dim for dim in cube.dims if dim in cube.coords and dim not in data.dims)
    return next((dim for dim in others if cube.get_index(dim).equals(labels)), name)
