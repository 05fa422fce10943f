"""What a result says of how it was made, in attributes that every file format takes."""

import numbers
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind._version import __version__
from xr_terramind.blocks.plan import Plan
from xr_terramind.cube.arrange import Cube
from xr_terramind.inference.request import EncodeRequest
from xr_terramind.model.specs import PATCH_PX
from xr_terramind.options import EmbedOptions

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
    """Carry over what the cube says of its source, where it is a string or a number.

    A time coordinate gives ``temporal_start`` and ``temporal_end`` where no attribute does.
    """
    found: dict[str, Any] = {}
    if "time" in data.coords and np.issubdtype(data.coords["time"].dtype, np.datetime64):
        dates = np.atleast_1d(data.coords["time"].values)
        dates = dates[~np.isnat(dates)]
        if dates.size:
            days = np.datetime_as_string([dates.min(), dates.max()], unit="D")
            found = {"temporal_start": str(days[0]), "temporal_end": str(days[1])}
    for name in _SOURCE_ATTRS:
        value = data.attrs.get(name)
        if isinstance(value, str | numbers.Number) and not isinstance(value, complex):
            found[name] = value
    return found
