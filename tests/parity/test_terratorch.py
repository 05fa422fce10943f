"""Equal to TerraTorch: names, shapes, statistics, hub files, and numbers on every CPU engine."""

import gc
from pathlib import Path

import numpy as np
import pytest
import rioxarray
import torch
import xarray as xr

import xr_terramind as xtm
from tests.support.cubes import noise_image
from tests.support.requests import make_key
from tests.support.terratorch import TOLERANCE, build, difference, reference, save_model
from xr_terramind.inference import loaded
from xr_terramind.inference.loaded import engine_for
from xr_terramind.model.encoder import TerraMindEncoder
from xr_terramind.model.load import load_encoder
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.specs import MODELS
from xr_terramind.model.weights import locate

pytestmark = pytest.mark.filterwarnings("ignore")  # TerraTorch's own, as it builds models

TINY = "terramind_v1_tiny"
CHIP = "38D_378R_2_3.tif"
FOLDER = {"RGB": "S2RGB", "S1GRD": "S1RTC"}  # no GRD chip: RTC is backscatter in dB as well


@pytest.fixture(scope="module", autouse=True)
def _free_models():
    yield
    loaded._load_engine.cache_clear()


def chip(examples, modality: str) -> xr.DataArray:
    return rioxarray.open_rasterio(examples / FOLDER.get(modality, modality) / CHIP)


def assert_theirs(cube: xr.DataArray, expected: np.ndarray, **options: object) -> None:
    """Both engines give TerraTorch's numbers."""
    for engine in ("torch", "openvino"):
        found = cube.terramind.embed(engine=engine, **options).compute()
        assert found.attrs["engine"] == engine
        assert difference(found, expected) < TOLERANCE, engine


@pytest.fixture(scope="module")
def tiny(registry, tmp_path_factory):
    """TerraTorch's tiny model, and the file of its weights."""
    model = build(registry, TINY)
    return model, save_model(model, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=list(MODELS))
def shapes_of_all_modalities(request, registry):
    """One model of each size with all six modalities; only its names and shapes are kept."""
    model = registry.build(request.param, modalities=list(MODALITIES))
    return request.param, {name: value.shape for name, value in model.state_dict().items()}


@pytest.mark.parametrize("modality", list(MODALITIES))
def test_state_dict_names_and_shapes(shapes_of_all_modalities, modality):
    key, shapes = shapes_of_all_modalities
    mode = MODALITIES[modality]
    with torch.device("meta"):
        ours = TerraMindEncoder(MODELS[key], mode.embedding, len(mode.bands)).state_dict()
    others = [m.embedding for m in MODALITIES.values() if m is not mode]
    expected = {
        name: shape
        for name, shape in shapes.items()
        if not any(name.startswith(f"encoder_embeddings.{other}.") for other in others)
    }
    assert {name: value.shape for name, value in ours.items()} == expected


@pytest.mark.parametrize("modality", list(MODALITIES))
def test_parameters_are_counted_right(shapes_of_all_modalities, modality):
    key, shapes = shapes_of_all_modalities
    mode = MODALITIES[modality]
    wanted = (f"encoder_embeddings.{mode.embedding}.", "encoder.", "encoder_norm.weight")
    buffers = ("pos_emb", "norm1.bias", "norm2.bias")
    learned = [
        shape.numel()
        for name, shape in shapes.items()
        if name.startswith(wanted) and not name.endswith(buffers)
    ]
    assert MODELS[key].parameters(len(mode.bands)) == sum(learned)


def test_statistics_bands_and_hub_files(registry):
    from terratorch.models.backbones.terramind.model import terramind_register as register

    theirs = {
        "v1": (register.v1_pretraining_mean, register.v1_pretraining_std),
        "v01": (register.v01_pretraining_mean, register.v01_pretraining_std),
    }
    for modality in MODALITIES.values():
        assert list(modality.bands_terramind) == register.PRETRAINED_BANDS[modality.embedding]
        for version, (mean, std) in theirs.items():
            expected = (mean.get(modality.embedding), std.get(modality.embedding))
            if expected == (None, None):
                assert version not in modality.statistics
            else:
                assert [list(numbers) for numbers in modality.statistics[version]] == [*expected]
    for key, spec in MODELS.items():
        files = register.pretrained_weights[key]
        assert (spec.hub_id, spec.hub_file) == (files["hf_hub_id"], files["hf_hub_filename"])


@pytest.fixture(
    scope="module",
    params=[pytest.param(key, marks=pytest.mark.slow if "large" in key else ()) for key in MODELS],
)
def every_model(request, registry, tmp_path_factory):
    """A model of TerraTorch's, one after the other, and the file of its weights."""
    gc.collect()  # modules stand in circles, and the largest has 1.2 GB
    model = build(registry, request.param)
    weights = save_model(model, tmp_path_factory.mktemp("weights"))
    yield request.param, model, weights
    Path(weights).unlink()


def test_every_model(every_model, own_cache):
    key, model, weights = every_model
    cube = xtm.sample_scene(size_px=224, seed=3)
    expected = reference(model, cube.values[None], key, "S2L2A")[0]
    assert_theirs(cube, expected, model=key, weights=weights)


def test_every_model_on_a_real_chip(every_model, examples, own_cache):
    key, model, weights = every_model
    cube = chip(examples, "S2L2A")
    found = cube.terramind.embed(model=key, weights=weights)
    expected = reference(model, cube.values[None], key, "S2L2A")[0]
    assert difference(found, expected) < TOLERANCE


@pytest.mark.parametrize(
    "chip_name", ["282D_485L_3_3.tif", "38D_378R_2_3.tif", "433D_629L_3_1.tif"]
)
def test_every_chip(registry, examples, tmp_path, chip_name):
    model = build(registry, "terramind_v1_small")
    cube = rioxarray.open_rasterio(examples / "S2L2A" / chip_name, chunks={"x": 100, "y": 64})
    embedding = cube.terramind.embed(weights=save_model(model, tmp_path)).compute()
    expected = reference(model, cube.values[None], "terramind_v1_small", "S2L2A")[0]
    assert difference(embedding, expected) < TOLERANCE


@pytest.mark.parametrize("modality", list(MODALITIES))
def test_every_modality(registry, tmp_path, own_cache, modality):
    model = build(registry, TINY, modality)
    cube = noise_image(modality, 224, 224)
    expected = reference(model, cube.values[None], TINY, modality)[0]
    weights = save_model(model, tmp_path)
    assert_theirs(cube, expected, model=TINY, modality=modality, weights=weights)


@pytest.mark.parametrize("modality", list(MODALITIES))
def test_every_modality_on_a_real_chip(registry, examples, tmp_path, modality):
    model = build(registry, TINY, modality)
    cube = chip(examples, modality)
    weights = save_model(model, tmp_path)
    embedding = cube.terramind.embed(model=TINY, modality=modality, weights=weights)
    expected = reference(model, cube.values[None], TINY, modality)[0]
    assert difference(embedding, expected) < TOLERANCE


@pytest.mark.parametrize("layer", [0, 5, 11, -12, -2])
def test_every_layer_is_theirs(tiny, layer):
    model, weights = tiny
    cube = noise_image("S2L2A", 224, 224)
    expected = reference(model, cube.values[None], TINY, "S2L2A", layer)[0]
    assert_theirs(cube, expected, model=TINY, weights=weights, layer=layer)


@pytest.mark.parametrize("layer", [0, 5, 11, -12, -2])
def test_every_layer_is_theirs_on_a_real_chip(tiny, examples, layer):
    model, weights = tiny
    cube = chip(examples, "S2L2A")
    embedding = cube.terramind.embed(model=TINY, layer=layer, weights=weights)
    expected = reference(model, cube.values[None], TINY, "S2L2A", layer)[0]
    assert difference(embedding, expected) < TOLERANCE


@pytest.mark.parametrize("key", ["terramind_v1_tiny", "terramind_v01_base"])
def test_terratorch_engine_gives_the_same(registry, examples, tmp_path, key):
    weights = save_model(build(registry, key), tmp_path)
    cube = chip(examples, "S2L2A")
    ours = cube.terramind.embed(model=key, weights=weights, engine="torch")
    theirs = cube.terramind.embed(model=key, weights=weights, engine="terratorch")
    assert theirs.attrs["engine"] == "terratorch" and ours.attrs["engine"] == "torch"
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


@pytest.mark.parametrize("window_size", [64, 256])
def test_other_window_sizes_interpolate_positions_as_theirs(tiny, window_size):
    model, weights = tiny
    cube = xtm.sample_scene(size_px=256)
    side = 256 // window_size
    windows = cube.values.reshape(12, side, window_size, side, window_size)
    windows = windows.transpose(1, 3, 0, 2, 4).reshape(-1, 12, window_size, window_size)
    vectors = reference(model, windows, TINY, "S2L2A")
    expected = np.block([[*vectors[side * row : side * (row + 1)]] for row in range(side)])
    assert_theirs(cube, expected, model=TINY, weights=weights, window_size=window_size)


@pytest.mark.parametrize("shape", [(300, 260), (100, 500), (224, 224)])
def test_resize_is_bilinear_zscore_terratorch(tiny, shape):
    model, weights = tiny
    cube = xtm.sample_scene(size_px=500).isel(y=slice(shape[0]), x=slice(shape[1]))
    clipped = torch.from_numpy(cube.values.astype(np.float32).clip(0, 10000))[None]
    resized = torch.nn.functional.interpolate(
        clipped, size=(224, 224), mode="bilinear", align_corners=False
    )
    expected = reference(model, resized.numpy(), TINY, "S2L2A")[0]
    assert_theirs(cube, expected, model=TINY, weights=weights, fit="resize")


def test_each_window_of_a_large_scene_is_theirs(tiny):
    model, weights = tiny
    cube = xtm.sample_scene(size_px=448)
    windows = [cube.values[:, y : y + 224, x : x + 224] for y in (0, 224) for x in (0, 224)]
    vectors = reference(model, np.stack(windows), TINY, "S2L2A")
    expected = np.block([[vectors[0], vectors[1]], [vectors[2], vectors[3]]])
    assert_theirs(cube, expected, model=TINY, weights=weights)


def test_invalid_pixels_enter_as_the_band_mean(tiny, examples):
    model, weights = tiny
    cube = chip(examples, "S2L2A").astype("float32")
    holes = cube.copy()
    holes[:, 40:90, 100:131] = np.nan
    embedding = holes.terramind.embed(model=TINY, weights=weights)
    filled = holes.values.copy()
    mean = np.array(MODALITIES["S2L2A"].statistics["v1"][0], np.float32)
    filled[:, 40:90, 100:131] = mean[:, None, None]
    expected = reference(model, filled[None], TINY, "S2L2A")[0]
    empty = embedding.valid_fraction.values == 0
    assert 0 < empty.sum() < 12
    assert np.isnan(embedding.values[:, empty]).all()
    np.testing.assert_allclose(embedding.values[:, ~empty], expected[:, ~empty], atol=TOLERANCE)
    assert embedding.valid_fraction.values[2, 6] == pytest.approx(1 - 8 * 12 / 256)


def test_random_weights_are_drawn_as_terratorch_draws_them(registry):
    from xr_terramind.model.random_weights import random_weights

    key = "terramind_v1_small"
    theirs = registry.build(key, modalities=["S2L2A"]).state_dict()
    ours = random_weights({name: tuple(value.shape) for name, value in theirs.items()})
    for name, value in theirs.items():
        if name.endswith("pos_emb"):
            torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=0)
        elif not name.endswith("mod_emb"):  # too few numbers for a comparison of spreads
            assert float(ours[name].std()) == pytest.approx(
                float(value.std()), rel=0.1, abs=1e-7
            ), name
            assert float(ours[name].mean()) == pytest.approx(float(value.mean()), abs=5e-3), name


def test_lowered_float32_precision_is_left_alone_but_not_passed_over(registry, tmp_path):
    weights = save_model(build(registry, TINY, seed=23), tmp_path)
    cube = xtm.sample_scene(size_px=224)
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.warns(xtm.TerraMindWarning, match="'medium'.*'highest'"):
            cube.terramind.embed(model=TINY, weights=weights, engine="torch")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_subset_of_bands_is_theirs(registry, tmp_path):
    key, modality = "terramind_v1_tiny", MODALITIES["S2L2A"].subset(["B2", "B4", "B8A", "B12"])
    weights = save_model(build(registry, key, "S2L2A"), tmp_path)
    theirs = registry.build(
        key,
        modalities=["S2L2A"],
        bands={"S2L2A": list(modality.bands_terramind)},
        ckpt_path=weights,
    ).eval()
    pixels = torch.randn(2, 4, 224, 224, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        expected = theirs({"S2L2A": pixels})[-1]
        ours = load_encoder(MODELS[key], modality, locate(weights, MODELS[key]))(pixels)
    assert float(expected.abs().max()) > 0.5
    torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=0)
    found = make_key(modality, locate(weights, MODELS[key]), engine="terratorch", device="cpu")
    with torch.inference_mode():
        tokens = engine_for(found).encoder(pixels)
    torch.testing.assert_close(tokens, expected, atol=TOLERANCE, rtol=0)


def test_ten_bands_are_their_model_of_ten_bands(registry, tmp_path, own_cache):
    cube = noise_image("S2L2A", 224, 224).drop_sel(band=["B1", "B9"])
    ten = MODALITIES["S2L2A"].subset(cube.band.values.tolist())
    weights = save_model(build(registry, TINY), tmp_path)
    theirs = registry.build(
        TINY,
        modalities=["S2L2A"],
        bands={"S2L2A": list(ten.bands_terramind)},
        ckpt_path=weights,
    ).eval()
    mean, std = (np.array(n, np.float32)[:, None, None] for n in ten.statistics["v1"])
    pixels = torch.from_numpy((cube.values.astype(np.float32).clip(0, 10000) - mean) / std)[None]
    with torch.inference_mode():
        tokens = theirs({"S2L2A": pixels})[-1].numpy()
    expected = tokens.reshape(14, 14, -1).transpose(2, 0, 1)
    options = {"model": TINY, "weights": weights, "missing_bands": "mean"}
    assert_theirs(cube, expected, **options)
    found = cube.terramind.embed(engine="terratorch", **options)
    assert difference(found, expected) < TOLERANCE
    assert found.attrs["bands_missing"] == ["B1", "B9"]
