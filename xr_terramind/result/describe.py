"""What a stored embedding is and what made it, read back from its attributes, for people."""

import ast
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from xr_terramind.result.check import check_made_by_embed

_SOURCE = ("collection", "composite", "cloudy_pct", "cloud_mask", "scale_m", "fill_value")


def describe(embedding: xr.DataArray) -> dict[str, str]:
    """Say what an embedding is and what made it, in the order in which a reader asks.

    Of a lazy one only ``valid_fraction``, one number per cell, is read. What no `embed` has made is
    a `GridError`.
    """
    check_made_by_embed(embedding)
    attrs = embedding.attrs
    sizes = ", ".join(f"{dim} {size:,}" for dim, size in embedding.sizes.items())
    facts = {
        "vectors": f"{sizes}: {format_bytes(embedding.nbytes)} as float32",
        **_describe_place(embedding),
        **_describe_dates(embedding),
        **_describe_validity(embedding),
        "model": f"{attrs['model_key']}, {attrs['modality']}, {_name_layer(attrs['layer_index'])}",
        "weights": _describe_weights(attrs),
        "input": _describe_input(attrs),
        "windows": _describe_windows(attrs),
        "source": ", ".join(f"{name} {attrs[name]}" for name in _SOURCE if name in attrs),
        "made by": f"xr_terramind {attrs['xr_terramind_version']}, engine {attrs['engine']}, "
        f"{attrs['precision']} on {attrs['device']}",
    }
    return {name: text for name, text in facts.items() if text}


def _describe_place(embedding: xr.DataArray) -> dict[str, str]:
    if not {"y", "x"} <= set(embedding.dims):
        return {}
    if any(embedding[dim].ndim > 1 for dim in ("y", "x") if dim in embedding.coords):
        return {"where": "each image along its own y and x"}
    if embedding.rio.crs is None:
        return {"where": "no CRS"}
    # One row or column has no step of its own: without a transform its bounds are unknown.
    if min(embedding.rio.shape) < 2 and "spatial_ref" not in embedding.coords:
        return {"where": embedding.rio.crs.to_string()}
    west, south, east, north = embedding.rio.bounds()
    step_x, step_y = (abs(step) for step in embedding.rio.resolution())
    return {
        "where": f"{embedding.rio.crs.to_string()}, x {west:,.10g} to {east:,.10g}, "
        f"y {south:,.10g} to {north:,.10g}",
        "cells": f"{step_x:g} x {step_y:g} {_name_units(embedding)}",
    }


def _name_units(embedding: xr.DataArray) -> str:
    crs = embedding.rio.crs
    return (
        "degrees" if crs.is_geographic else {"metre": "m"}.get(crs.linear_units, crs.linear_units)
    )


def _describe_dates(embedding: xr.DataArray) -> dict[str, str]:
    first, last = (embedding.attrs.get(f"temporal_{end}") for end in ("start", "end"))
    if first is None or last is None:
        return {}
    n_dates = f"{embedding.sizes['time']} dates, " if "time" in embedding.dims else ""
    return {"when": f"{n_dates}{first}" + (f" to {last}" if last != first else "")}


def _describe_validity(embedding: xr.DataArray) -> dict[str, str]:
    if "valid_fraction" not in embedding.coords:
        return {}
    share = np.asarray(embedding["valid_fraction"].values, np.float64)
    written = np.isfinite(share)  # blocks of a store that was begun are NaN
    if not written.any():
        return {"valid": "nothing is written yet"}
    text = f"{share[written].mean():.1%} of the pixels; {np.mean(share == 0):.1%} of the cells are "
    text += "empty" if written.all() else f"empty, {np.mean(~written):.1%} are not written yet"
    return {"valid": text}


def _name_layer(index: int) -> str:
    return "last layer" if index == -1 else f"layer {index}"


def _describe_weights(attrs: dict[Any, Any]) -> str:
    sha256 = str(attrs["weights_sha256"])
    checksum = f", sha256 {sha256}" if sha256 else ""
    warning = " (the vectors mean nothing)" if attrs["weights"] == "random" else ""
    return f"{attrs['weights']}{warning}{checksum}"


def _read_list(value: Any) -> list[Any]:
    # GeoTIFF keeps lists as text, Zarr and NetCDF as lists or arrays; NetCDF a list of one as one.
    if isinstance(value, str):
        return list(ast.literal_eval(value)) if value.startswith(("[", "(")) else [value]
    return list(value)


def _describe_input(attrs: dict[Any, Any]) -> str:
    bands = " ".join(_read_list(attrs["bands"]))
    if "bands_missing" in attrs:
        bands += f", without {' '.join(_read_list(attrs['bands_missing']))}"
    assumed = " (order assumed)" if attrs["band_order"] == "assumed" else ""
    clip = attrs["clip"]
    is_clipped = not (isinstance(clip, str) and clip == "none")
    clipped = "clipped to {:g}..{:g}".format(*_read_list(clip)) if is_clipped else "not clipped"
    return f"{bands}{assumed}; {clipped}; normalised: {attrs['normalization']}"


def _describe_windows(attrs: dict[Any, Any]) -> str:
    if attrs["fit"] == "resize":
        return f"the whole extent resized to {attrs['image_size']} px"
    pooled = "" if attrs["pooling"] == "none" else f", pooled by {attrs['pooling']}"
    return f"{attrs['image_size']} px, overlap {attrs['overlap']} px{pooled}"
