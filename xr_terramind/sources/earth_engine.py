"""A lazy Sentinel-2 cube from Earth Engine through Xee: a place, two dates, ready for the model.

In order: read place and dates, lay a grid, ask which scenes there are, build the composite or the
series, open it with Xee, and label the cube. Opening asks Earth Engine twice and reads no pixel.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dask.array as da
import numpy as np
import pandas as pd
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from affine import Affine
from dask.array.core import normalize_chunks
from dask.base import tokenize

from xr_terramind.bands import MODALITIES
from xr_terramind.errors import SourceError, explain
from xr_terramind.models import PRETRAINING_PX
from xr_terramind.options import setting
from xr_terramind.sources.fetch import EarthEngineReader, with_retries
from xr_terramind.sources.region import GridSpec, Place, find_place, lay_grid

S2_SR = "COPERNICUS/S2_SR_HARMONIZED"
S2_TOA = "COPERNICUS/S2_HARMONIZED"
CLOUD_SCORE_PLUS = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"

CLEAR_SCORE = 0.6
"""Cloud Score+ `cs` from which a pixel counts as clear; its catalogue page suggests 0.5 to 0.65."""

CLOUDY_CLASSES = (3, 8, 9, 10)
"""Classes of the scene classification: cloud shadow, medium and high cloud probability, cirrus."""

FETCH_WORKERS = 8

REQUEST_LIMIT_BYTES = 48 * 2**20
"""What Earth Engine answers at the most, with a mask byte for each value."""

_VALUE_BYTES = 4 + 1
_CHUNK_WINDOWS = 5  # 1120 px: 6 MB a request, 60 MB a chunk of 12 bands

Composite = Literal["median", "mean", "mosaic"]
CloudMask = Literal["scl", "cloud_score_plus"]


@dataclass(frozen=True)
class Query:
    """What is asked of Earth Engine.

    Attributes
    ----------
    place : Place
    grid : GridSpec
    start, end : str
        ISO dates; the end is not included.
    collection : str
    bands : tuple of str
    cloudy_pct : float or None
        Scenes with more cloud are left out.
    composite : str or None
    cloud_mask : str or None
    """

    place: Place
    grid: GridSpec
    start: str
    end: str
    collection: str
    bands: tuple[str, ...]
    cloudy_pct: float | None
    composite: Composite | None
    cloud_mask: CloudMask | None


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
        Computed by Earth Engine over the time window; None gives the time series, a date a scene.
    fill_value : float or None, default 0.0
        What pixels hold that no scene covers; None leaves NaN.
    cloud_mask : {"scl", "cloud_score_plus"}, optional
        Mask cloud and its shadow by the scene classification (classes 3, 8, 9, 10; L2A only), or
        by Cloud Score+ (clear from 0.6).
    chunks : "auto" or as for ``DataArray.chunk``
        By default whole windows, 1120 x 1120 pixels, one date, all bands.
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
    start, end = _time_window(start, end)
    grid = lay_grid(place, crs, scale_m)
    query = Query(
        *(place, grid, start, end, collection, _band_names(collection, bands)),
        cloudy_pct=cloudy_pct,
        composite=_one_of("composite", composite, ("median", "mean", "mosaic")),
        cloud_mask=_check_mask(cloud_mask, collection),
    )
    _require_session()
    n_scenes = _count_scenes(query)
    opened = _open_with_xee(query)
    times = None if composite else opened["time"]
    data = _lazy_pixels(query, opened, times, fill_value, chunks, ee_init)
    return _label(data, query, times, n_scenes, fill_value, scale_m)


def _time_window(start: Any, end: Any) -> tuple[str, str]:
    stamps = []
    for name, value in (("start", start), ("end", end)):
        try:
            stamp = pd.Timestamp(value)
        except (TypeError, ValueError) as error:
            raise _no_date(name, value) from error
        if pd.isna(stamp):
            raise _no_date(name, value)
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


def _no_date(name: str, value: Any) -> SourceError:
    return SourceError(explain(f"{name}={value!r}", "a date", "For example '2022-06-01'."))


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value is None or value in choices:
        return value
    raise SourceError(
        explain(f"{name}={value!r}", f"one of {', '.join(map(repr, choices))} or None", "Choose.")
    )


def _check_mask(cloud_mask: Any, collection: str) -> Any:
    chosen = _one_of("cloud_mask", cloud_mask, ("scl", "cloud_score_plus"))
    if chosen == "scl" and collection == S2_TOA:
        raise SourceError(
            explain(
                "cloud_mask='scl' with the L1C collection",
                "L2A, which alone has the scene classification",
                "Use cloud_mask='cloud_score_plus'.",
            )
        )
    return chosen


def _band_names(collection: str, bands: Sequence[str] | None) -> tuple[str, ...]:
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


def _scenes(query: Query, *, limited: bool) -> Any:
    import ee

    # In the grid's own CRS and planar: edges follow the grid, also across the antimeridian.
    west, south, east, north = query.grid.bounds
    corners = [[west, south], [east, north]]
    area = ee.Geometry.Rectangle(corners, query.grid.crs, False)
    scenes = ee.ImageCollection(query.collection).filterBounds(area)
    scenes = scenes.filterDate(query.start, query.end)
    if limited and query.cloudy_pct is not None:
        scenes = scenes.filter(ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", query.cloudy_pct))
    return scenes


def _count_scenes(query: Query) -> int:
    import ee

    counts = ee.Dictionary(
        {
            "limited": _scenes(query, limited=True).size(),
            "all": _scenes(query, limited=False).size(),
        }
    )
    found: Any = with_retries(counts.getInfo, f"the scenes of {query.collection}")
    if not found["limited"]:
        limit = "" if query.cloudy_pct is None else f" with cloud <= {query.cloudy_pct:g} %"
        raise SourceError(
            explain(
                f"no scene of {query.collection} over the {query.place} from {query.start} to "
                f"{query.end}{limit} ({found['all']} without that limit)"
                if limit
                else f"no scene of {query.collection} over the {query.place} from {query.start} "
                f"to {query.end}",
                "one at least",
                "Widen the dates, raise cloudy_pct, or look whether the place is on land.",
            )
        )
    return int(found["limited"])


def _image_collection(query: Query) -> Any:
    import ee

    scenes = _scenes(query, limited=True).sort("system:time_start")
    if query.cloud_mask == "cloud_score_plus":
        scenes = scenes.linkCollection(ee.ImageCollection(CLOUD_SCORE_PLUS), ["cs"])
    scenes = scenes.map(_masking(query)) if query.cloud_mask else scenes
    scenes = scenes.select(list(query.bands))
    if query.composite is None:
        return scenes
    # A median is computed in double; float is what comes out of Xee anyway, at half the bytes.
    composite = getattr(scenes, query.composite)().toFloat()
    start_ms = int(pd.Timestamp(query.start).value // 10**6)
    return ee.ImageCollection([composite.set("system:time_start", start_ms)])


def _masking(query: Query) -> Any:
    def by_class(image: Any) -> Any:
        classes = image.select("SCL")
        clear = classes.neq(CLOUDY_CLASSES[0])
        for cloudy in CLOUDY_CLASSES[1:]:
            clear = clear.And(classes.neq(cloudy))
        return image.updateMask(clear)

    def by_score(image: Any) -> Any:
        return image.updateMask(image.select("cs").gte(CLEAR_SCORE))

    return by_class if query.cloud_mask == "scl" else by_score


def _open_with_xee(query: Query) -> xr.Dataset:
    images = _image_collection(query)

    def request() -> xr.Dataset:
        return xr.open_dataset(
            images,
            engine="ee",
            crs=query.grid.crs,
            crs_transform=query.grid.transform,
            shape_2d=(query.grid.width_px, query.grid.height_px),
            io_chunks=-1,  # one request for each chunk and band
            cache=False,
            getitem_kwargs={"max_retries": 0, "initial_delay": 1},
        )

    return with_retries(request, f"the bands {', '.join(query.bands)} of {query.collection}")


def _lazy_pixels(
    query: Query,
    opened: xr.Dataset,
    times: xr.DataArray | None,
    fill_value: float | None,
    chunks: Any,
    ee_init: Mapping[str, Any] | None,
) -> da.Array:
    sizes = {"band": len(query.bands), "y": query.grid.height_px, "x": query.grid.width_px}
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
    # The expression says all that makes the pixels, so that equal queries get equal keys.
    expression = _image_collection(query).serialize()
    return da.from_array(
        reader,
        chunks=_chunk_sizes(sizes, chunks),
        name=f"earth-engine-{tokenize(expression, query.grid, fill_value)}",
        asarray=True,
        fancy=False,
        meta=np.empty((0,) * len(shape), np.float32),
    )


def _chunk_sizes(sizes: dict[str, int], chunks: Any) -> tuple[tuple[int, ...], ...]:
    edge_px = _CHUNK_WINDOWS * PRETRAINING_PX
    default = {"time": 1, "band": sizes["band"], "y": edge_px, "x": edge_px}
    if isinstance(chunks, Mapping):
        wanted = {dim: chunks.get(dim, default[dim]) for dim in sizes}
    elif chunks is None or (isinstance(chunks, str) and chunks == "auto"):
        wanted = {dim: default[dim] for dim in sizes}
    else:
        each = chunks if isinstance(chunks, tuple | list) else (chunks,) * len(sizes)
        wanted = dict(zip(sizes, each, strict=True))
    found = normalize_chunks(tuple(wanted.values()), tuple(sizes.values()), dtype=np.float32)
    largest = {dim: max(run) for dim, run in zip(sizes, found, strict=True)}
    request_bytes = largest.get("time", 1) * largest["y"] * largest["x"] * _VALUE_BYTES
    if request_bytes > REQUEST_LIMIT_BYTES:
        raise SourceError(
            explain(
                f"chunks of {largest}, whose requests take {request_bytes / 2**20:.0f} MB a band",
                "48 MB at the most, which is what Earth Engine answers",
                "Leave chunks at 'auto', or pass smaller ones.",
            )
        )
    return tuple(found)


def session_settings() -> dict[str, Any]:
    """Return what a worker needs to open the same session as this process, as far as is known.

    Returns
    -------
    dict
        Project and address. Credentials are left to the worker (its own, stored or default ones),
        as secrets do not belong into a graph; anonymous ones are no secret and go along.
    """
    import ee
    from google.auth.credentials import AnonymousCredentials

    # The client has no public way to ask for these.
    state = ee.data._get_state() if hasattr(ee.data, "_get_state") else None
    found = {
        "project": getattr(state, "cloud_api_user_project", None),
        "url": getattr(state, "cloud_api_base_url", None),
    }
    if isinstance(getattr(state, "credentials", None), AnonymousCredentials):
        found["credentials"] = AnonymousCredentials()
    return {name: value for name, value in found.items() if value is not None}


def _label(
    data: da.Array,
    query: Query,
    times: xr.DataArray | None,
    n_scenes: int,
    fill_value: float | None,
    scale_m: float,
) -> xr.DataArray:
    grid = query.grid
    attrs: dict[str, Any] = {
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
    }
    if query.cloudy_pct is not None:
        attrs["cloudy_pct"] = query.cloudy_pct
    if fill_value is not None:
        attrs["fill_value"] = fill_value
    coords: dict[str, Any] = {
        "band": np.array(query.bands, dtype=object),  # Zarr has no stable type for fixed widths
        "y": grid.north - grid.step * (np.arange(grid.height_px) + 0.5),
        "x": grid.west + grid.step * (np.arange(grid.width_px) + 0.5),
    }
    dims: tuple[str, ...] = ("band", "y", "x")
    if times is not None:
        coords["time"], dims = times.values, ("time", *dims)
    cube = xr.DataArray(data, coords=coords, dims=dims, name="sentinel2", attrs=attrs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Use `@` matmul", PendingDeprecationWarning)
        return cube.rio.write_crs(grid.crs).rio.write_transform(Affine(*grid.transform))
