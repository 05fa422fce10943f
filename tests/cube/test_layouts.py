"""Layouts: where the bands stand, what lies beside them, and what stands in front of them."""

import re
from itertools import product
from pathlib import Path

import dask
import geopandas as gpd
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import xr_terramind as xtm
from tests.support.cubes import (
    BANDS,
    QUICK,
    assert_same_embedding,
    counted,
    embed,
    radar,
    scene,
    sealed,
)
from xr_terramind.cli import app

# Tables of many kinds of input.
pytestmark = pytest.mark.wide

ESA = [f"B{band[1:]:0>2}" if band != "B8A" else band for band in BANDS]
EARTH_SEARCH = (
    "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 swir16 swir22".split()
)


def layer(value: float, dtype: str, **attrs: object) -> xr.DataArray:
    """A quality layer on the scene's grid; without nodata unless attrs declare it."""
    plain = scene().isel(band=0, drop=True)
    return xr.full_like(plain, value, dtype=dtype).assign_attrs(attrs)


def bands_apart(names: list[str] = BANDS) -> xr.Dataset:
    return scene().assign_coords(band=names).to_dataset("band")


def merged() -> xr.Dataset:
    """Files of one band each as rioxarray opens them, merged under their names."""
    files = [scene().sel(band=[name]).assign_coords(band=[1]).rename(name) for name in BANDS]
    return xr.merge(files, compat="no_conflicts", join="outer")


# Where the bands are, and what lies beside them --------------------------------------------------

QUALITY = {
    "a mask": {"cloud_mask": layer(0, "uint8")},
    "a scene classification": {"SCL": layer(4, "uint8", _FillValue=0)},
    "QA60": {"QA60": layer(0, "uint16")},
    "Level-2A layers": {
        "scl": layer(4, "uint8"),
        "aot": layer(0.1, "float32", _FillValue=-1.0),
        "wvp": layer(1.5, "float32"),
        "visual": layer(90, "uint8", nodata=0),
    },
    "probabilities": {"MSK_CLDPRB": layer(3, "uint8"), "MSK_SNWPRB": layer(0, "uint8")},
    "a data mask": {"dataMask": layer(1, "uint8")},
    "Cloud Score+": {"cs": layer(0.9, "float32"), "cs_cdf": layer(0.9, "float32")},
    "angles": {"viewZenithMean": layer(5.5, "float32"), "sunAzimuthAngles": layer(9, "float32")},
}


@pytest.mark.parametrize("beside", QUALITY.values(), ids=QUALITY)
@pytest.mark.parametrize("names", [BANDS, ESA, EARTH_SEARCH], ids=["Earth Engine", "ESA", "STAC"])
def test_quality_layers_beside_one_variable_per_band_are_left_out(beside, names):
    assert_same_embedding(embed(bands_apart(names).assign(beside)), embed(scene()))


@pytest.mark.parametrize("beside", QUALITY.values(), ids=QUALITY)
def test_quality_layers_beside_a_variable_with_all_bands_are_left_out(beside):
    assert_same_embedding(embed(scene().to_dataset(name="bands").assign(beside)), embed(scene()))


@pytest.mark.parametrize("beside", QUALITY.values(), ids=QUALITY)
def test_quality_layers_among_the_bands_are_left_out(beside):
    # stackstac and odc.stac(...).to_dataarray() stack all assets, whatever they are.
    stacked = bands_apart().assign(beside).to_dataarray("band")
    stacked.attrs["long_name"] = [*BANDS, *beside]
    found = embed(stacked)
    assert found.attrs["band_order"] == "named"
    np.testing.assert_allclose(found, embed(scene()), atol=1e-5)


def test_a_layer_that_nobody_knows_is_still_refused():
    dataset = bands_apart().assign(biomass=layer(3, "float32"))
    with pytest.raises(xtm.BandError, match=r"surplus bands biomass.*arrange\('S2L2A'\)"):
        embed(dataset)
    assert_same_embedding(embed(dataset.terramind.arrange("S2L2A")), embed(scene()))


@pytest.mark.parametrize("nodata", [{}, {"_FillValue": 0}, {"nodata": 255}], ids=str)
def test_what_a_mask_declares_says_nothing_of_the_bands(nodata):
    dataset = bands_apart().astype("int16").assign(SCL=layer(4, "uint8", **nodata))
    for name in BANDS:
        dataset[name].attrs["_FillValue"] = -9999
    holed = dataset.copy(deep=True)
    holed["B3"][:16, :16] = -9999
    found = embed(holed)
    assert found.valid_fraction.values.tolist() == [[0, 1], [1, 1]]
    assert_same_embedding(embed(dataset), embed(scene()))


def other_bands(names: list[str], dim: str = "band") -> xr.DataArray:
    other = scene().isel(band=[0] * len(names)).assign_coords(band=names)
    return other.rename(band=dim) + 1


STACKS = {
    "bands beside a mask of its own dims": lambda: scene().to_dataset(name="bands").assign(
        cloud_mask=layer(0, "uint8").expand_dims(kind=["thin", "thick"])
    ),
    "the other level beside it": lambda: scene().to_dataset(name="L2A").assign(
        L1C=other_bands([*BANDS[:10], "B10", *BANDS[10:]], "wavelength")
    ),
    "radar beside it": lambda: scene().to_dataset(name="optical").assign(
        radar=other_bands(["VV", "VH"], "polarization")
    ),
    "a picture beside it": lambda: scene().to_dataset(name="bands").assign(
        visual=other_bands(["red", "green", "blue"], "channel")
    ),
    "named as the modality": lambda: scene().to_dataset(name="S2L2A").assign(
        smoothed=other_bands(BANDS, "spectral")
    ),
    "bands apart beside a stack of others": lambda: bands_apart().assign(
        visual=other_bands(["red", "green", "blue"], "channel")
    ),
    "files merged": merged,
}  # fmt: skip


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("chunks", [None, {"x": 20}], ids=["eager", "lazy"])
def test_the_variables_whose_bands_fit_are_taken(make, chunks):
    dataset = make() if chunks is None else make().chunk(chunks)
    assert dataset.terramind.check().ok
    found = embed(dataset)
    assert (found.chunks is None) == (chunks is None)
    assert_same_embedding(found, embed(scene()))
    assert set(dataset.terramind.arrange().band.values) == set(BANDS)
    assert "12 bands of S2L2A" in repr(dataset.terramind)


def test_several_variables_that_fit_alike_have_to_be_chosen_from():
    dataset = scene().to_dataset(name="raw").assign(smoothed=other_bands(BANDS, "spectral"))
    with pytest.raises(xtm.BandError, match=r"'raw', 'smoothed'") as raised:
        embed(dataset)
    (remedy,) = re.findall(r"ds\['\w+'\]", str(raised.value))
    assert_same_embedding(embed(eval(remedy, {"ds": dataset})), embed(scene()))


@pytest.mark.parametrize("dim", ["polarization", "pol", "polarisation", "b"])
def test_a_dimension_whose_labels_are_bands_holds_bands(dim):
    found = embed(radar().rename(band=dim), modality="S1GRD")
    assert_same_embedding(found, embed(radar(), modality="S1GRD"))
    wavelengths = scene().assign_coords(band=EARTH_SEARCH).rename(band="wavelength")
    assert_same_embedding(embed(wavelengths), embed(scene()))


def test_a_band_without_dates_holds_for_all_of_them():
    cube = images({"time": 2}, 32)
    dataset = cube.to_dataset("band")
    dataset["B9"] = dataset["B9"].isel(time=0, drop=True)
    cube.loc[{"band": "B9"}] = cube.sel(band="B9").isel(time=0)
    assert_same_embedding(embed(dataset), embed(cube))


def test_radar_beside_its_angle_and_a_height_beside_its_masks():
    dataset = radar().to_dataset("band").assign(angle=radar().isel(band=0, drop=True) + 50)
    assert_same_embedding(embed(dataset, modality="S1GRD"), embed(radar(), modality="S1GRD"))
    height = layer(300, "float32")
    model = xr.Dataset({"DEM": height, "WBM": layer(0, "uint8"), "HEM": layer(0.5, "float32")})
    assert_same_embedding(embed(model, modality="DEM"), embed(height, modality="DEM"))


# Dimensions in front -----------------------------------------------------------------------------


def images(sizes: dict[str, int], edge_px: int = 40) -> xr.DataArray:
    """Different images in front of the bands; x, y and the last labels tell them apart."""
    shape = (*sizes.values(), len(BANDS), edge_px, edge_px)
    values = np.random.default_rng(3).integers(1, 5000, shape, dtype="int16")
    values[..., :16, :16] *= np.random.default_rng(4).integers(0, 2, (*sizes.values(), 1, 1, 1))
    cube = xr.DataArray(values, dims=(*sizes, "band", "y", "x"), coords={"band": BANDS})
    cube = cube.assign_coords(
        y=5_000_000 - 10.0 * np.arange(edge_px),
        x=500_000 + 10.0 * np.arange(edge_px),
        **{f"{dim}_name": (dim, [f"{dim} {i}" for i in range(n)]) for dim, n in sizes.items()},
    )
    if "time" in sizes:
        cube["time"] = (
            np.datetime64("2022-06-01", "ns") + np.arange(sizes["time"]) * 86_400_000_000_000
        )
    return cube.rio.write_crs(32632)


NAMES_IN_FRONT = st.sampled_from(["sample", "place", "time", "orbit", "member"])
IN_FRONT = st.lists(NAMES_IN_FRONT, min_size=1, max_size=3, unique=True)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_each_image_is_embedded_as_it_would_be_alone(data):
    sizes = {dim: data.draw(st.integers(1, 2), dim) for dim in data.draw(IN_FRONT)}
    cube = images(sizes)
    turned = cube.transpose(*data.draw(st.permutations(cube.dims)))
    if data.draw(st.booleans(), "lazy"):
        chunks = {dim: data.draw(st.integers(1, n), dim) for dim, n in sizes.items()}
        turned = turned.chunk({**chunks, "x": data.draw(st.sampled_from([7, 16, 40]))})
    output = data.draw(st.sampled_from(["grid", "windows", "pooled"]))
    options = {"fit": data.draw(st.sampled_from(["windows", "resize"]))}
    found = embed(turned, output=output, **options)
    order = [dim for dim in turned.dims if dim in sizes]
    assert found.dims[: len(order)] == tuple(order)
    expected = xtm.embed_array(cube.values, output, **QUICK, **options)
    found = found.compute().transpose(*sizes, ...)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    place = {dim: data.draw(st.integers(0, n - 1)) for dim, n in sizes.items()}
    one, alone = found.isel(place), embed(cube.isel(place), output=output, **options)
    assert set(one.coords) == set(alone.coords)
    for name in set(alone.coords) - {"spatial_ref"}:
        xr.testing.assert_allclose(one[name].variable, alone[name].variable)
    assert found.rio.crs == cube.rio.crs
    if output != "pooled":
        assert one.rio.transform() == alone.rio.transform()


@pytest.mark.parametrize(
    "sizes", [{}, {"a": 2}, {"a": 2, "b": 1}, {"a": 1, "b": 2, "c": 2}], ids=str
)
@pytest.mark.parametrize("output", ["pooled", "grid", "windows"])
def test_plain_arrays_have_any_axes_in_front(sizes, output):
    cube = images(sizes)
    found = xtm.embed_array(cube.values, output, **QUICK)
    assert found.shape[: len(sizes)] == tuple(sizes.values())
    for place in product(*map(range, sizes.values())):
        alone = xtm.embed_array(cube.values[place], output, **QUICK)
        np.testing.assert_allclose(found[place], alone, atol=1e-5)


def test_nothing_is_computed_and_each_chunk_is_read_once():
    cube = images({"sample": 3, "time": 4})
    chunks = {"sample": 2, "time": 3, "x": 25}
    for output in ("grid", "windows", "pooled"):
        assert embed(sealed(cube), output=output).chunks is not None
    lazy, reads = counted(cube, **chunks)
    with dask.config.set(scheduler="sync"):
        found = embed(lazy).compute()
    assert len(reads) == len(set(reads)) == 2 * 2 * 2
    np.testing.assert_allclose(found, embed(cube), atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "chunks", "expected"),
    [
        ({"sample": 6}, {"sample": 4}, ((4, 2),)),
        ({"sample": 2, "time": 3}, {"sample": 2, "time": 3}, ((2,), (3,))),
        ({"sample": 2, "time": 3}, {"sample": 1, "time": 2}, ((1, 1), (1, 1, 1))),
        ({"sample": 3, "time": 4}, {"sample": 1, "time": 2}, ((1, 1, 1), (2, 2))),
        ({"a": 1, "b": 5, "c": 2}, {"b": 2, "c": 2}, ((1,), (2, 2, 1), (2,))),
    ],
    ids=str,
)
def test_images_that_come_out_together_share_a_block(sizes, chunks, expected):
    # Of one window, so that few blocks are wanted; all chunks but the last are of one size.
    cube = images({**dict.fromkeys(sizes, 0), **sizes}, 32).chunk(chunks)
    from xr_terramind.blocks.plan import set_block_counts

    with set_block_counts(wanted_blocks=1, min_blocks=1, min_batch=100):
        found = embed(cube)
    assert found.chunks[: len(sizes)] == expected
    np.testing.assert_allclose(found.compute(), embed(cube.compute()), atol=1e-5)


def test_a_plan_counts_all_images():
    cube = images({"place": 2, "time": 3}).chunk(place=1)
    plan = cube.terramind.plan(**QUICK)
    assert plan.output_dims == ("place", "time", "feature", "y", "x")
    assert plan.output_shape == embed(cube).shape
    assert plan.windows == 2 * 3 * 4 and plan.patches == 2 * 3 * 9
    assert "place 2, time 3" in repr(plan)


def test_labels_of_the_images_are_kept():
    cube = images({"place": 2, "time": 3})
    cube = cube.assign_coords(
        place=["north", "south"],
        cloud=(("place", "time"), np.arange(6.0).reshape(2, 3)),
        tile="32U",
    )
    found = embed(cube)
    for name in ("place", "time", "cloud", "tile", "place_name"):
        xr.testing.assert_equal(found[name].variable, cube[name].variable)


def test_a_date_may_be_labelled_beside_its_dimension():
    cube = images({"t": 2})
    dates = np.array(["2022-06-01", "2022-06-03"], "datetime64[ns]")
    found = embed(cube.assign_coords(t=[0, 1], time=("t", dates)))
    assert found.dims[0] == "time"
    np.testing.assert_array_equal(found.time, dates)
    both = embed(images({"date": 2, "time": 2}))
    assert both.dims[:2] == ("date", "time")


# Dimensions that do not fit, and the remedy for each, as it is printed


def calls(message: str) -> list[str]:
    """The Python in a message, as far as brackets balance."""
    found = []
    for match in re.finditer(r"cube(?:\.rio|\.data_vars\['\w+'\])?\.(?=\w+\()", message):
        depth, end = 0, match.end()
        while end < len(message):
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(message[end], 0)
            end += 1
            if not depth and message[end - 1] == ")" and not re.match(r"\.\w", message[end:]):
                break
        found.append(message[match.start() : end])
    return found


MISFITS = {
    "rows and columns": lambda: scene().rename(y="row", x="col").drop_vars(["row", "col"]),
    "lines and pixels": lambda: scene().drop_vars(["y", "x"]).rename(y="lines", x="pixels"),
    "i and j": lambda: scene().rename(y="i", x="j").drop_vars(["i", "j"]),
    "columns alone": lambda: scene().rename(x="column"),
    "names of no meaning": lambda: scene().rename(y="a", x="b").drop_vars(["a", "b"]),
    "none at all": lambda: xr.DataArray(scene().values),
    "none, with images in front": lambda: xr.DataArray(images({"a": 2}, 32).values),
    "bands without labels": lambda: scene().rename(band="b").drop_vars("b"),
    "wavelengths in nm": lambda: scene().rename(band="wavelength").assign_coords(
        wavelength=np.arange(443, 455)
    ),
    "y twice, once alone": lambda: scene().expand_dims("lat"),
    "y twice": lambda: scene().expand_dims(lat=2),
    "bands twice, once alone": lambda: scene().expand_dims("channel"),
    "no columns": lambda: scene().isel(x=0),
    "a name of the result": lambda: scene().expand_dims(feature=2),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::xr_terramind.TerraMindWarning")
@pytest.mark.parametrize("make", MISFITS.values(), ids=MISFITS)
def test_what_a_message_says_of_dimensions_helps(make):
    cube = make()
    with pytest.raises(xtm.GridError, match="dimensions") as raised:
        embed(cube)
    assert not cube.terramind.check().ok
    (call,) = calls(str(raised.value))
    found = embed(eval(call, {"cube": cube}))
    last = found.isel({dim: -1 for dim in found.dims[:-3]})
    if "columns" not in call and last.shape == (192, 2, 2):
        image = cube.values.reshape(-1, *cube.shape[-3:])[-1]
        expected = xtm.embed_array(image, "grid", **QUICK)
        np.testing.assert_allclose(last, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:found an extent of:xr_terramind.TerraMindWarning")
@pytest.mark.parametrize("sizes", [{"sample": 2}, {"sample": 2, "time": 2}], ids=str)
@pytest.mark.parametrize("kind", ["array", "variable", "variable beside a mask", "variables"])
def test_images_in_front_are_resampled_as_a_message_says(sizes, kind):
    array = images(sizes, 32)
    array = array.assign_coords(
        x=500_000 + 20.0 * np.arange(32), y=5_000_000 - 20.0 * np.arange(32)
    )
    cube = {
        "array": lambda: array,
        "variable": lambda: array.to_dataset(name="bands"),
        "variable beside a mask": lambda: array.to_dataset(name="bands").assign(
            cloud_mask=array.isel(band=0, drop=True).astype("uint8")
        ),
        "variables": lambda: array.to_dataset("band"),
    }[kind]()
    (issue,) = [one for one in cube.terramind.check().issues if one.code == "pixel-size"]
    (call,) = calls(issue.message)
    fine = eval(call, {"cube": cube})
    assert "pixel-size" not in {one.code for one in fine.terramind.check().issues}
    found = embed(fine)
    assert found.shape == (np.prod([*sizes.values()]), 192, 4, 4)
    # Pixels of 20 m become four of 10 m.
    last = array.isel(dict.fromkeys(sizes, -1)).values.repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(found[-1], xtm.embed_array(last, "grid", **QUICK), atol=1e-5)


# Images that lie apart ---------------------------------------------------------------------------


def apart(epsg: tuple[int, int] = (32632, 32633)) -> xr.DataArray:
    """Two samples of two dates, each sample in its own place; of SSL4EO-S12's kind."""
    cube = images({"sample": 2, "time": 2}, 32).drop_vars(["time", "spatial_ref"])
    east, south = np.array([[0.0], [30_000.0]]), np.array([[0.0], [70_000.0]])
    return cube.assign_coords(
        x=(("sample", "x"), cube.x.values + east),
        y=(("sample", "y"), cube.y.values - south),
        crs=("sample", list(epsg)),
        center_lat=("sample", [45.1, 44.5]),
        time=(
            ("sample", "time"),
            np.arange(4).reshape(2, 2).astype("datetime64[D]").astype("M8[ns]"),
        ),
        sample=["ssl4eos12_0000001", "ssl4eos12_0000002"],
    )


def training(cube: xr.DataArray) -> xr.Dataset:
    """What SSL4EO-S12 and TerraMesh keep: bands beside a mask, all else as plain variables."""
    bare = cube.drop_vars(["crs", "center_lat"])
    return bare.to_dataset(name="bands").assign(
        cloud_mask=bare.isel(band=0, drop=True).astype("uint8"),
        file_id=("sample", ["0000001", "0000002"]),
        **{name: cube[name].variable for name in ("crs", "center_lat")},
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_training_samples_out_of_a_store(tmp_path, zarr_format):
    dataset = training(apart())
    texts = [name for name, one in dataset.variables.items() if one.dtype.kind == "U"]
    dataset = dataset.assign(
        {name: (dataset[name].dims, dataset[name].values.astype(object)) for name in texts}
    )
    dataset.to_zarr(tmp_path / "s.zarr", zarr_format=zarr_format, consolidated=False)
    with xr.open_zarr(tmp_path / "s.zarr", consolidated=False) as opened:
        found = embed(opened)
        assert found.chunks is not None
        for name in ("center_lat", "crs", "file_id"):
            np.testing.assert_array_equal(found[name].values, dataset[name].values)
        np.testing.assert_array_equal(found.x, embed(apart()).x)
        expected = xtm.embed_array(apart().values, "grid", **QUICK)
        np.testing.assert_allclose(found.compute(), expected, atol=1e-5)


@pytest.mark.parametrize("code", [32632, "EPSG:32632", "32632"])
def test_one_training_sample_knows_its_crs(code):
    one = training(apart()).isel(sample=0, time=0).assign(crs=code)
    found = embed(one)
    assert found.rio.crs.to_epsg() == 32632
    np.testing.assert_allclose(
        found, xtm.embed_array(apart().values[0, 0], "grid", **QUICK), atol=1e-5
    )


@pytest.mark.parametrize("output", ["grid", "windows", "pooled"])
@pytest.mark.parametrize("chunks", [None, {"sample": 1}], ids=str)
def test_images_that_lie_apart_keep_their_places(chunks, output):
    cube = apart() if chunks is None else apart().chunk(chunks)
    found = embed(cube, output=output)
    assert found.rio.crs is None  # there is none that holds for all
    for sample, date in product(range(2), range(2)):
        one = apart().isel(sample=sample, time=date)
        alone = embed(one.rio.write_crs(int(one.crs)), output=output)
        mine = found.isel(sample=sample, time=date)
        np.testing.assert_allclose(mine.values, alone.values, atol=1e-5)
        for name in set(alone.coords) - {"spatial_ref", "valid_fraction"}:
            np.testing.assert_array_equal(mine[name].values, alone[name].values)


def test_a_crs_that_all_images_have_is_claimed():
    found = embed(apart((32632, 32632)))
    assert found.rio.crs.to_epsg() == 32632
    assert found.x.dims == ("sample", "x")


def test_images_of_other_pixel_sizes_are_not_embedded_together():
    cube = apart()
    cube["x"] = cube.x * np.array([[1], [2]]) if cube.x.dims[0] == "sample" else cube.x
    with pytest.raises(xtm.GridError, match=r"from image to image.*cube\.isel"):
        embed(cube)


def points(xs: list[float], ys: list[float], **columns: list[str]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=gpd.points_from_xy(xs, ys, crs=32632))


MAPS = {
    "table": lambda one, path: one.terramind.to_geoparquet(path / "e.parquet"),
    "image": lambda one, path: one.isel(time=0).terramind.to_cog(path / "e.tif"),
    "points": lambda one, path: one.terramind.sample(points([500_100], [4_999_900])),
}


@pytest.mark.parametrize("draw", MAPS.values(), ids=MAPS)
def test_images_that_lie_apart_are_no_map_but_one_of_them_is(tmp_path, draw):
    embedding = embed(apart())
    with pytest.raises(xtm.GridError, match="lie apart") as raised:
        draw(embedding, tmp_path)
    names = {"embedding": embedding, "array": embedding}
    exec(str(raised.value).rpartition("Choose one: ")[2].rstrip("."), names)
    draw(names["one"], tmp_path)
    assert names["one"].rio.crs.to_epsg() == 32632


def test_places_and_dates_of_images_that_lie_apart_are_not_mixed_up():
    embedding = embed(apart())
    with pytest.raises(xtm.GridError, match="lie apart"):
        embedding.terramind.similarity(x=500_100, y=4_999_900)
    with pytest.raises(xtm.GridError, match="y for all images in other"):
        embedding.terramind.change(embedding.isel(sample=0))
    change = embedding.terramind.change(embedding.isel(time=0, drop=True))
    assert change.dims == ("sample", "time", "y", "x")
    assert np.nanmax(np.abs(change.isel(time=0))) < 1e-6


# What is made of them ----------------------------------------------------------------------------

FRONTS = [{"sample": 3}, {"place": 2, "time": 2}]


@pytest.mark.parametrize(
    "make", [lambda: images({"place": 2, "time": 2}), apart], ids=["map", "apart"]
)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("output", ["grid", "pooled"])
@pytest.mark.parametrize("chunks", [None, {}], ids=["eager", "lazy"])
def test_a_store_holds_all_of_it_and_is_resumed(tmp_path, make, dtype, output, chunks):
    embedding = embed(
        make() if chunks is None else make().chunk({make().dims[0]: 1}), output=output
    )
    stored = embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype=dtype)
    assert stored.dims == embedding.dims
    np.testing.assert_allclose(stored, embedding, atol=0.1 if dtype == "int8" else 0)
    for name in set(embedding.coords) - {"spatial_ref"}:
        np.testing.assert_array_equal(stored[name].values, embedding[name].values)
    again = embedding.terramind.to_zarr(tmp_path / "e.zarr", resume=True, dtype=dtype)
    xr.testing.assert_identical(again.load(), stored.load())


@pytest.mark.parametrize("sizes", FRONTS, ids=str)
def test_a_netcdf_holds_it(tmp_path, sizes):
    embedding = embed(images(sizes))
    embedding.to_netcdf(tmp_path / "e.nc")
    with xr.open_dataset(tmp_path / "e.nc", decode_coords="all") as read:
        np.testing.assert_array_equal(read["embedding"], embedding)
        assert read["embedding"].rio.crs == embedding.rio.crs


@pytest.mark.parametrize("sizes", FRONTS, ids=str)
@pytest.mark.parametrize("chunks", [None, 1], ids=["eager", "lazy"])
def test_a_table_has_a_column_for_each_dimension(tmp_path, sizes, chunks):
    cube = images(sizes)
    embedding = embed(cube if chunks is None else cube.chunk(dict.fromkeys(sizes, chunks)))
    embedding.terramind.to_geoparquet(tmp_path / "e.parquet")
    table = gpd.read_parquet(tmp_path / "e.parquet")
    loaded = embedding.compute()
    assert len(table) == int(np.isfinite(loaded.isel(feature=0)).sum())
    for row in table.sample(5, random_state=0).to_dict("records"):
        centre = row["geometry"].centroid
        place = {
            dim: int(np.flatnonzero(loaded[dim].values == np.array(row[dim], loaded[dim].dtype))[0])
            for dim in sizes
        }
        there = loaded.isel(place).sel(x=centre.x, y=centre.y, method="nearest", tolerance=81)
        np.testing.assert_array_equal(row["embedding"], there.values)


@pytest.mark.parametrize("sizes", FRONTS, ids=str)
def test_points_are_sampled_in_every_image(sizes):
    embedding = embed(images(sizes))
    inside = embedding.isel(y=1, x=1)
    x, y = float(inside.x), float(inside.y)
    table = embedding.terramind.sample(points([x], [y]))
    vectors = table.filter(like="feature_").to_numpy()
    np.testing.assert_array_equal(vectors, inside.values.reshape(-1, 192))
    for dim in sizes:
        expected = np.broadcast_to(
            embedding[dim].values.reshape([-1 if d == dim else 1 for d in sizes]), [*sizes.values()]
        )
        np.testing.assert_array_equal(table[dim], expected.ravel())


@pytest.mark.parametrize("sizes", FRONTS, ids=str)
def test_maps_of_many_images_are_those_of_each(sizes):
    embedding = embed(images(sizes))
    first = {dim: 0 for dim in sizes}
    x, y = float(embedding.x[1]), float(embedding.y[1])
    basis = embedding.terramind.rgb_basis()
    colours = embedding.terramind.to_rgb(basis=basis)
    assert colours.dims == (*sizes, "y", "x", "rgb")
    np.testing.assert_allclose(
        colours.isel(first), embedding.isel(first).terramind.to_rgb(basis=basis), atol=1e-6
    )
    alike = embedding.terramind.similarity(x=[x, x], y=[y, y - 160])
    assert set(sizes) < set(alike.dims) and alike.ndim == len(sizes) + 3
    alone = embedding.isel(first).terramind.similarity(x=x, y=y)
    np.testing.assert_allclose(alike[0].isel(first).values, alone, atol=1e-6)
    to_each = embedding.terramind.similarity(embedding.isel(x=1, y=1, drop=True))
    np.testing.assert_allclose(to_each.isel(first, drop=True), alone, atol=1e-6)
    change = embedding.terramind.change(embedding.isel(first, drop=True))
    assert change.dims == (*sizes, "y", "x") and np.nanmax(np.abs(change.isel(first))) < 1e-6
    labels = embedding.terramind.cluster(2)
    assert labels.dims == (*sizes, "y", "x") and set(np.unique(labels)) <= {-1, 0, 1}


def test_classes_hold_for_all_images():
    embedding = embed(images({"sample": 2, "time": 2}, 64))
    xs, ys = np.meshgrid(embedding.x.values, embedding.y.values)
    labelled = points(xs.ravel(), ys.ravel(), cover=["a", "b"] * 8)
    classes = embedding.terramind.classify(labelled, "cover")
    assert classes.label.dims == ("sample", "time", "y", "x")


@pytest.mark.parametrize("sizes", FRONTS, ids=str)
def test_an_image_says_which_ones_there_are_to_choose_from(tmp_path, sizes):
    embedding = embed(images(sizes))
    with pytest.raises(xtm.GridError, match="for a GeoTIFF") as raised:
        embedding.terramind.to_cog(tmp_path / "e.tif")
    (choice,) = re.findall(r"\.isel\(.*?\)", str(raised.value))
    chosen = eval(f"embedding{choice}", {"embedding": embedding})
    chosen.terramind.to_cog(tmp_path / "e.tif")
    chosen.expand_dims(list(sizes)).terramind.to_cog(tmp_path / "e.tif")
    from xr_terramind.cli.read import open_embedding

    with open_embedding(tmp_path / "e.tif") as read:
        np.testing.assert_array_equal(read.values, chosen.values)


@pytest.mark.parametrize("sizes", FRONTS, ids=str)
def test_the_command_line_embeds_and_draws_one_of_them(tmp_path, sizes):
    def run(*words: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*map(str, words)])
        assert done.exit_code == code, done.output
        return done.output + str(done.exception or "")

    images(sizes, 64).to_dataset(name="bands").to_netcdf(tmp_path / "cube.nc")
    store: Path = tmp_path / "e.zarr"
    quick = ["--model", "terramind_v1_tiny", "--weights", "random", "--window-size", "32"]
    assert "ready" in (said := run("check", tmp_path / "cube.nc")) or "warning" in said
    run("plan", tmp_path / "cube.nc", "--window-size", "32")
    run("embed", tmp_path / "cube.nc", store, *quick)
    run("info", store)
    picture = tmp_path / "e.png"
    said = " ".join(run("rgb", store, picture, code=1).split())
    words = re.findall(r"--(?:image|date) \S+", said)
    while words:
        chosen = [part.rstrip(".") for word in words for part in word.split()]
        done = CliRunner().invoke(app, ["rgb", str(store), str(picture), *chosen])
        if not done.exit_code:
            break
        more = re.findall(r"--(?:image|date) \S+", " ".join(done.output.split()))
        assert not set(more) <= set(words)
        words += more
    assert picture.exists()


def test_a_message_about_values_names_the_images_and_mends_them():
    cube = images({"sample": 3}, 64).astype("float32").assign_coords(sample=["a", "b", "c"])
    cube = cube.where(cube.sample != "b", cube / 100)  # percent
    issues = [issue for issue in cube.terramind.check().issues if "sample b" in issue.message]
    assert issues, cube.terramind.check()
    mended = [call for call in calls(issues[0].message) if "where" in call]
    fixed = eval(mended[0], {"cube": cube, "numpy": np, "xarray": xr, "np": np})
    assert not [issue for issue in fixed.terramind.check().issues if "sample b" in issue.message]
