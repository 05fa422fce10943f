"""What is missing: bands that the cube lacks, bands without values, nodata of some bands only."""

import re

import numpy as np
import pytest
import rioxarray
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xr_terramind as xtm
from tests.support.cubes import BANDS, QUICK, embed, noise_image, scene
from xr_terramind.inference import encode
from xr_terramind.model.modalities import MODALITIES

# Tables of many kinds of input.
pytestmark = pytest.mark.wide

TEN = [band for band in BANDS if band not in ("B1", "B9")]
TOLD = pytest.mark.filterwarnings("ignore::xr_terramind.TerraMindWarning")


def fill_mean(cube: xr.DataArray, kept: list[str], modality: str = "S2L2A") -> xr.DataArray:
    """The whole cube with the mean of pretraining in the bands that are not kept."""
    filled = cube.astype("float32").copy(deep=True)
    means = dict(
        zip(MODALITIES[modality].bands, MODALITIES[modality].statistics["v1"][0], strict=True)
    )
    for band in set(filled.band.values) - set(kept):
        filled.loc[{"band": band}] = means[band]
    return filled


def codes(cube: xr.DataArray | xr.Dataset, **options: object) -> list[str]:
    with xtm.set_options(window_size=32):
        return [issue.code for issue in cube.terramind.check(**options).issues]


def find_calls(message: str) -> list[str]:
    """The calls that a message tells its reader to make, in their order."""
    calls, place = [], 0
    while (
        start := re.compile(r"(?:for n in \[|cube\.|cube = )").search(message, place)
    ) is not None:
        depth, end = 0, start.start()
        for end in range(start.start(), len(message)):
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(message[end], 0)
            closed = depth == 0 and message[end] in ")"
            if closed and not message[end + 1 : end + 2] == ".":
                break
            if closed and not message[end + 2 : end + 3].isalpha():
                break
        calls.append(message[start.start() : end + 1])
        place = end + 1
    return calls


def follow(call: str, cube: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """Do what a message says, with `cube` as its reader's."""
    names = {"cube": cube}
    exec(call if call.startswith(("for", "cube =")) else f"cube = {call}", names)
    return names["cube"]


# Bands that the cube lacks

SUBSETS = {
    "without B1 and B9": ("S2L2A", TEN),
    "10 m": ("S2L2A", ["B2", "B3", "B4", "B8"]),
    "three": ("S2L2A", ["B3", "B8A", "B12"]),
    "L1C without B10": ("S2L1C", BANDS),
    "single polarisation": ("S1GRD", ["VV"]),
    "cross polarisation alone": ("S1RTC", ["VH"]),
    "two colours": ("RGB", ["B4", "B2"]),
}


@pytest.mark.parametrize("name", SUBSETS)
@pytest.mark.parametrize(
    "options", [{}, {"fit": "resize"}, {"output": "windows"}], ids=["grid", "resize", "windows"]
)
def test_missing_bands_stand_at_their_mean(name, options):
    modality, kept = SUBSETS[name]
    cube = noise_image(modality, 40, 48)
    wanted = embed(fill_mean(cube, kept, modality), modality=modality, **options)
    few = cube.sel(band=kept[::-1])
    for subset in (few, few.chunk(x=20), few.to_dataset("band")):
        found = embed(subset, modality=modality, missing_bands="mean", **options)
        np.testing.assert_allclose(found.values, wanted.values, atol=1e-5)
        np.testing.assert_array_equal(found.valid_fraction, wanted.valid_fraction)
        np.testing.assert_array_equal(found.y, wanted.y)
        bands = MODALITIES[modality].bands
        assert found.attrs["bands"] == [band for band in bands if band in kept]
        assert found.attrs["bands_missing"] == [band for band in bands if band not in kept]
        assert len(found.attrs["bands_terramind"]) == len(kept)


@given(kept=st.sets(st.sampled_from(BANDS), min_size=3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=12)
def test_any_subset_in_any_order_is_the_mean_in_the_others(kept, seed):
    cube = scene()
    wanted = embed(fill_mean(cube, sorted(kept)))
    order = np.random.default_rng(seed).permutation(sorted(kept))
    found = embed(cube.sel(band=list(order)), missing_bands="mean")
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-5)


def test_pixels_without_data_are_those_of_the_bands_that_are_there():
    cube = scene().astype("float32").sel(band=TEN)
    cube[:, :16, :16] = 0
    cube[:, 16:, :8] = np.nan
    found = embed(cube, missing_bands="mean")
    assert found.valid_fraction.values.tolist() == [[0, 1], [0.5, 1]]


@pytest.mark.parametrize("given", ["mean", "error"])
def test_a_whole_cube_is_embedded_as_ever(given):
    found = embed(scene(), missing_bands=given)
    xr.testing.assert_identical(found, embed(scene()))
    assert "bands_missing" not in found.attrs


def test_every_recipe_takes_a_subset():
    cube = scene(n_times=2).sel(band=TEN)
    report = cube.terramind.check(missing_bands="mean")
    assert [issue.code for issue in report.issues] == ["small-extent"]
    assert report.facts["missing"] == "B1, B9, at the mean of pretraining"
    whole, plan = (
        image.terramind.plan(missing_bands="mean", **QUICK) for image in (scene(n_times=2), cube)
    )
    assert plan.input_bytes == cube.nbytes
    assert whole.model_bytes - plan.model_bytes == 4 * 2 * 256 * 192
    arranged = cube.isel(band=slice(None, None, -1)).terramind.arrange(missing_bands="mean")
    xr.testing.assert_equal(arranged, cube)
    with xtm.set_options(missing_bands="mean"):
        assert cube.terramind.bands == {band: band for band in TEN}
        assert embed(cube).attrs["bands"] == TEN


@TOLD
@pytest.mark.parametrize("lost", [["B9"], ["B1", "B9"], BANDS[1:]], ids=len)
def test_every_file_keeps_the_names_of_missing_bands(lost, tmp_path):
    cube = scene(64, 64).sel(band=[band for band in BANDS if band not in lost])
    found = embed(cube, missing_bands="mean")
    found.to_netcdf(tmp_path / "e.nc")
    with xr.open_dataset(tmp_path / "e.nc") as read:
        assert np.atleast_1d(read["embedding"].attrs["bands_missing"]).tolist() == lost
    found.rio.to_raster(tmp_path / "e.tif")
    with rioxarray.open_rasterio(tmp_path / "e.tif") as read:
        assert read.attrs["bands_missing"] == str(lost)
    lazy = embed(cube.chunk(x=32), missing_bands="mean")
    for resume in (False, True):
        read = lazy.terramind.to_zarr(tmp_path / "e.zarr", resume=resume)
        assert read.attrs["bands_missing"] == lost
        np.testing.assert_allclose(read, found, atol=1e-5)
    other = embed(scene(64, 64).chunk(x=32))
    with pytest.raises(xtm.StoreError, match="bands_missing is not set here"):
        other.terramind.to_zarr(tmp_path / "e.zarr", resume=True)


def test_the_command_line_takes_a_subset(tmp_path):
    from typer.testing import CliRunner

    from xr_terramind.cli import app

    scene().sel(band=TEN).to_dataset("band").to_netcdf(tmp_path / "ten.nc")
    given = [str(tmp_path / "ten.nc"), "--missing-bands", "mean"]
    for command in ("check", "plan"):
        assert CliRunner().invoke(app, [command, *given]).exit_code == 0
        assert CliRunner().invoke(app, [command, given[0]]).exit_code == 1
    options = "--model terramind_v1_tiny --weights random --window-size 32 --device cpu".split()
    embed_it = ["embed", given[0], str(tmp_path / "e.nc"), *given[1:], *options]
    assert CliRunner().invoke(app, embed_it).exit_code == 0
    said = CliRunner().invoke(app, ["info", str(tmp_path / "e.nc")]).output
    assert "without B1 B9" in " ".join(said.split())


def as_dataset(cube: xr.DataArray) -> xr.Dataset:
    return cube.to_dataset("band")


def numbered(cube: xr.DataArray, names: list[str]) -> xr.Dataset:
    return cube.assign_coords(band=names).to_dataset("band")


def beside_classes(names: list[str], place: int) -> xr.DataArray:
    """Bands of these names with a scene classification among them, at a place."""
    cube = scene().assign_coords(band=names)
    classes = scene()[:1].assign_coords(band=["SCL"])
    return xr.concat([cube[:place], classes, cube[place:]], "band")


def described(layers: xr.Dataset, names: list[str]) -> xr.Dataset:
    """band_1, band_2, ... as rioxarray calls them, with the bands' own names as descriptions."""
    pairs = enumerate(zip(names, layers.data_vars.values(), strict=True), 1)
    return xr.Dataset({f"band_{n}": one.assign_attrs(long_name=name) for n, (name, one) in pairs})


def with_picture(layers: xr.Dataset, channels: list[str]) -> xr.Dataset:
    """Bands beside a picture in colours."""
    picture = (scene().sel(band=["B4", "B3", "B2"]) / 40).astype("uint8")
    return layers.assign(picture=picture.rename(band="channel").assign_coords(channel=channels))


# Name -> (cube, modality, bands that are missing once the message is followed).
MISNAMED = {
    "prefix, a layer first": (
        lambda: beside_classes([f"S2_{band}" for band in BANDS], 0),
        "S2L2A",
        [],
    ),
    "prefix, a layer among them": (
        lambda: beside_classes([f"S2_{band}" for band in BANDS], 5),
        "S2L2A",
        [],
    ),
    "prefix, a layer among them, Dataset": (
        lambda: beside_classes([f"S2_{band}" for band in BANDS], 5).to_dataset(name="s2"),
        "S2L2A",
        [],
    ),
    "band0 to band11, a layer among them": (
        lambda: beside_classes([f"band{n}" for n in range(12)], 3),
        "S2L2A",
        [],
    ),
    "doubled, a layer first": (
        lambda: xr.concat(
            [beside_classes(BANDS, 0), scene()[:1].assign_coords(band=["coastal"])], "band"
        ),
        "S2L2A",
        [],
    ),
    "prefix in descriptions": (
        lambda: described(as_dataset(scene()), [f"S2_{band}" for band in BANDS]),
        "S2L2A",
        [],
    ),
    "prefix in descriptions, ten bands": (
        lambda: described(as_dataset(scene().sel(band=TEN)), [f"S2_{band}" for band in TEN]),
        "S2L2A",
        ["B1", "B9"],
    ),
    "doubled in descriptions": (
        lambda: described(
            as_dataset(scene()).assign(again=scene()[0].drop_vars("band")), [*BANDS, "coastal"]
        ),
        "S2L2A",
        [],
    ),
    "ten bands, a picture beside": (
        lambda: with_picture(as_dataset(scene().sel(band=TEN)), ["r", "g", "b"]),
        "S2L2A",
        ["B1", "B9"],
    ),
    "ten bands, a picture of colours beside": (
        lambda: with_picture(as_dataset(scene().sel(band=TEN)), ["red", "green", "blue"]),
        "S2L2A",
        ["B1", "B9"],
    ),
    "ten bands in one variable, one more beside": (
        lambda: xr.Dataset({"s2": scene().sel(band=TEN), "B4": scene()[3].drop_vars("band")}),
        "S2L2A",
        ["B1", "B9"],
    ),
    "ten bands": (lambda: scene().sel(band=TEN), "S2L2A", ["B1", "B9"]),
    "ten bands, Dataset": (lambda: as_dataset(scene().sel(band=TEN)), "S2L2A", ["B1", "B9"]),
    "prefix": (
        lambda: numbered(scene(), [f"nbart_{band.lower()}" for band in BANDS]),
        "S2L2A",
        [],
    ),
    "prefix, array": (
        lambda: scene().assign_coords(band=[f"S2_{band}" for band in BANDS]),
        "S2L2A",
        [],
    ),
    "suffix, ten bands": (
        lambda: numbered(scene().sel(band=TEN), [f"{band}_median" for band in TEN]),
        "S2L2A",
        ["B1", "B9"],
    ),
    "DEA": (
        lambda: numbered(
            scene().sel(band=[band for band in BANDS if band != "B9"]),
            "nbart_coastal_aerosol nbart_blue nbart_green nbart_red nbart_red_edge_1 "
            "nbart_red_edge_2 nbart_red_edge_3 nbart_nir_1 nbart_nir_2 nbart_swir_2 "
            "nbart_swir_3".split(),
        ),
        "S2L2A",
        ["B9"],
    ),
    "DEA without prefix": (
        lambda: numbered(
            scene().sel(band=[band for band in BANDS if band not in ("B1", "B9")]),
            "blue green red red_edge_1 red_edge_2 red_edge_3 nir_1 nir_2 swir_2 swir_3".split(),
        ),
        "S2L2A",
        ["B1", "B9"],
    ),
    "band_1 to band_12": (
        lambda: numbered(scene(), [f"band_{i}" for i in range(1, 13)]),
        "S2L2A",
        [],
    ),
    "band_01 to band_8a": (
        lambda: numbered(scene(), [f"band_{b[1:].lower().zfill(2)}" for b in BANDS]),
        "S2L2A",
        [],
    ),
    "band0 to band11, array": (
        lambda: scene().assign_coords(band=[f"band{i}" for i in range(12)]),
        "S2L2A",
        [],
    ),
    "band_1 to band_10": (
        lambda: numbered(scene().sel(band=TEN), [f"band_{i}" for i in range(1, 11)]),
        "S2L2A",
        ["B1", "B9"],
    ),
    "ten without names": (lambda: scene().sel(band=TEN).drop_vars("band"), "S2L2A", ["B1", "B9"]),
    "channels": (
        lambda: scene().assign_coords(band=[f"S2_{band}" for band in BANDS]).rename(band="channel"),
        "S2L2A",
        [],
    ),
    "doubled": (
        lambda: xr.concat([scene(), scene()[:1]], "band").assign_coords(band=[*BANDS, "coastal"]),
        "S2L2A",
        [],
    ),
    "doubled, Dataset": (lambda: as_dataset(scene()).assign(red=scene()[3]), "S2L2A", []),
    "doubled, of two resolutions": (
        lambda: as_dataset(scene()).rename(B4="B04_10m").assign(B04_20m=scene()[0]),
        "S2L2A",
        [],
    ),
    "doubled descriptions": (
        lambda: (
            xr.concat([scene(), scene()[:1]], "band")
            .drop_vars("band")
            .assign_attrs(long_name=(*BANDS, "coastal"))
        ),
        "S2L2A",
        [],
    ),
    "surplus, ten bands": (
        lambda: as_dataset(scene().sel(band=TEN)).assign(other=scene()[0].drop_vars("band")),
        "S2L2A",
        ["B1", "B9"],
    ),
    "a slope": (lambda: scene()[0].drop_vars("band").to_dataset(name="slope"), "DEM", []),
    "radar": (
        lambda: (
            noise_image("S1RTC", 32, 32)
            .assign_coords(band=["gamma0_vv", "gamma0_vh"])
            .to_dataset("band")
        ),
        "S1RTC",
        [],
    ),
}


@pytest.mark.parametrize("name", MISNAMED)
def test_the_message_says_a_call_that_works(name):
    make, modality, lost = MISNAMED[name]
    cube, options = make(), {"modality": modality}
    before = cube.copy(deep=True)
    for _ in range(3):
        try:
            found = embed(cube, **options)
            break
        except xtm.BandError as error:
            message = str(error)
        if "missing_bands='mean'" in message:
            options["missing_bands"] = "mean"
        for call in find_calls(message):
            cube = follow(call, cube)
    assert list(found.attrs.get("bands_missing", [])) == lost
    truth = noise_image("S1RTC", 32, 32) if modality == "S1RTC" else scene()
    kept = [band for band in truth.band.values if band not in lost]
    wanted = (
        embed(truth[:1].assign_coords(band=["DEM"]), modality="DEM")
        if modality == "DEM"
        else embed(fill_mean(truth, kept, modality), modality=modality)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_array_equal(found.x, wanted.x)
    assert found.rio.crs == wanted.rio.crs
    xr.testing.assert_identical(make(), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda dem: dem.to_dataset(name="data"),
        lambda dem: dem.to_dataset(name="band_data"),
        lambda dem: dem.expand_dims(band=["data"]),
        lambda dem: dem.to_dataset(name="data").chunk(x=16),
    ],
    ids=["data", "band_data", "band=['data']", "lazy"],
)
def test_a_lone_image_whose_name_says_nothing_is_the_only_band(make):
    dem = scene()[0].drop_vars("band")
    wanted = embed(dem, modality="DEM")
    np.testing.assert_allclose(embed(make(dem), modality="DEM"), wanted, atol=1e-5)
    assert "DEM" not in repr(make(dem).terramind).splitlines()[0]


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (lambda: scene().sel(band=["B2", "B3", "B4"]), {}, ["missing_bands='mean'", "'RGB'"]),
        (lambda: scene()[:2].assign_coords(band=["a", "b"]), {"missing_bands": "mean"}, ["Name"]),
        (lambda: noise_image("S1RTC", 32, 32), {"missing_bands": "mean"}, ["'S1GRD' or", "S1RTC"]),
        (
            lambda: numbered(scene()[:7], [f"SR_B{i}" for i in range(1, 8)]),
            {"missing_bands": "mean"},
            ["cube.rename({...})"],
        ),
        (
            lambda: numbered(scene(), [f"nbart_{band}" for band in BANDS[:-1]] + ["B12"]),
            {"missing_bands": "mean"},
            ["'nbart_B11': 'B11'"],
        ),
        (
            lambda: noise_image("S2L1C", 32, 32).assign_coords(band=[f"x{i}" for i in range(13)]),
            {},
            ["modality='S2L1C'"],
        ),
        (lambda: noise_image("RGB", 32, 32).drop_vars("band"), {}, ["B4, B3, B2", "'RGB'"]),
    ],
    ids=["colours", "unknown", "radar", "Landsat", "misnamed", "L1C", "unnamed colours"],
)
def test_what_is_refused_all_the_same(make, options, said):
    with pytest.raises(xtm.BandError) as raised:
        embed(make(), **options)
    for part in said:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: scene().sel(band=["B2", "B8"]), ["few-bands"]),
        (lambda: scene().sel(band=["B2", "B3", "B4"]), []),
        (lambda: (scene().sel(band=["B2", "B3", "B4"]) / 40).astype("uint8"), ["colour"]),
        (lambda: scene().sel(band=BANDS[:7]), ["landsat-names"]),
        (lambda: scene().sel(band=TEN), []),
        (lambda: scene().sel(band=["B8"]), ["few-bands"]),
        (lambda: as_dataset(scene().sel(band=BANDS[1:4])), []),
    ],
    ids=["two", "three", "8 bits", "Landsat", "ten", "one", "Dataset"],
)
def test_a_subset_that_says_little_is_doubted(make, expected):
    found = codes(make(), missing_bands="mean")
    assert [code for code in found if code in ("few-bands", "colour", "landsat-names")] == expected


def test_few_bands_are_counted():
    with pytest.warns(xtm.TerraMindWarning, match="found 2 of the 12 bands of S2L2A"):
        embed(scene().sel(band=["B2", "B8"]), missing_bands="mean")


# Bands without values


def thin_out(cube: xr.DataArray, bands: list[str], apart: int, first: int) -> xr.DataArray:
    """Bands that have values in every `apart`-th row and column only."""
    there = np.zeros((cube.sizes["y"], cube.sizes["x"]), bool)
    there[first::apart, first::apart] = True
    mask = xr.DataArray(there, dims=("y", "x"))
    chosen = xr.DataArray(np.isin(cube.band, bands), dims="band")
    return cube.astype("float32").where(mask | ~chosen)


def with_hole(cube: xr.DataArray, band: str, n_pixels: int, value: float) -> xr.DataArray:
    changed = cube.copy(deep=True)
    changed.sel(band=band).values.reshape(-1)[:n_pixels] = value
    return changed


FINE = lambda: scene(64, 64)  # noqa: E731 - one word for the table
TWENTY = ["B5", "B6", "B7", "B8A", "B11", "B12"]
# Name -> (cube, modality, share of each band in percent, as counted by hand)
LACKING = {
    "60 m on 20 m": (lambda: thin_out(FINE(), ["B9"], 3, 1), "S2L2A", {"B9": 89.2}),
    "60 m by their corners": (
        lambda: thin_out(FINE(), ["B1", "B9"], 3, 0), "S2L2A", {"B1": 88.2, "B9": 88.2},
    ),
    "20 m on 10 m": (lambda: thin_out(FINE(), TWENTY, 2, 0), "S2L2A", dict.fromkeys(TWENTY, 75.0)),
    "10, 20 and 60 m": (
        lambda: thin_out(thin_out(FINE(), TWENTY, 2, 0), ["B1", "B9"], 6, 0),
        "S2L2A",
        {"B1": 97.0, **dict.fromkeys(TWENTY[:4], 75.0), "B9": 97.0, "B11": 75.0, "B12": 75.0},
    ),
    "a band of NaN": (
        lambda: with_hole(FINE().astype("float32"), "B9", 4096, np.nan), "S2L2A", {"B9": 100.0},
    ),
    "a band of nodata": (
        lambda: with_hole(FINE().astype("int16"), "B9", 4096, -1).assign_attrs(nodata=-1),
        "S2L2A",
        {"B9": 100.0},
    ),
    "some pixels": (
        lambda: with_hole(FINE().astype("float32"), "B4", 41, np.nan), "S2L2A", {"B4": 1.0},
    ),
    "one polarisation": (
        lambda: with_hole(noise_image("S1GRD", 64, 64), "VH", 4096, np.nan), "S1GRD", {"VH": 100.0},
    ),
    "south-north names": (
        lambda: thin_out(FINE(), ["B9"], 3, 1).rename(y="northing", x="easting"),
        "S2L2A",
        {"B9": 89.2},
    ),
}  # fmt: skip


def lacking_message(cube: xr.DataArray | xr.Dataset, modality: str, **options: object) -> str:
    report = cube.terramind.check(modality=modality, **options)
    found = [issue.message for issue in report.issues if issue.code == "band-missing"]
    return found[0] if found else ""


@pytest.mark.parametrize("kind", ["array", "lazy", "dataset"])
@pytest.mark.parametrize("name", LACKING)
def test_a_band_without_values_is_told_with_its_share(name, kind, monkeypatch):
    monkeypatch.setattr(encode, "_warned", set())  # a renamed cube is the same Dask array
    make, modality, shares = LACKING[name]
    cube = make()
    cube = {"array": cube, "lazy": cube.chunk(), "dataset": cube.to_dataset("band")}[kind]
    message = lacking_message(cube, modality)
    assert f"{', '.join(f'{band} in {share:.1f}%' for band, share in shares.items())} of" in message
    with pytest.warns(xtm.TerraMindWarning) as caught:
        found = embed(cube, modality=modality).compute()
    said = [str(warning.message) for warning in caught]
    if kind == "lazy":  # the first block has a share of its own
        assert any(re.search(rf"others? .*{next(iter(shares))} in [0-9.]+%", text) for text in said)
    else:
        assert message in said
    # As ever, a pixel is valid where all bands are.
    whole = cube.to_dataarray("band") if kind == "dataset" else cube
    nodata = make().attrs.get("nodata")
    valid = (whole.notnull() & (whole != nodata)).all("band").values
    expected = valid.reshape(4, 16, 4, 16).mean((1, 3))
    np.testing.assert_allclose(found.valid_fraction, expected, atol=1e-6)


@TOLD
@pytest.mark.parametrize("kind", ["array", "dataset"])
@pytest.mark.parametrize("name", LACKING)
def test_what_is_told_of_a_band_without_values_mends_it(name, kind):
    make, modality, shares = LACKING[name]
    cube = make() if kind == "array" else make().to_dataset("band")
    message = lacking_message(cube, modality)
    calls = find_calls(message)
    assert calls
    for call in calls:
        mended = follow(call, cube)
        found = embed(mended, modality=modality, missing_bands="mean")
        assert not lacking_message(mended, modality, missing_bands="mean")
        assert (found.valid_fraction == 1).all()
        wanted = embed(cube, modality=modality)
        np.testing.assert_array_equal(found.x, wanted.x)
        np.testing.assert_array_equal(found.y, wanted.y)
        assert found.rio.crs == wanted.rio.crs
        if "drop_sel" in call:
            assert found.attrs["bands_missing"] == list(shares)
        else:
            assert "bands_missing" not in found.attrs
            before = cube.to_dataarray("band") if kind == "dataset" else cube
            after = mended.to_dataarray("band") if kind == "dataset" else mended
            assert bool(
                (after.where(before.notnull()) == before).where(before.notnull(), True).all()
            )


def test_bands_masked_each_for_itself_are_told_how_to_say_so():
    cube = scene().astype("float32")
    for number, band in enumerate(BANDS):
        cube.loc[{"band": band}] = cube.sel(band=band).where(cube.x > cube.x[number])
    message = lacking_message(cube, "S2L2A")
    assert "B12" in message and "B2 in" in message
    names = {"cube": cube}
    for call in find_calls(message):
        exec(call, names)
    assert not lacking_message(names["cube"], "S2L2A")
    np.testing.assert_array_equal(embed(names["cube"]), embed(cube))


def test_dark_pixels_that_a_reader_masked_come_back(tmp_path):
    cube = scene().astype("uint16")
    cube.loc[{"band": "B12"}] = cube.sel(band="B12").where(cube.x > cube.x[4], 0)
    cube[:, 16:, 16:] = 0
    wanted = embed(cube)
    cube.drop_vars("band").assign_attrs(long_name=tuple(BANDS)).rio.write_nodata(0).rio.to_raster(
        tmp_path / "s2.tif"
    )
    with rioxarray.open_rasterio(tmp_path / "s2.tif", masked=True) as masked:
        message = lacking_message(masked, "S2L2A")
        assert "B12 in" in message and "cube.fillna(0)" in find_calls(message)
        np.testing.assert_allclose(embed(masked.fillna(0)), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        scene,
        lambda: scene().astype("float32"),
        lambda: scene().astype("float32").where(scene().x > scene().x[5]),
        lambda: scene().where(scene().x > scene().x[5], 0),
        lambda: scene().where(scene().x > scene().x[5], 0).rio.write_nodata(0),
        lambda: scene().astype("int16").where(scene().x > scene().x[5], -1).rio.write_nodata(-1),
        lambda: with_hole(scene().astype("float32"), "B4", 1, np.nan),
        lambda: scene().astype("float32") * np.nan,
        lambda: scene()[:1].assign_coords(band=["DEM"]).astype("float32").where(scene().x[3] > 0),
    ],
    ids="whole floats NaN zeros declared nodata one-pixel nothing dem".split(),
)
def test_pixels_that_lack_all_bands_are_no_news(make):
    cube = make()
    modality = "DEM" if cube.sizes["band"] == 1 else "S2L2A"
    assert not lacking_message(cube, modality)


@pytest.mark.parametrize("size_px", [200, 300, 420, 600])
@pytest.mark.parametrize("apart", [2, 3, 6])
def test_the_sample_meets_coarse_bands_in_their_true_share(size_px, apart):
    big = xtm.sample_scene(size_px).load()
    cube = thin_out(big, ["B9"], apart, 0)
    true = 100 * float(cube.sel(band="B9").isnull().mean())
    for image in (cube, cube.chunk(y=100, x=100)):
        said = re.search(r"B9 in ([\d.]+)%", lacking_message(image, "S2L2A"))
        assert float(said[1]) == pytest.approx(true, abs=2)


# Nodata that some bands declare


def dark_scene() -> xr.DataArray:
    """Zeros in single bands, which are values, and zeros in all bands, which are none."""
    cube = scene().where(scene() > 300, 0).astype("uint16")
    cube[:, 16:, 16:] = 0
    assert bool((cube == 0).any("band")[:16].any())
    return cube


def declare(cube: xr.DataArray, values: dict[str, float], key: str = "nodata") -> xr.Dataset:
    made = xr.Dataset(
        {str(b): cube.sel(band=b, drop=True).assign_attrs({}) for b in cube.band.values}
    )
    for name, value in values.items():
        made[name].attrs[key] = value
    return made


@given(
    some=st.sets(st.sampled_from(BANDS)),
    key=st.sampled_from(["nodata", "_FillValue", "missing_value"]),
    beside=st.sets(st.sampled_from(["SCL", "AOT", "cloud"])),
    dtype=st.sampled_from(["uint16", "int16", "float32"]),
)
@settings(deadline=None, max_examples=25)
def test_zero_counts_the_same_whoever_declares_it(some, key, beside, dtype):
    cube = dark_scene().astype(dtype)
    made = declare(cube, dict.fromkeys(some, 0), key)
    for number, name in enumerate(sorted(beside)):
        layer = cube[0].drop_vars("band").astype("uint8") * 0 + 4
        made[name] = layer.assign_attrs({"nodata": 4} if number % 2 else {})
    arranged = made.terramind.arrange("S2L2A")
    assert arranged.dtype == dtype or beside
    found = embed(arranged)
    wanted = embed(cube)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(found.valid_fraction, wanted.valid_fraction)


# Name -> (what each band declares, where which band holds that value, valid fractions)
DECLARED = {
    "none": ({}, {}, [[1, 1], [1, 0]]),
    "some -9999": ({"B1": -9999}, {"B1": -9999}, [[0.75, 1], [1, 0]]),
    "0 and -9999": ({"B1": -9999, "B2": 0, "B3": 0}, {"B1": -9999}, [[0.75, 1], [1, 0]]),
    "all -9999 but one": (
        {band: -9999 for band in BANDS if band != "B3"},
        {"B2": -9999},
        [[0.75, 1], [1, 0]],
    ),
    "a value elsewhere": ({"B1": 5000}, {"B2": 5000}, [[1, 1], [1, 0]]),
    "two values": ({"B1": -9999, "B2": 32767}, {"B2": 32767}, [[0.75, 1], [1, 0]]),
}


@TOLD
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a layer"])
@pytest.mark.parametrize("name", DECLARED)
def test_declared_values_mask_their_own_band(name, beside):
    values, held, fraction = DECLARED[name]
    cube = dark_scene().astype("int16")
    for band, value in held.items():
        cube.loc[{"band": band}].values[:8, :8] = value
    made = declare(cube, values)
    if beside:
        made["SCL"] = made["B4"].astype("uint8").assign_attrs(nodata=0)
    before = made.copy(deep=True)
    found = embed(made.terramind.arrange("S2L2A"))
    np.testing.assert_allclose(found.valid_fraction, fraction)
    if not beside:
        xr.testing.assert_allclose(embed(made), found)
    xr.testing.assert_identical(made, before)


def test_a_layer_beside_keeps_neither_dtype_nor_nodata_from_the_bands():
    made = declare(scene().astype("int16"), dict.fromkeys(BANDS, -9999))
    made["SCL"] = made["B4"].astype("uint8").assign_attrs({})
    arranged = made.terramind.arrange("S2L2A")
    assert arranged.dtype == "int16" and arranged.attrs["nodata"] == -9999


def test_radar_bands_are_masked_by_what_each_declares():
    cube = noise_image("S1GRD", 32, 32)
    cube[:, :16, :16] = 0
    made = declare(cube, {"VV": 0})
    with pytest.warns(xtm.TerraMindWarning, match="VV in 25.0%"):
        found = embed(made, modality="S1GRD")
    assert found.valid_fraction.values.tolist() == [[0, 1], [1, 1]]
