"""Bands: found under any usual name, put into the model's order, refused where they do not fit."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xr_terramind as xtm
from tests.support.cubes import BANDS, assert_same_embedding, embed, image, radar, scene

SPELLINGS = {
    "Earth Engine": BANDS,
    "ESA": "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12".split(),
    "TerraTorch": (
        "COASTAL_AEROSOL BLUE GREEN RED RED_EDGE_1 RED_EDGE_2 RED_EDGE_3 NIR_BROAD NIR_NARROW "
        "WATER_VAPOR SWIR_1 SWIR_2"
    ).split(),
    "STAC and Earth Search": (
        "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 swir16 swir22"
    ).split(),
    "SAFE": (
        "B01_60m B02_10m B03_10m B04_10m B05_20m B06_20m B07_20m B08_10m B8A_20m B09_60m "
        "B11_20m B12_20m"
    ).split(),
    "GDAL descriptions": [
        f"{band}, central wavelength {nm} nm"
        for band, nm in zip(
            BANDS, (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1610, 2190), strict=True
        )
    ],
}
ALIASES = [list(names) for names in zip(*SPELLINGS.values(), strict=True)]  # of each model band
ATTEMPTS = [embed, lambda cube: cube.terramind.arrange(), lambda cube: cube.terramind.bands]
CASES = [str, str.lower, str.upper, str.title]


def numbered(names: list[str]) -> xr.DataArray:
    """Every pixel of band i (in the cube's own order) holds 100 i."""
    values = np.broadcast_to(100 * np.arange(len(names))[:, None, None], (len(names), 32, 32))
    return image(names, values.astype("int16"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("family", SPELLINGS)
def test_every_spelling_is_understood_in_any_case(family, case):
    own = [case(name) for name in reversed(SPELLINGS[family])]
    cube = numbered(own)
    arranged = cube.terramind.arrange("S2L2A")
    assert arranged.band.values.tolist() == BANDS
    assert arranged[:, 0, 0].values.tolist() == [100 * i for i in reversed(range(12))]
    assert cube.terramind.bands == dict(zip(BANDS, reversed(own), strict=True))


@given(data=st.data(), order=st.permutations(range(12)))
@settings(deadline=None, max_examples=50)  # the first example imports; the law needs no clock
def test_any_order_under_any_alias_gives_each_band_its_own_pixels(data, order):
    names = [
        data.draw(st.sampled_from(CASES))(data.draw(st.sampled_from(ALIASES[i]))) for i in order
    ]
    arranged = numbered(names).terramind.arrange("S2L2A")
    assert arranged.band.values.tolist() == BANDS
    assert arranged[:, 3, 5].values.tolist() == [100 * order.index(i) for i in range(12)]


def test_the_order_of_bands_does_not_change_the_embedding():
    cube = scene()
    order = np.random.default_rng(1).permutation(12)
    shuffled = cube.isel(band=order)
    renamed = cube.assign_coords(band=SPELLINGS["STAC and Earth Search"]).isel(band=order[::-1])
    expected = embed(cube)
    for other in (shuffled, renamed):
        result = embed(other)
        assert_same_embedding(result, expected)
        assert list(result.attrs["bands"]) == BANDS
        assert result.attrs["band_order"] == "named"


def test_names_in_long_name_count_where_band_numbers_are_no_names():
    # This is what rioxarray makes of a GeoTIFF with GDAL band descriptions.
    cube = scene().isel(band=slice(None, None, -1))
    described = cube.assign_coords(band=np.arange(1, 13))
    described.attrs["long_name"] = tuple(reversed(SPELLINGS["GDAL descriptions"]))
    result = embed(described)
    assert_same_embedding(result, embed(scene()))
    assert result.attrs["band_order"] == "named"


def test_a_long_name_of_the_whole_image_is_no_band_name():
    cube = scene().drop_vars("band")
    cube.attrs["long_name"] = "surface reflectance"
    with pytest.warns(xtm.TerraMindWarning, match="without names"):
        assert embed(cube).attrs["band_order"] == "assumed"


@pytest.mark.parametrize(
    ("modality", "names", "expected"),
    [
        ("S2L1C", [*BANDS[:10], "cirrus", *BANDS[10:]], [*BANDS[:10], "B10", *BANDS[10:]]),
        ("RGB", ["red", "green", "blue"], ["B4", "B3", "B2"]),
        ("RGB", ["B02", "B03", "B04"], ["B4", "B3", "B2"]),
        ("S1GRD", ["vh", "vv"], ["VV", "VH"]),
        ("S1RTC", ["VV", "VH"], ["VV", "VH"]),
        ("DEM", ["elevation"], ["DEM"]),
        ("DEM", ["DEM"], ["DEM"]),
    ],
)
def test_other_modalities_have_their_own_bands(modality, names, expected):
    cube = numbered(names)
    arranged = cube.terramind.arrange(modality)
    assert arranged.band.values.tolist() == expected
    with xtm.set_options(modality=modality):
        own = cube.terramind.bands
    assert list(own) == expected
    for band, name in own.items():
        np.testing.assert_array_equal(arranged.sel(band=band), cube.sel(band=name))


def test_coordinates_along_band_follow_their_band():
    wavelength_nm = np.arange(400, 1000, 50)
    cube = scene().assign_coords(wavelength=("band", wavelength_nm)).isel(band=[*range(11, -1, -1)])
    arranged = cube.terramind.arrange()
    assert arranged.wavelength.values.tolist() == wavelength_nm.tolist()


@pytest.mark.parametrize("lost", [["B1"], ["B8A", "B9"], ["B12"]])
def test_missing_bands_are_named(lost):
    cube = scene().sel(band=[band for band in BANDS if band not in lost])
    for attempt in ATTEMPTS:
        with pytest.raises(xtm.BandError, match=f"without {', '.join(lost)}; expected S2L2A needs"):
            attempt(cube)


def test_one_band_under_two_names_is_refused():
    cube = xr.concat([scene(), scene().sel(band=["B4"])], "band")
    cube = cube.assign_coords(band=[*BANDS, "red"])
    for attempt in ATTEMPTS:
        with pytest.raises(xtm.BandError, match="B4 as B4 and red"):
            attempt(cube)


def test_surplus_bands_stop_embed_and_arrange_leaves_them_out():
    cube = xr.concat([scene().sel(band=["B2"]), scene()], "band")
    cube = cube.assign_coords(band=["B13", *BANDS])
    with pytest.raises(xtm.BandError, match=r"surplus bands B13.*arrange\('S2L2A'\)"):
        embed(cube)
    assert_same_embedding(embed(cube.terramind.arrange("S2L2A")), embed(scene()))


def test_b10_hints_at_l1c():
    cube = numbered([*BANDS, "B10"])
    with pytest.raises(xtm.BandError, match="S2L1C"):
        embed(cube)


@pytest.mark.parametrize("n_bands", [1, 3, 11, 13])
def test_unnamed_bands_in_another_number_are_refused(n_bands):
    cube = numbered([f"{i}" for i in range(n_bands)]).drop_vars("band")
    with pytest.raises(xtm.BandError, match=f"{n_bands} bands without names; expected the 12"):
        embed(cube)


@pytest.mark.parametrize("labels", [None, np.arange(12), np.arange(1, 13)], ids=str)
def test_twelve_unnamed_bands_are_taken_in_adapter_order_and_the_result_says_so(labels):
    cube = scene().drop_vars("band")
    if labels is not None:
        cube = cube.assign_coords(band=labels)
    with pytest.warns(xtm.TerraMindWarning, match="without names.*B1, B2.*was assumed"):
        result = embed(cube)
    assert result.attrs["band_order"] == "assumed"
    assert_same_embedding(result, embed(scene()))


def test_an_assumed_order_stays_assumed_once_arranged():
    arranged = scene().drop_vars("band").terramind.arrange()
    with pytest.warns(xtm.TerraMindWarning, match="without names"):
        assert embed(arranged).attrs["band_order"] == "assumed"


def test_variables_of_a_dataset_are_bands_under_any_alias():
    names = dict(zip(BANDS, SPELLINGS["ESA"], strict=True))
    dataset = scene().to_dataset("band").rename(names)
    assert dataset.terramind.bands == names
    assert_same_embedding(embed(dataset), embed(scene()))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        *((spelling, "S2L2A") for spelling in ("S2L2A", "S2_L2A", "s2-l2a", "s2l2a", "S2 L2A")),
        *((spelling, "S2L1C") for spelling in ("S2_L1C", "s2l1c")),
        *((spelling, "S1GRD") for spelling in ("S1_GRD", "s1grd")),
        *((spelling, "S1RTC") for spelling in ("S1-RTC", "s1_rtc")),
        ("rgb", "RGB"),
        ("dem", "DEM"),
    ],
)
def test_spellings_of_a_modality(spelling, name):
    bands = {"S2L1C": [*BANDS, "B10"], "RGB": BANDS[1:4], "DEM": ["DEM"]}
    cube = radar() if name.startswith("S1") else numbered(bands.get(name, BANDS)) + 20
    assert embed(cube, modality=spelling).attrs["modality"] == name
    assert cube.terramind.check(modality=spelling).ok


@pytest.mark.parametrize("unknown", ["S2L2B", "S2", "landsat", "", 7, None])
def test_an_unknown_modality_is_refused_with_the_choices(unknown):
    with pytest.raises(xtm.BandError, match="expected one of S2L2A, S2L1C, RGB") as raised:
        embed(scene(), modality=unknown)
    assert f"modality={unknown!r}" in str(raised.value)


@pytest.mark.parametrize(("typed", "meant"), [("S2L2B", "s2l2a"), ("S1-GRDH", "s1grd")])
def test_an_almost_known_modality_brings_a_suggestion(typed, meant):
    with pytest.raises(xtm.BandError, match=rf"(?i)did you mean '{meant}'"):
        scene().terramind.check(modality=typed)


@pytest.mark.filterwarnings("ignore::xr_terramind.TerraMindWarning")  # half of it is out of range
@pytest.mark.parametrize(
    ("modality", "bands", "clip"),
    [
        ("S2L2A", BANDS, [0, 10000]),
        ("S2L1C", [*BANDS, "B10"], [0, 10000]),
        ("RGB", ["B4", "B3", "B2"], [0, 255]),
        ("S1GRD", ["VV", "VH"], "none"),
        ("S1RTC", ["VV", "VH"], "none"),
        ("DEM", ["DEM"], "none"),
    ],
)
def test_clip_auto_is_the_range_of_the_modality(modality, bands, clip):
    values = np.full((len(bands), 32, 32), 200, "float32")
    values[-1, ::2], values[-1, :, ::2] = 20000, -20000
    cube = image(bands, values)
    auto = embed(cube, modality=modality)
    assert auto.attrs["clip"] == clip
    expected = cube if clip == "none" else cube.clip(*clip)
    np.testing.assert_array_equal(auto, embed(expected, modality=modality, clip=None))
    if clip != "none":
        assert np.abs(auto - embed(cube, modality=modality, clip=None)).max() > 0.01


def test_clip_takes_a_pair():
    result = embed(scene(), clip=(100, 900))
    assert result.attrs["clip"] == [100, 900]
    np.testing.assert_array_equal(result, embed(scene().clip(100, 900), clip=None))
