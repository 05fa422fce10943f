"""Sources: the tile as each tool opens it embeds to the same numbers at the same place."""

import datetime as dt
import re
import warnings
from functools import cache
from pathlib import Path

import ee
import numpy as np
import odc.stac
import pandas as pd
import pystac
import pytest
import rasterio
import rioxarray
import xarray as xr
from pyproj import Transformer
from rasterio.vrt import WarpedVRT

import xr_terramind as xtm
from tests.support.cubes import assert_same_embedding, embed
from tests.support.earth_engine import S2_SR, expected_pixels, select_scenes
from tests.support.tiles import (
    BANDS,
    EARTH_SEARCH,
    RESOLUTION_M,
    esa_name,
    tile,
    transform,
    write_files,
    write_safe,
    write_vrt,
)

PIECES = {"x": 40, "y": 40}
# What odc asks of GDAL and shapely; nothing of it concerns the cube.
odc_warns = pytest.mark.filterwarnings(
    "ignore:Dataset has no geotransform:rasterio.errors.NotGeoreferencedWarning",
    "ignore:The 'shapely.ops.transform:DeprecationWarning",
)


@cache
def expected(date: int = 0) -> xr.DataArray:
    return embed(tile(date))


def assert_embeds(cube: xr.DataArray | xr.Dataset, *dates: int) -> xr.DataArray:
    """The cube is recognised without a warning, and its embedding is the tile's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", xtm.TerraMindWarning)
        found = embed(cube)
        computed = found.compute()
    assert found.attrs["band_order"] == "named"
    assert found.rio.crs == tile().rio.crs
    assert found.rio.transform().almost_equals(expected().rio.transform(), 1e-6)
    for number, date in enumerate(dates):
        assert_same_embedding(computed.isel(time=number), expected(date))
    if not dates:
        assert found.dims == ("feature", "y", "x")
        assert_same_embedding(computed, expected())
    return found


# rioxarray


@pytest.fixture
def geotiff(tmp_path) -> Path:
    """Twelve bands in one file, each with its description."""
    cube = tile().drop_vars("band")
    cube.attrs["long_name"] = BANDS  # written as descriptions
    cube.rio.to_raster(tmp_path / "s2.tif")
    return tmp_path / "s2.tif"


@pytest.mark.parametrize("chunks", [None, PIECES, {"band": 1}], ids=str)
def test_a_geotiff_with_described_bands(geotiff, chunks):
    with rioxarray.open_rasterio(geotiff, chunks=chunks) as cube:
        assert (assert_embeds(cube).chunks is None) == (chunks is None)


def test_a_geotiff_through_the_engine_rasterio(geotiff):
    with xr.open_dataset(geotiff, engine="rasterio", chunks={}) as cube:
        assert_embeds(cube)


def test_a_geotiff_with_a_variable_for_each_band(geotiff):
    with rioxarray.open_rasterio(geotiff, band_as_variable=True) as cube:
        assert cube.band_1.attrs["long_name"] == "B1"
        assert_embeds(cube)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("nodata", [0, 65535])
def test_a_geotiff_with_nodata(tmp_path, nodata, masked):
    holed = tile().copy(deep=True)
    holed[:, :24, :16] = nodata
    cube = holed.drop_vars("band").rio.write_nodata(nodata)
    cube.attrs["long_name"] = BANDS
    cube.rio.to_raster(tmp_path / "s2.tif")
    with rioxarray.open_rasterio(tmp_path / "s2.tif", masked=masked, chunks=PIECES) as opened:
        found = embed(opened)
    missing = tile().astype("float32")
    missing[:, :24, :16] = np.nan
    assert found.valid_fraction[:3, 0].values.tolist() == [0, 0.5, 1]
    assert_same_embedding(found, embed(missing))


def test_files_of_single_bands_stacked(tmp_path):
    files = write_files(tmp_path)
    bands = [rioxarray.open_rasterio(path).squeeze("band", drop=True) for path in files.values()]
    at_10_m = [band.rio.reproject_match(bands[1]) for band in bands]
    assert_embeds(xr.concat(at_10_m, pd.Index(files, name="band")))


def test_a_vrt_names_no_band_so_that_its_reader_does(tmp_path):
    write_vrt(tmp_path / "s2.vrt", write_files(tmp_path))
    with rioxarray.open_rasterio(tmp_path / "s2.vrt", chunks=PIECES) as cube:
        with pytest.warns(xtm.TerraMindWarning, match="without names"):
            assert embed(cube).attrs["band_order"] == "assumed"
        assert_embeds(cube.assign_coords(band=list(EARTH_SEARCH.values())))


# odc-stac


def item(folder: Path, date: int = 0) -> pystac.Item:
    """An item as Earth Search v1 describes it: assets of 10, 20 and 60 m, and others beside."""
    west, north = transform() @ (0, 0)
    degrees = Transformer.from_crs(tile().rio.crs, 4326, always_xy=True)
    box = degrees.transform_bounds(west, north - 960, west + 960, north)
    corners = [[box[i], box[j]] for i, j in ((0, 1), (2, 1), (2, 3), (0, 3), (0, 1))]
    day = tile(date).time.dt.strftime("%Y%m%d").item()
    described = pystac.Item(
        f"S2A_32VMH_{day}_0_L2A",
        geometry={"type": "Polygon", "coordinates": [corners]},
        bbox=list(box),
        datetime=dt.datetime.strptime(day, "%Y%m%d").replace(hour=10, tzinfo=dt.UTC),
        properties={
            "proj:code": tile().rio.crs.to_string(),
            "earthsearch:boa_offset_applied": True,
        },
        stac_extensions=[
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ],
    )
    files = write_files(folder / day, date)
    edges_m = {EARTH_SEARCH[band]: edge_m for band, edge_m in RESOLUTION_M.items()}
    for key, path in {**files, "aot": files["rededge1"]}.items():
        edge_m = edges_m.get(key, 20)
        raster = {"nodata": 0, "data_type": "uint16", "spatial_resolution": edge_m}
        details = {
            "proj:shape": [960 // edge_m] * 2,
            "proj:transform": list(transform(edge_m))[:6],
            "raster:bands": [{**raster, "scale": 0.0001, "offset": 0}],
        }
        cog = "image/tiff; application=geotiff; profile=cloud-optimized"
        asset = pystac.Asset(str(path), media_type=cog, roles=["data"], extra_fields=details)
        described.add_asset(key, asset)
    return described


@odc_warns
@pytest.mark.parametrize("chunks", [None, {}, PIECES], ids=str)
def test_odc_stac(tmp_path, chunks):
    bands = list(EARTH_SEARCH.values())
    cube = odc.stac.load([item(tmp_path)], bands=bands, resolution=10, chunks=chunks)
    assert set(cube.data_vars) == set(bands)
    assert (assert_embeds(cube, 0).chunks is None) == (chunks is None)


# stackstac


def stacked(folder: Path, **options: object) -> xr.DataArray:
    # It asks for pandas 2, and so does not stand in the lock: install it to run these.
    stackstac = pytest.importorskip("stackstac")
    items = [item(folder / str(date), date).to_dict() for date in (0, 1)]
    place = {"epsg": 32632, "resolution": 10, "bounds": tile().rio.bounds()}
    assets = list(EARTH_SEARCH.values())
    return stackstac.stack(items, assets=assets, **place, **options)


@pytest.mark.parametrize("how", ["digital numbers", "reflectance, multiplied"])
def test_stackstac(tmp_path, how):
    numbers = {"rescale": False, "dtype": "float64"} if how == "digital numbers" else {}
    cube = stacked(tmp_path, xy_coords="center", **numbers)
    cube = cube if numbers else cube * 10000
    found = embed(cube)
    for date in (0, 1):
        assert_same_embedding(found.isel(time=date), embed(tile(date)))
    assert found.rio.crs == tile().rio.crs
    assert_written_back(found, tmp_path)


def assert_written_back(embedding: xr.DataArray, folder: Path) -> None:
    stored = embedding.terramind.to_zarr(folder / "e.zarr")
    np.testing.assert_array_equal(stored, embedding)
    embedding.to_netcdf(folder / "e.nc")


def test_stackstac_as_it_comes_names_corners_and_is_reflectance(tmp_path):
    cube = stacked(tmp_path)
    report = cube.terramind.check()
    told = {issue.code: issue for issue in report.issues}
    assert "half a pixel off" in told["place-differs"].message
    assert told["reflectance-0-1"].fix.scale == 10000
    moved = cube.assign_coords(x=cube.x + 5, y=cube.y - 5) * 10000
    assert_same_embedding(embed(moved).isel(time=0), embed(tile()))


@odc_warns
def test_odc_stac_with_two_dates(tmp_path):
    items = [item(tmp_path, date) for date in (0, 1)]
    bands = list(EARTH_SEARCH.values())
    cube = odc.stac.load(items, bands=bands, resolution=10, chunks={}, groupby="solar_day")
    found = assert_embeds(cube, 0, 1)
    np.testing.assert_array_equal(found.time, cube.time)


@odc_warns
def test_odc_stac_with_layers_that_are_no_bands(tmp_path):
    cube = odc.stac.load([item(tmp_path)], resolution=10, chunks={})
    assert "aot" in cube
    assert_embeds(cube, 0)
    stacked = cube.to_dataarray("band")
    assert_embeds(stacked, 0)
    assert_embeds(stacked.terramind.arrange("S2L2A"), 0)


# Zarr and NetCDF, opened with xarray alone


def as_array() -> xr.DataArray:
    return tile()


def as_dataset() -> xr.Dataset:
    return tile().to_dataset("band")


@pytest.mark.parametrize("decode", [True, "all"])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("form", [as_array, as_dataset])
def test_zarr(tmp_path, form, consolidated, decode):
    form().chunk(PIECES).to_zarr(tmp_path / "s2.zarr", consolidated=consolidated)
    store = {"consolidated": consolidated, "decode_coords": decode}
    with xr.open_zarr(tmp_path / "s2.zarr", **store) as cube:
        # Without "all" xarray leaves the grid mapping among the data variables.
        assert ("spatial_ref" in cube.coords) == (decode == "all")
        assert assert_embeds(cube).chunks is not None


def test_zarr_array_with_its_coordinates_decoded(tmp_path):
    tile().to_zarr(tmp_path / "s2.zarr", consolidated=False)
    store = {"consolidated": False, "decode_coords": "all"}
    with xr.open_zarr(tmp_path / "s2.zarr", **store) as opened:
        assert_embeds(opened["sentinel2"])


@pytest.fixture
def array_without_crs(tmp_path):
    """The array taken out of a Dataset, in which its grid mapping stays behind."""
    tile().to_zarr(tmp_path / "s2.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "s2.zarr", consolidated=False) as opened:
        yield opened["sentinel2"]


def test_an_array_that_lost_its_crs_says_so_and_keeps_its_coordinates(array_without_crs):
    report = array_without_crs.terramind.check()
    assert "no-crs" in {issue.code for issue in report.issues}
    with pytest.warns(xtm.TerraMindWarning, match=r"no CRS.*write_crs"):
        found = embed(array_without_crs)
    assert found.rio.crs is None
    assert_same_embedding(found, expected())


def test_an_array_that_lost_its_crs_hears_how_to_open_it(array_without_crs):
    assert array_without_crs.attrs["grid_mapping"] == "spatial_ref"
    with pytest.warns(xtm.TerraMindWarning, match=r"no CRS.*decode_coords"):
        embed(array_without_crs)


@pytest.mark.parametrize("decode", [True, "all"])
@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
@pytest.mark.parametrize("form", [as_array, as_dataset])
def test_netcdf(tmp_path, form, engine, decode):
    form().to_netcdf(tmp_path / "s2.nc", engine=engine)
    with xr.open_dataset(tmp_path / "s2.nc", engine=engine, decode_coords=decode) as cube:
        assert_embeds(cube)


@pytest.mark.parametrize("name", ["sentinel2", None])
def test_netcdf_over_dates(tmp_path, name):
    for date in (1, 0):
        cube = tile(date).expand_dims("time")
        cube = cube.to_dataset(name=name) if name else cube.to_dataset("band")
        cube.to_netcdf(tmp_path / f"s2_{date}.nc")
    files = str(tmp_path / "s2_*.nc")
    with xr.open_mfdataset(files, decode_coords="all") as cube:
        found = assert_embeds(cube, 0, 1)
        assert found.chunks is not None
        np.testing.assert_array_equal(found.time, [tile(date).time.values for date in (0, 1)])
        if name:
            assert_embeds(cube[name], 0, 1)


# SAFE folders


def read_safe(folder: Path) -> xr.DataArray:
    """Open the 12 bands of a Sentinel-2 L2A SAFE folder at 10 m, lazily."""
    files = {}
    for metres in (60, 20, 10):  # the finest file of a band comes last, and stays
        for path in folder.glob(f"GRANULE/*/IMG_DATA/R{metres}m/*_B*_{metres}m.jp2"):
            files[path.stem.split("_")[-2]] = path
    with rasterio.open(files["B02"]) as blue:
        grid = {name: blue.profile[name] for name in ("crs", "transform", "width", "height")}
    bands = []
    for path in files.values():
        with rasterio.open(path) as file, WarpedVRT(file, **grid) as at_10_m:
            band = rioxarray.open_rasterio(at_10_m, chunks={"x": 2048, "y": 2048})
            bands.append(band.squeeze("band", drop=True))
    cube = xr.concat(bands, pd.Index(files, name="band"))
    # From processing baseline 04.00 on, 1000 has been added to what was measured; 0 is no data.
    offset = re.search(r"<BOA_ADD_OFFSET .*?>(-?\d+)<", (folder / "MTD_MSIL2A.xml").read_text())
    return cube.where(cube > 0) + int(offset[1]) if offset else cube


@pytest.mark.parametrize("offset", [0, -1000])
def test_safe_folder(tmp_path, offset):
    cube = read_safe(write_safe(tmp_path, offset))
    assert sorted(cube.band.values) == sorted(map(esa_name, BANDS))
    assert cube.rio.transform().almost_equals(transform())
    assert assert_embeds(cube).chunks is not None


# Xee


@pytest.fixture
def scene_of_earth_engine(earth_engine):
    """One scene of Shanghai as Xee opens it, and the same pixels without Xee."""
    grid = {"crs": "EPSG:32651", "crs_transform": (10, 0, 356_800, 0, -10, 3_452_950)}
    centre, dates = (121.5, 31.2), ("2022-06-07", "2022-06-08")
    images = (
        ee.ImageCollection(S2_SR)
        .filterDate(*dates)
        .filterBounds(ee.Geometry.Point(centre))
        .select(list(BANDS))
    )
    x, y = 356_805 + 10.0 * np.arange(64), 3_452_945 - 10.0 * np.arange(48)
    (known,) = select_scenes(*centre, *dates, S2_SR)
    pixels = np.stack([expected_pixels(known, band, x, y, grid["crs"]) for band in BANDS])
    plain = xr.DataArray(pixels, dims=("band", "y", "x"), coords={"band": list(BANDS)})
    plain = plain.assign_coords(y=y, x=x).rio.write_crs(grid["crs"])
    opened = {"engine": "ee", "shape_2d": (64, 48), **grid}
    return images, opened, plain


@pytest.mark.parametrize("chunks", [None, {}], ids=str)
@pytest.mark.parametrize("order", [("time", "y", "x"), ("time", "x", "y")], ids=" ".join)
def test_xee(scene_of_earth_engine, order, chunks):
    images, options, plain = scene_of_earth_engine
    with xr.open_dataset(images, chunks=chunks, **options) as cube:
        assert set(cube.data_vars) == set(BANDS)
        found = embed(cube.transpose(*order))  # x came first up to Xee 0.0.x
        assert (found.chunks is None) == (chunks is None)
        assert found.dims == ("time", "feature", "y", "x")
        np.testing.assert_array_equal(found.time, cube.time)
        reference = embed(plain)
        assert_same_embedding(found.isel(time=0), reference)
    assert found.rio.crs == plain.rio.crs
    assert found.rio.transform().almost_equals(reference.rio.transform(), 1e-6)
