"""A lazy Sentinel-2 cube from Earth Engine through Xee: a place, two dates, ready for the model.

In order: read place and dates, lay a grid, ask which scenes there are, build the composite or the
series, open it with Xee, and label the cube. Opening asks Earth Engine twice and reads no pixel.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from xr_terramind.errors import SourceError, explain
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.options import setting
from xr_terramind.sources.earth_engine.chunks import chunk_sizes
from xr_terramind.sources.earth_engine.fetch import EarthEngineReader, session_settings
from xr_terramind.sources.earth_engine.query import (
    S2_SR,
    S2_TOA,
    CloudMask,
    Composite,
    Query,
    count_scenes,
    image_collection,
    open_with_xee,
)
from xr_terramind.sources.label import label_cube
from xr_terramind.sources.place import check_number, find_place
from xr_terramind.sources.target_grid import lay_grid

FETCH_WORKERS = 8


def open_s2(
    *,
    point: tuple[float, float] | None = None,
    buffer_m: float | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    geometry: Any = None,
    start: str | Any,
    end: str | Any,
    collection: str = S2_SR,
    bands: Sequence[str] | None = None,
    scale_m: float = 10,
    crs: str | None = None,
    cloudy_pct: float | None = 30,
    composite: Composite | None = "median",
    fill_value: float | None = 0.0,
    cloud_mask: CloudMask | None = None,
    chunks: Any = "auto",
    ee_init: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Open a Sentinel-2 cube from Earth Engine, lazily.

    Call ``ee.Initialize(project=...)`` first.

    Parameters
    ----------
    point : (longitude, latitude), optional
        Centre of a square, with `buffer_m`.
    buffer_m : float, optional
        Metres from the point to each edge of the square.
    bbox : (west, south, east, north), optional
        In degrees; ``west > east`` crosses the antimeridian.
    geometry : optional
        A shapely geometry or GeoJSON mapping in degrees, or a GeoDataFrame. The cube covers its
        bounds.
    start, end : str or datetime-like
        The time window; `end` is not included, as in Earth Engine.
    collection : str, default "COPERNICUS/S2_SR_HARMONIZED"
        ``"COPERNICUS/S2_HARMONIZED"`` gives L1C.
    bands : sequence of str, optional
        The 12 bands of L2A in the model's order by default, or the 13 of L1C.
    scale_m : float, default 10
        Edge of a pixel; the grid is snapped to its multiples.
    crs : str, optional
        The UTM zone of the centre by default.
    cloudy_pct : float or None, default 30
        Scenes with more cloud (``CLOUDY_PIXEL_PERCENTAGE``) are left out; None keeps all.
    composite : {"median", "mean", "mosaic"} or None, default "median"
        Computed by Earth Engine over the time window; None gives the time series, one date per
        scene.
    fill_value : float or None, default 0.0
        What pixels hold that no scene covers; None leaves NaN.
    cloud_mask : {"scl", "cloud_score_plus"}, optional
        Mask cloud and its shadow by the scene classification (classes 3, 8, 9, 10; L2A only), or
        by Cloud Score+ (clear from 0.6).
    chunks : "auto" or as for ``DataArray.chunk``
        By default whole windows, up to 1120 x 1120 pixels, one date, all bands.
    ee_init : mapping, optional
        Keywords with which Dask's worker processes call ``ee.Initialize``. By default the project
        and address of this process's session; the credentials are the worker's own.

    Returns
    -------
    xarray.DataArray
        float32, dims ``([time,] band, y, x)``, north up, coordinates at pixel centres.

    Raises
    ------
    SourceError
        Where Earth Engine is not initialised, refuses or breaks off; where no scene matches; and
        for places, dates or chunks that cannot be.

    Examples
    --------
    >>> import ee, xr_terramind as xtm  # doctest: +SKIP
    >>> ee.Initialize(project="my-project")  # doctest: +SKIP
    >>> cube = xtm.open_s2(
    ...     point=(121.5, 31.2), buffer_m=2048, start="2022-06-01", end="2022-09-01"
    ... )  # doctest: +SKIP
    >>> embedding = cube.terramind.embed()  # doctest: +SKIP
    """
    place = find_place(point, buffer_m, bbox, geometry)
    scale_m = check_number("scale_m", scale_m) or 0.0
    cloudy_pct = check_number("cloudy_pct", cloudy_pct)
    fill_value = check_number("fill_value", fill_value)
    start, end = _read_time_window(start, end)
    grid = lay_grid(place, crs, scale_m)
    query = Query(
        *(place, grid, start, end, collection, _choose_bands(collection, bands)),
        cloudy_pct=cloudy_pct,
        composite=_check_choice("composite", composite, ("median", "mean", "mosaic")),
        cloud_mask=_check_mask(cloud_mask, collection),
    )
    _require_session()
    n_scenes = count_scenes(query)
    opened = open_with_xee(query)
    times = None if composite else opened["time"].values
    data = _build_lazy_pixels(query, opened, times, fill_value, chunks, ee_init)
    attrs = _make_attrs(query, n_scenes, fill_value, scale_m)
    return label_cube(data, grid, query.bands, times, name="sentinel2", attrs=attrs)


def _read_time_window(start: Any, end: Any) -> tuple[str, str]:
    stamps = []
    for name, value in (("start", start), ("end", end)):
        try:
            stamp = pd.Timestamp(value)
        except (TypeError, ValueError) as error:
            raise _date_error(name, value) from error
        if pd.isna(stamp):
            raise _date_error(name, value)
        stamps.append(stamp.tz_convert(None) if stamp.tzinfo else stamp)
    if stamps[0] >= stamps[1]:
        raise SourceError(
            explain(
                f"start={start!r} and end={end!r}",
                "start before end (the end is not included)",
                "Swap them, or make the window a day longer.",
            )
        )
    first, last = (
        f"{stamp:%Y-%m-%d}" if stamp == stamp.normalize() else stamp.isoformat() for stamp in stamps
    )
    return first, last


def _date_error(name: str, value: Any) -> SourceError:
    return SourceError(explain(f"{name}={value!r}", "a date", "For example '2022-06-01'."))


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value is None or value in choices:
        return value
    raise SourceError(
        explain(f"{name}={value!r}", f"one of {', '.join(map(repr, choices))} or None", "Choose.")
    )


def _check_mask(cloud_mask: Any, collection: str) -> Any:
    chosen = _check_choice("cloud_mask", cloud_mask, ("scl", "cloud_score_plus"))
    if chosen == "scl" and collection == S2_TOA:
        raise SourceError(
            explain(
                "cloud_mask='scl' with the L1C collection",
                "L2A, which alone has the scene classification",
                "Use cloud_mask='cloud_score_plus'.",
            )
        )
    return chosen


def _choose_bands(collection: str, bands: Sequence[str] | None) -> tuple[str, ...]:
    if bands is None:
        return MODALITIES["S2L1C" if collection == S2_TOA else "S2L2A"].bands
    names = (bands,) if isinstance(bands, str) else tuple(bands)
    if not names or len(set(names)) < len(names):
        raise SourceError(
            explain(f"bands={bands!r}", "each band once, one at least", "Leave it out for all.")
        )
    return names


def _require_session() -> None:
    import ee

    if not ee.data.is_initialized():
        raise SourceError(
            explain(
                "no Earth Engine session in this process",
                "one that is initialised",
                "Run ee.Authenticate() once on this machine, then in each session "
                "ee.Initialize(project='your-cloud-project').",
            )
        )


def _build_lazy_pixels(
    query: Query,
    opened: xr.Dataset,
    times: np.ndarray | None,
    fill_value: float | None,
    chunks: Any,
    ee_init: Mapping[str, Any] | None,
) -> da.Array:
    sizes = {"band": len(query.bands), "y": query.grid.height, "x": query.grid.width}
    if times is not None:
        sizes = {"time": times.size, **sizes}
    shape = tuple(sizes.values())
    workers = setting("fetch_workers", FETCH_WORKERS)
    reader = EarthEngineReader(
        variables={band: opened.variables[band] for band in query.bands},
        shape=shape,
        fill_value=fill_value,
        fetch_workers=FETCH_WORKERS if workers == "auto" else workers,
        ee_init=dict(session_settings() if ee_init is None else ee_init),
    )
    found = chunk_sizes(sizes, chunks)
    # Equal queries get equal keys: Earth Engine's own expression says all that makes the pixels.
    # Of the session only what is no secret goes into the key.
    parts = image_collection(query).serialize(), query.grid, fill_value
    settings = reader.fetch_workers, sorted(reader.ee_init), reader.ee_init.get("project")
    return da.from_array(
        reader,
        chunks=found,
        name=f"earth-engine-{tokenize(parts, found, settings)}",
        asarray=True,
        meta=np.empty((0,) * len(shape), np.float32),
    )


def _make_attrs(
    query: Query, n_scenes: int, fill_value: float | None, scale_m: float
) -> dict[str, Any]:
    optional = {"cloudy_pct": query.cloudy_pct, "fill_value": fill_value}
    return {
        "long_name": "Sentinel-2 digital numbers",
        "units": "1",
        "backend": "provider",
        "provider": "Google Earth Engine",
        "collection": query.collection,
        "scale_m": scale_m,
        "composite": query.composite or "none",
        "cloud_mask": query.cloud_mask or "none",
        "temporal_start": query.start,
        "temporal_end": query.end,
        "n_scenes": n_scenes,
        **{name: value for name, value in optional.items() if value is not None},
    }
