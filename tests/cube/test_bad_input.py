"""Bad input in one table: the class of the error, and that it says found, expected and remedy."""

import warnings

import numpy as np
import pytest
import xarray as xr
from affine import Affine

import xr_terramind as xtm
from tests.support.cubes import BANDS, QUICK, embed, radar, scene, sealed

ROTATED = Affine(9.848, 1.736, 399_960, 1.736, -9.848, 5_000_000)  # 10 m, turned by 10 degrees


def spaced(values: np.ndarray) -> xr.DataArray:
    return scene().assign_coords(x=values)


def with_crs(wkt: str) -> xr.DataArray:
    cube = scene()
    cube.spatial_ref.attrs = {"crs_wkt": wkt, "spatial_ref": wkt}
    return cube


def with_unknown_chunks() -> xr.DataArray:
    data = sealed(scene()).data.map_blocks(lambda block: block, chunks=((12,), (32,), (np.nan,)))
    return xr.DataArray(data, dims=("band", "y", "x"), coords={"band": BANDS})


# Name -> (cube, options, class, found, expected, remedy).
BAD = {
    "no band dimension": (
        lambda: scene().isel(band=0),
        {},
        xtm.GridError,
        "dimensions ('y', 'x')",
        "one dimension each for band, y and x",
        "cube.expand_dims('band')",
    ),
    "no x": (
        lambda: scene().isel(x=0),
        {},
        xtm.GridError,
        "dimensions ('band', 'y')",
        "one dimension each for band, y and x",
        "cube.expand_dims('x', -1)",
    ),
    "unknown dimension": (
        lambda: scene().rename(x="column"),
        {},
        xtm.GridError,
        "'column'",
        "one dimension each for band, y and x",
        "cube.rename",
    ),
    "a dimension that the result has": (
        lambda: scene().expand_dims("feature"),
        {},
        xtm.GridError,
        "'feature'",
        "such as time",
        "cube.rename({'feature': 'feature_of_cube'})",
    ),
    "y twice": (
        lambda: scene().expand_dims("lat"),
        {},
        xtm.GridError,
        "'lat'",
        "one dimension each",
        "cube.squeeze(['lat'], drop=True)",
    ),
    "no pixel": (
        lambda: scene()[:, :, :0],
        {},
        xtm.GridError,
        "an empty cube of shape",
        "at least one pixel",
        "that left x empty",
    ),
    "no date": (
        lambda: scene(n_times=2)[:0],
        {},
        xtm.GridError,
        "an empty cube of shape",
        "at least one pixel, band and date",
        "that left time empty",
    ),
    "no band": (
        lambda: scene()[:0],
        {},
        xtm.TerraMindError,
        "band",
        "at least one pixel, band and date",
        "that left band empty",
    ),
    "uneven coordinate": (
        lambda: spaced(10.0 * np.arange(32) ** 2),
        {},
        xtm.GridError,
        "coordinate x that is unevenly spaced",
        "one step",
        "cube.rio.reproject",
    ),
    "text for coordinates": (
        lambda: spaced(np.arange(32).astype(str)),
        {},
        xtm.GridError,
        "a coordinate x of <U",
        "numbers",
        "cube.assign_coords(x=...)",
    ),
    "rotated transform": (
        lambda: scene().drop_vars(["x", "y"]).rio.write_transform(ROTATED),
        {},
        xtm.GridError,
        "a rotated transform",
        "rows and columns follow the axes",
        "cube.rio.reproject",
    ),
    "unreadable CRS": (
        lambda: with_crs("NOT A CRS"),
        {},
        xtm.GridError,
        "a CRS that cannot be read",
        "an EPSG code",
        "cube.rio.write_crs",
    ),
    "unknown chunks": (
        with_unknown_chunks,
        {},
        xtm.GridError,
        "chunk sizes are unknown",
        "known before anything is computed",
        "compute_chunk_sizes()",
    ),
    "missing bands": (
        lambda: scene().sel(band=["B2", "B3", "B4"]),
        {},
        xtm.BandError,
        "bands [B2, B3, B4], without B1, B5",
        "S2L2A needs B1, B2",
        "choose the modality that fits",
    ),
    "one band under two names": (
        lambda: scene().isel(band=[*range(12), 3]).assign_coords(band=[*BANDS, "red"]),
        {},
        xtm.BandError,
        "B4 as B4 and red",
        "each band once",
        "cube.isel(band=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])",
    ),
    "surplus band": (
        lambda: scene().isel(band=[*range(12), 0]).assign_coords(band=[*BANDS, "B13"]),
        {},
        xtm.BandError,
        "surplus bands B13",
        "S2L2A needs",
        "cube.terramind.arrange('S2L2A')",
    ),
    "B10 beside the twelve": (
        lambda: scene().isel(band=[*range(12), 0]).assign_coords(band=[*BANDS, "B10"]),
        {},
        xtm.BandError,
        "surplus bands B10",
        "S2L2A needs",
        "modality 'S2L1C'",
    ),
    "thirteen bands without names": (
        lambda: scene().isel(band=[*range(12), 0]).drop_vars("band"),
        {},
        xtm.BandError,
        "13 bands without names",
        "the 12 of S2L2A",
        "cube.assign_coords(band=[...])",
    ),
    "another modality": (
        lambda: scene(),
        {"modality": "S1GRD"},
        xtm.BandError,
        "without VV, VH",
        "S1GRD needs VV, VH",
        "choose the modality",
    ),
    "unknown modality": (
        lambda: scene(),
        {"modality": "S2L3A"},
        xtm.BandError,
        "modality='S2L3A'",
        "one of S2L2A",
        "Did you mean",
    ),
    "text for pixels": (
        lambda: scene().astype(str),
        {},
        xtm.ValueRangeError,
        "values of dtype <U",
        "integers or floats",
        "cube.astype('float32')",
    ),
    "booleans": (
        lambda: scene() > 500,
        {},
        xtm.ValueRangeError,
        "values of dtype bool",
        "integers or floats",
        "cube.astype('float32')",
    ),
    "complex numbers": (
        lambda: scene().astype("complex64"),
        {},
        xtm.ValueRangeError,
        "values of dtype complex64",
        "integers or floats",
        "cube.astype('float32')",
    ),
    "objects": (
        lambda: scene().astype(object),
        {},
        xtm.ValueRangeError,
        "values of dtype object",
        "integers or floats",
        "cube.astype('float32')",
    ),
    "dates for pixels": (
        lambda: scene().astype("datetime64[ns]"),
        {},
        xtm.ValueRangeError,
        "values of dtype datetime64",
        "integers or floats",
        "cube.astype('float32')",
    ),
    "unknown model": (
        lambda: scene(),
        {"model": "terramind_v2_small"},
        xtm.EngineError,
        "model='terramind_v2_small'",
        "one of terramind_v1_tiny",
        "Did you mean 'terramind_v1_small'",
    ),
    "model without the modality": (
        lambda: radar(),
        {"model": "terramind_v01_base", "modality": "S1GRD"},
        xtm.EngineError,
        "model='terramind_v01_base' with modality='S1GRD'",
        "S2L2A",
        "Use a terramind_v1 model",
    ),
    "layer out of range": (
        lambda: scene(),
        {"layer": 12},
        xtm.EngineError,
        "layer=12",
        "-12 to 11",
        "-1 is the last layer",
    ),
    "device that is not there": (
        lambda: scene(),
        {"device": "cuda:99"},
        xtm.EngineError,
        "device='cuda:99'",
        "a device that torch can see",
        "device='auto'",
    ),
    "window that cuts patches": (
        lambda: scene(),
        {"window_size": 100},
        xtm.GridError,
        "window_size=100",
        "multiple of 16",
        "224",
    ),
    "overlap that cuts patches": (
        lambda: scene(),
        {"overlap": 16},
        xtm.GridError,
        "overlap=16",
        "multiple of 32",
        "0, 32 and 64",
    ),
    "clip upside down": (
        lambda: scene(),
        {"clip": (1, 0)},
        xtm.EngineError,
        "clip=(1, 0)",
        "low < high",
        "(0, 10000)",
    ),
    "weights nowhere": (
        lambda: scene(),
        {"weights": "nowhere.pt"},
        xtm.WeightsError,
        "weights='nowhere.pt', where there is no file",
        "'pretrained', 'random', or the path",
        "Check the path",
    ),
    "unknown option": (
        lambda: scene(),
        {"windowsize": 224},
        xtm.EngineError,
        "the unknown option 'windowsize'",
        "one of output, model",
        "Did you mean 'window_size'",
    ),
}


@pytest.mark.filterwarnings("ignore::xr_terramind.TerraMindWarning")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_any_chunk_is_computed(name):
    make, options, kind, found, expected, remedy = BAD[name]
    cube = make()
    cube = cube if cube.chunks is not None else sealed(cube)
    with pytest.raises(kind) as raised:
        embed(cube, **options)
    message = str(raised.value)
    head, _, tail = message.partition("; expected ")
    assert head.startswith("found ") and found in head
    assert expected in tail and remedy in tail
    assert isinstance(raised.value, ValueError | RuntimeError)


@pytest.mark.filterwarnings("ignore::xr_terramind.TerraMindWarning")
@pytest.mark.parametrize("name", BAD)
def test_plan_refuses_the_same(name):
    make, options, kind, *_ = BAD[name]
    if kind is xtm.WeightsError or "device" in options:
        return  # a plan needs neither weights nor device
    with pytest.raises(kind):
        make().terramind.plan(**{**QUICK, **options})


@pytest.mark.parametrize(
    "dataset",
    [xr.Dataset(), xr.Dataset({"mean": ("time", [1.0])}), xr.Dataset({"table": ("y", [1.0])})],
    ids=["empty", "no image", "no x"],
)
def test_a_dataset_without_images_is_refused(dataset):
    for attempt in (embed, lambda ds: ds.terramind.arrange(), lambda ds: ds.terramind.bands):
        with pytest.raises(xtm.BandError, match="found a Dataset with variables"):
            attempt(dataset)
    assert [issue.severity for issue in dataset.terramind.check().issues] == ["error"]


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (np.zeros((32, 32)), "shape (32, 32)"),
        (np.zeros((11, 32, 32)), "shape (11, 32, 32)"),
        (np.zeros((32, 32, 12)), "shape (32, 32, 12)"),
        (np.zeros((1, 1, 32, 32, 12)), "shape (1, 1, 32, 32, 12)"),
        (np.float32(3), "shape ()"),
        ([[1, 2], [3, 4]], "shape (2, 2)"),
    ],
    ids=["2-D", "11 bands", "bands last", "5-D bands last", "number", "lists"],
)
def test_a_plain_array_of_another_shape_is_refused(array, part):
    with pytest.raises(xtm.BandError, match=r"expected \(band, y, x\)") as raised:
        xtm.embed_array(array, **QUICK)
    assert part in str(raised.value)
    assert "axis -3" in str(raised.value)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((12, 0, 32)), xtm.GridError),
        (np.zeros((0, 12, 32, 32)), xtm.GridError),
        (np.zeros((12, 32, 32), bool), xtm.ValueRangeError),
        (np.zeros((12, 32, 32), complex), xtm.ValueRangeError),
        (np.random.default_rng(0).random((12, 32, 32)), xtm.ValueRangeError),
    ],
    ids=["no row", "no image", "booleans", "complex", "0-1 reflectance"],
)
def test_plain_values_are_checked_as_those_of_a_cube(array, kind):
    with pytest.raises(kind, match=r"^found .*; expected "):
        xtm.embed_array(array, **QUICK)


def test_good_input_brings_neither_error_nor_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Use `@` matmul", PendingDeprecationWarning)
        assert np.isfinite(embed(scene())).all()
        assert np.isfinite(embed(scene().chunk(x=16)).compute()).all()
        assert np.isfinite(xtm.embed_array(scene().values, **QUICK)).all()
