"""Modalities: small values that travel, whole or with some of their bands."""

import pickle

import numpy as np
import pytest
import torch
from dask.base import tokenize

import xr_terramind as xtm
from tests.support.weights import TINY, make_state, save
from xr_terramind.errors import BandError, EngineError
from xr_terramind.model.load import load_encoder
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.specs import MODELS
from xr_terramind.model.weights import locate

S2 = MODALITIES["S2L2A"]
RGB = S2.subset(["B4", "B2", "B3"])


@pytest.mark.parametrize("modality", [*MODALITIES.values(), RGB], ids=lambda m: str(len(m.bands)))
def test_a_modality_is_a_value(modality):
    copy = pickle.loads(pickle.dumps(modality))
    assert copy == modality and hash(copy) == hash(modality) and copy is not modality
    assert tokenize(copy, ensure_deterministic=True) == tokenize(modality)


def test_modalities_and_subsets_differ():
    found = [*MODALITIES.values(), RGB, S2.subset(["B2"]), MODALITIES["S2L1C"].subset(["B2"])]
    assert len(set(found)) == len({tokenize(one) for one in found}) == len(found)


def test_a_subset_stands_in_the_models_order_with_what_belongs_to_its_bands():
    assert RGB.bands == ("B2", "B3", "B4")
    assert RGB.bands_terramind == ("BLUE", "GREEN", "RED")
    assert RGB.positions == (1, 2, 3) and RGB.full is S2
    for version, (mean, std) in S2.statistics.items():
        assert RGB.statistics[version] == (mean[1:4], std[1:4])
    assert (RGB.name, RGB.embedding, RGB.clip, RGB.unit) == (
        S2.name,
        S2.embedding,
        S2.clip,
        S2.unit,
    )
    assert RGB.subset(["B4"]).positions == (3,) and RGB.subset(["B4"]).full is S2
    assert S2.subset(S2.bands[::-1]) is S2
    assert S2.positions == tuple(range(12))


@pytest.mark.parametrize(("bands", "named"), [(["B2", "B10"], "B10"), ([], "empty")])
def test_a_subset_of_other_bands_is_refused(bands, named):
    with pytest.raises(BandError, match=rf"{named}.*B1, B2, B3.*S2L2A"):
        S2.subset(bands)


def test_scaling_is_that_of_the_models_version():
    mean, std = S2.statistics["v01"]
    assert S2.scaling(MODELS["terramind_v01_base"], "zscore") == (mean, std, mean)
    raw = S2.scaling(TINY, "raw")
    assert raw.is_identity and raw.fill == S2.statistics["v1"][0]
    assert not S2.scaling(TINY, "zscore").is_identity
    with pytest.raises(EngineError, match=r"DEM.*v1 model"):
        MODALITIES["DEM"].scaling(MODELS["terramind_v01_base"], "zscore")


@pytest.mark.parametrize("kind", ["file", "random"])
def test_a_subset_is_the_full_model_fed_with_the_mean_in_the_missing_bands(tmp_path, kind):
    path = save(make_state(), tmp_path / "tiny.pt") if kind == "file" else kind
    weights = locate(str(path), TINY)
    scene = torch.from_numpy(xtm.sample_scene(size_px=64).values.astype(np.float32))
    mean, std, _ = (torch.tensor(n)[:, None, None] for n in S2.scaling(TINY, "zscore"))
    pixels = ((scene - mean) / std)[None]
    bands = list(RGB.positions)
    filled = torch.zeros_like(pixels)  # the mean, once normalised
    filled[:, bands] = pixels[:, bands]
    with torch.inference_mode():
        expected = load_encoder(TINY, S2, weights)(filled)
        found = load_encoder(TINY, RGB, weights)(pixels[:, bands])
    assert float(expected.abs().max()) > 0.5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_file_of_another_size_is_refused_for_a_subset_as_well(tmp_path):
    state = make_state()
    key = f"encoder_embeddings.{S2.embedding}.proj.weight"
    state[key] = state[key][:, :768]  # three bands: what the subset needs, not what a file holds
    path = save(state, tmp_path / "tiny.pt")
    with pytest.raises(xtm.errors.WeightsError, match=r"192, 768.*192, 3072"):
        load_encoder(TINY, RGB, locate(str(path), TINY))


@pytest.mark.parametrize(
    ("name", "version", "means", "deviations"),
    [
        ("S2L2A", "v1", 199002.982, 136072.604),
        ("S2L2A", "v01", 170135.586, 112384.349),
        ("S2L1C", "v1", 199453.613, 123787.956),
        ("RGB", "v1", 449.134, 281.986),
        ("S1GRD", "v1", -53.185, 16.975),
        ("S1RTC", "v1", -45.588, 13.309),
        ("DEM", "v1", 670.665, 951.272),
    ],
)
def test_statistics_have_the_sums_of_terratorchs_tables(name, version, means, deviations):
    # Each number times its place, so that swapped digits and swapped bands show; that all are equal
    # to TerraTorch's is held where TerraTorch is imported.
    sums = [np.dot(np.arange(1, len(n) + 1), n) for n in MODALITIES[name].statistics[version]]
    np.testing.assert_allclose(sums, [means, deviations], atol=6e-4, rtol=0)
