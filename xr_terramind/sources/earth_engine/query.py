"""What is asked of Earth Engine: scenes by place, dates and cloud, masked and composed."""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox

from xr_terramind.errors import SourceError, explain
from xr_terramind.sources.earth_engine.fetch import with_retries
from xr_terramind.sources.place import Place

S2_SR = "COPERNICUS/S2_SR_HARMONIZED"
S2_TOA = "COPERNICUS/S2_HARMONIZED"
CLOUD_SCORE_PLUS = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"

CLEAR_SCORE = 0.6
"""Cloud Score+ `cs` from which a pixel counts as clear; its catalogue page suggests 0.5 to 0.65."""

CLOUDY_CLASSES = (3, 8, 9, 10)
"""Classes of the scene classification: cloud shadow, medium and high cloud probability, cirrus."""

Composite = Literal["median", "mean", "mosaic"]
CloudMask = Literal["scl", "cloud_score_plus"]


@dataclass(frozen=True)
class Query:
    """What is asked of Earth Engine; `end` is not included, cloudier scenes are left out."""

    place: Place
    grid: GeoBox
    start: str
    end: str
    collection: str
    bands: tuple[str, ...]
    cloudy_pct: float | None
    composite: Composite | None
    cloud_mask: CloudMask | None


def _find_scenes(query: Query, *, limited: bool) -> Any:
    import ee

    # In the grid's own CRS and planar: edges follow the grid, also across the antimeridian.
    west, south, east, north = query.grid.boundingbox.bbox
    corners = [[west, south], [east, north]]
    area = ee.Geometry.Rectangle(corners, str(query.grid.crs), False)
    scenes = ee.ImageCollection(query.collection).filterBounds(area)
    scenes = scenes.filterDate(query.start, query.end)
    if limited and query.cloudy_pct is not None:
        scenes = scenes.filter(ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", query.cloudy_pct))
    return scenes


def count_scenes(query: Query) -> int:
    """Ask how many scenes match, and how many would without the cloud limit.

    Raises
    ------
    SourceError
        Where none does, or no answer comes.
    """
    import ee

    counts = ee.Dictionary(
        {
            "limited": _find_scenes(query, limited=True).size(),
            "all": _find_scenes(query, limited=False).size(),
        }
    )
    found: Any = with_retries(counts.getInfo, f"the scenes of {query.collection}")
    if not found["limited"]:
        missing = f"no scene of {query.collection} over the {query.place} from {query.start} to "
        missing += query.end
        if query.cloudy_pct is not None:
            missing += f" with cloud <= {query.cloudy_pct:g} % ({found['all']} without that limit)"
        raise SourceError(
            explain(
                missing,
                "one at least",
                "Widen the dates, raise cloudy_pct, or look whether the place is on land.",
            )
        )
    return int(found["limited"])


def image_collection(query: Query) -> Any:
    """Build the ``ee.ImageCollection`` that Xee opens: the series, or the one composite."""
    import ee

    scenes = _find_scenes(query, limited=True).sort("system:time_start")
    if query.cloud_mask == "cloud_score_plus":
        scenes = scenes.linkCollection(ee.ImageCollection(CLOUD_SCORE_PLUS), ["cs"])
    scenes = scenes.map(_make_mask(query)) if query.cloud_mask else scenes
    scenes = scenes.select(list(query.bands))
    if query.composite is None:
        return scenes
    # A median is computed in double; float is what comes out of Xee anyway, at half the bytes.
    composite = getattr(scenes, query.composite)().toFloat()
    start_ms = int(pd.Timestamp(query.start).value // 10**6)
    return ee.ImageCollection([composite.set("system:time_start", start_ms)])


def _make_mask(query: Query) -> Any:
    def by_class(image: Any) -> Any:
        classes = image.select("SCL")
        clear = classes.neq(CLOUDY_CLASSES[0])
        for cloudy in CLOUDY_CLASSES[1:]:
            clear = clear.And(classes.neq(cloudy))
        return image.updateMask(clear)

    def by_score(image: Any) -> Any:
        return image.updateMask(image.select("cs").gte(CLEAR_SCORE))

    return by_class if query.cloud_mask == "scl" else by_score


def open_with_xee(query: Query) -> xr.Dataset:
    """Open a query with Xee: one lazy variable (time, y, x) per band."""
    images = image_collection(query)

    def request() -> xr.Dataset:
        return xr.open_dataset(
            images,
            engine="ee",
            crs=str(query.grid.crs),
            crs_transform=tuple(query.grid.affine[:6]),
            shape_2d=query.grid.shape.wh,
            io_chunks=-1,  # one request per chunk and band
            cache=False,
            getitem_kwargs={"max_retries": 0, "initial_delay": 1},
        )

    return with_retries(request, f"the bands {', '.join(query.bands)} of {query.collection}")
