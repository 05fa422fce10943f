"""Attributes of a stored embedding in the geoemb, proj and spatial conventions of GeoZarr."""

from typing import Any

import xarray as xr

from xr_terramind.model.modalities import modality_of
from xr_terramind.model.specs import model_spec
from xr_terramind.result.quantize import QUANTIZATION, SCALE

GEOEMB_UUID = "61c12cc5-0e28-4056-999a-480cf3fb7e4c"
"""Of version 1 of the geoemb convention, a proposal."""


def make_geoemb_attrs(embedding: xr.DataArray) -> dict[str, Any]:
    """Describe an embedding, as floats or int8, to readers that do not know this package.

    Returned are attributes for the group that holds it, with values that JSON can take.
    """
    attrs = embedding.attrs
    found: dict[str, Any] = {
        "zarr_conventions": [{"name": "geoemb:", "uuid": GEOEMB_UUID}],
        "geoemb:type": "chip",
        "geoemb:dimensions": int(embedding.sizes["feature"]),
        "geoemb:model": f"https://huggingface.co/{model_spec(attrs['model_key']).hub_id}",
        "geoemb:source_data": [str(attrs.get("collection") or modality_of(attrs["modality"]).name)],
        "geoemb:data_type": str(embedding.dtype),
    }
    if QUANTIZATION in attrs:
        found["geoemb:quantization"] = {
            "method": attrs[QUANTIZATION],
            "original_dtype": "float32",
            "quantized_dtype": str(embedding.dtype),
            "scale": SCALE,  # the array of this name, one number per vector
        }
    if {"y", "x"} <= set(embedding.dims):
        found |= _describe_chips(attrs) | _describe_place(embedding)
    return found


def _describe_chips(attrs: dict[Any, Any]) -> dict[str, Any]:
    if attrs["fit"] == "resize":
        return {}  # chips are not whole pixels of the source
    edge = stride = attrs["patch_size"]
    if attrs["output"] == "windows":
        edge, stride = attrs["image_size"], attrs["image_size"] - attrs["overlap"]
    layout = {"layout_type": "regular_grid", "chip_size": [edge] * 2, "stride": [stride] * 2}
    return {"geoemb:chip_layout": layout}


def _describe_place(embedding: xr.DataArray) -> dict[str, Any]:
    shape = [int(embedding.sizes[dim]) for dim in ("y", "x")]
    found: dict[str, Any] = {"spatial:dimensions": ["y", "x"], "spatial:shape": shape}
    if embedding.rio.crs is not None:
        code = embedding.rio.crs.to_authority()
        found |= (
            {"proj:code": ":".join(code)} if code else {"proj:wkt2": embedding.rio.crs.to_wkt()}
        )
    mapping = embedding.coords.get("spatial_ref")
    if mapping is not None and "GeoTransform" in mapping.attrs:
        # Of the coordinates: a selection keeps the transform of what it was selected from.
        west, south, east, north = embedding.rio.bounds(recalc=True)
        transform = embedding.rio.transform(recalc=True)
        found |= {
            "spatial:transform": [float(number) for number in tuple(transform)[:6]],
            "spatial:bbox": [
                float(edge)
                for pair in (min, max)
                for edge in (pair(west, east), pair(south, north))
            ],
        }
    return found
