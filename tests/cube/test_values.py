"""What values mean: units, the offset, nodata; a few odd values hide nothing, remedies work."""

import ast
import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xr_terramind as xtm
from tests.support.cubes import BANDS, QUICK, embed, image, radar, scene
from xr_terramind.inference import encode

WAYS = ["eager", "lazy", "Dataset", "series"]
DATES = np.array(["2021-05-02", "2021-12-30", "2022-02-01", "2022-06-15"], "datetime64[ns]")


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch):
    monkeypatch.setattr(encode, "_warned", set())  # the same pixels come again and again
    with xtm.set_options(window_size=32):
        yield


def whole() -> xr.DataArray:
    return scene(64, 64).load()


def series(*cubes: xr.DataArray) -> xr.DataArray:
    return xr.concat(cubes, "time").assign_coords(time=DATES[: len(cubes)])


def colours() -> xr.DataArray:
    picked = whole().sel(band=["B4", "B3", "B2"])
    return (picked // 40).clip(1, 255).astype("uint8").assign_attrs(units="8-bit colour")


def power(noise: float = 0.0) -> xr.DataArray:
    """Linear backscatter, of which noise that was subtracted makes some negative."""
    linear = 10 ** (radar(size_px=64) / 10)
    return linear - np.float32(noise)


def mask(cube: xr.DataArray, value: float, dtype: str | None = None) -> xr.DataArray:
    """A corner of 20 % of the pixels, all bands of which hold one value."""
    changed = cube.astype(dtype or cube.dtype).copy(deep=True)
    changed.values[..., :26, :32] = value
    return changed


def shadows(cube: xr.DataArray, share: float = 0.02) -> xr.DataArray:
    """Some values fall below 1000: the reason for the offset."""
    rng = np.random.default_rng(1)
    changed = cube.copy(deep=True)
    dark = rng.random(cube.shape) < share
    changed.values[dark] = rng.integers(900, 1000, dark.sum())
    return changed


# Kind: (what is there, the same in the unit of the modality, modality, code, severity).
KINDS = {
    "percent": (lambda: whole() / np.float32(100), whole, "S2L2A", "percent", "warning"),
    "percent, rounded, units": (
        lambda: (whole() / 100).round().astype("uint8").assign_attrs(units="%"),
        lambda: (whole() / 100).round() * 100,
        "S2L2A",
        "percent",
        "warning",
    ),
    "bytes": (
        lambda: (whole() * 0.0255).round().astype("uint8"),
        lambda: (whole() * 0.0255).round() / 0.0255,
        "S2L2A",
        "bytes",
        "warning",
    ),
    "bytes as floats": (
        lambda: (whole() * 0.0255).round().astype("float32"),
        lambda: (whole() * 0.0255).round() / 0.0255,
        "S2L2A",
        "bytes",
        "warning",
    ),
    "0-1": (lambda: whole() / 10000, whole, "S2L2A", "reflectance-0-1", "error"),
    "0-1, nodata declared": (
        lambda: mask(whole() / 10000, -9999).assign_attrs(_FillValue=-9999),
        lambda: mask(whole().astype(float), np.nan),
        "S2L2A",
        "reflectance-0-1",
        "error",
    ),
    "0-1 with the offset": (
        lambda: (whole() + 1000) / 10000,
        whole,
        "S2L2A",
        "reflectance-0-1",
        "error",
    ),
    "0-1 colours": (
        lambda: colours() / 255,
        colours,
        "RGB",
        "reflectance-0-1",
        "error",
    ),
    "offset": (lambda: whole() + 1000, whole, "S2L2A", "boa-offset", "warning"),
    "offset with shadows": (
        lambda: shadows(whole() + 1000),
        lambda: shadows(whole() + 1000).astype("int16") - 1000,
        "S2L2A",
        "boa-offset",
        "warning",
    ),
    "offset beside zeros": (
        lambda: mask(whole() + 1000, 0),
        lambda: mask(whole().astype(float), np.nan),
        "S2L2A",
        "boa-offset",
        "warning",
    ),
    "offset beside declared nodata": (
        lambda: mask(whole() + 1000, 65535).rio.write_nodata(65535),
        lambda: mask(whole().astype(float), np.nan),
        "S2L2A",
        "boa-offset",
        "warning",
    ),
    "offset in attrs": (
        lambda: (whole() + 1000).assign_attrs(scale_factor=1e-4, add_offset=-0.1),
        whole,
        "S2L2A",
        "boa-offset",
        "warning",
    ),
    "packed in bytes": (
        lambda: (whole() // 40).astype("uint8").assign_attrs(scale_factor=0.004),
        lambda: (whole() // 40) * 40,
        "S2L2A",
        "packed-values",
        "warning",
    ),
    "packed like Landsat": (
        lambda: (
            ((whole() / 10000 + 0.2) / 2.75e-5)
            .astype("uint16")
            .assign_attrs(scale_factor=2.75e-5, add_offset=-0.2)
        ),
        whole,
        "S2L2A",
        "packed-values",
        "warning",
    ),
    "linear power": (power, lambda: radar(size_px=64), "S1GRD", "linear-power", "error"),
    "linear power, a few negative": (
        lambda: power(0.003),
        lambda: 10 * np.log10(power(0.003).where(power(0.003) > 0)),
        "S1RTC",
        "linear-power",
        "error",
    ),
    "linear power, many negative": (
        lambda: power(0.02),
        lambda: 10 * np.log10(power(0.02).where(power(0.02) > 0)),
        "S1GRD",
        "linear-power",
        "error",
    ),
    "dB x 100": (
        lambda: (radar(size_px=64) * 100).round().astype("int16"),
        lambda: (radar(size_px=64) * 100).round() / 100,
        "S1GRD",
        "decibel-scaled",
        "warning",
    ),
    "dB x 10": (
        lambda: (radar(size_px=64) * 10).round().astype("int16"),
        lambda: (radar(size_px=64) * 10).round() / 10,
        "S1RTC",
        "decibel-scaled",
        "warning",
    ),
    "dB packed in bytes": (
        lambda: (
            ((radar(size_px=64) + 50) * 4)
            .astype("uint8")
            .assign_attrs(scale_factor=0.25, add_offset=-50.0)
        ),
        lambda: ((radar(size_px=64) + 50) * 4).astype("uint8") / 4 - 50.0,
        "S1GRD",
        "packed-values",
        "warning",
    ),
    "feet": (
        lambda: image(["DEM"], np.full((1, 64, 64), 1000, "int16")).assign_attrs(units="feet"),
        lambda: image(["DEM"], np.full((1, 64, 64), 304.8)),
        "DEM",
        "height-unit",
        "warning",
    ),
    **{
        f"{modality}, {value} undeclared": (
            lambda make=make, value=value, dtype=dtype: mask(make(), value, dtype),
            lambda make=make: mask(make().astype(float), np.nan),
            modality,
            "undeclared-nodata",
            "warning",
        )
        for modality, make, value, dtype in (
            ("S2L2A", whole, -9999, "int16"),
            ("S2L2A", whole, 65535, None),
            ("S2L2A", whole, 32767, "int16"),
            ("S2L2A", whole, 7, None),
            ("S2L2A", whole, -1000, "float32"),
            ("S2L2A", whole, 3.4028235e38, "float32"),
            ("S1GRD", lambda: radar(size_px=64), 0, None),
            ("S1RTC", lambda: radar(size_px=64), -99.5, None),
            ("RGB", colours, 0, None),
            ("DEM", lambda: image(["DEM"], np.full((1, 64, 64), 12, "int16")), -32768, None),
        )
    },
}


def given_as(way: str, cube: xr.DataArray) -> xr.DataArray | xr.Dataset:
    if way == "Dataset":
        return cube.to_dataset("band")
    if way == "series":
        return series(cube, cube)
    return cube.chunk(x=32) if way == "lazy" else cube


def calls_in(message: str) -> list[str]:
    """The Python in a message: from ``cube`` on, as far as it is an expression."""
    found = []
    for start in re.finditer(r"(10 \* numpy|\(+cube\b|cube[. ])", message):
        if found and start.start() < found[-1][1]:
            continue
        for stop in range(len(message), start.start(), -1):
            text = message[start.start() : stop].rstrip(" .,")
            try:
                parsed = ast.parse(text, mode="eval").body
            except SyntaxError:
                continue
            if not isinstance(parsed, ast.Tuple | ast.Name) and not re.search(r"\. [A-Z]", text):
                found.append((text, stop))
                break
    return [text for text, _ in found]


def mend(cube: xr.DataArray | xr.Dataset, message: str) -> list[xr.DataArray | xr.Dataset]:
    remedy = message.partition("; expected ")[2]
    calls = [call.removesuffix(".terramind.embed(...)") for call in calls_in(remedy)]
    if isinstance(cube, xr.Dataset):
        calls = [call for call in calls if "write_nodata" not in call]  # for DataArrays alone
    return [eval(call, {"cube": cube, "numpy": np}) for call in calls]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_is_told_and_its_remedy_gives_the_right_values(kind, way):
    make, right, modality, code, severity = KINDS[kind]
    cube = given_as(way, make())
    issues = cube.terramind.check(modality=modality).issues
    told = {issue.code: issue for issue in issues if issue.code != "value-range"}
    assert list(told) == [code]
    assert told[code].severity == severity
    mended = mend(cube, told[code].message)
    assert mended
    for after in mended:
        report = after.terramind.check(modality=modality)
        # The noise of one polarisation has no logarithm where the other one has.
        assert {issue.code for issue in report.issues} <= {"band-missing"}
        arranged = after.terramind.arrange(modality)
        values = arranged.values
        if "write_nodata" not in told[code].message:
            wanted = np.broadcast_to(right().values, values.shape)
            np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1)
        assert arranged.rio.crs == make().rio.crs
        np.testing.assert_array_equal(arranged.x, cube.x)
        np.testing.assert_array_equal(arranged.y, cube.y)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_embed_tells_the_same(kind, way):
    make, _, modality, code, severity = KINDS[kind]
    cube = given_as(way, make())
    message = next(
        i.message for i in cube.terramind.check(modality=modality).issues if i.code == code
    )
    head = re.sub(r"[\d.e+-]+%?", "#", message)[:20]  # figures are those of a block
    options = {"modality": modality, "output": "pooled"}
    if severity == "error":
        with pytest.raises(xtm.ValueRangeError, match="; expected"):
            embed(cube, **options).compute()
    else:
        with pytest.warns(xtm.TerraMindWarning) as caught:
            embed(cube, **options).compute()
        said = [re.sub(r"[\d.e+-]+%?", "#", str(w.message)) for w in caught]
        assert any(text.startswith(head) for text in said)


# No false alarm


def drawn(low: float, high: float, dtype: str = "int16", bands: list[str] = BANDS) -> xr.DataArray:
    values = np.random.default_rng(3).uniform(low, high, (len(bands), 64, 64))
    return image(bands, values.astype(dtype))


def spectrum(levels: list[float], spread: float = 0.1, dtype: str = "int16") -> xr.DataArray:
    """Bands around their levels, as uneven as real ground."""
    noise = np.random.default_rng(4).normal(1, spread, (len(levels), 64, 64))
    return image(BANDS, (np.array(levels)[:, None, None] * noise).clip(1).astype(dtype))


DEEP_WATER = [320, 300, 210, 110, 90, 80, 80, 70, 60, 60, 30, 20]
SNOW = [9200, 9300, 9100, 9000, 8900, 8600, 8500, 8200, 7800, 7600, 900, 700]
CLOUD = [11000, 11500, 11000, 11200, 11300, 11400, 11500, 11800, 11900, 12000, 6000, 4500]
DESERT = [1900, 2300, 3300, 4300, 4600, 4700, 4900, 5000, 5100, 5200, 5900, 5300]
FOREST = [120, 180, 380, 210, 650, 2200, 2900, 3000, 3200, 3300, 1400, 560]
ORDINARY = {
    "deep water": lambda: spectrum(DEEP_WATER),
    "deep water, composite": lambda: spectrum(DEEP_WATER, dtype="float32"),
    "open water": lambda: drawn(50, 400),
    "snow": lambda: spectrum(SNOW, 0.05),
    "bright snow": lambda: drawn(8000, 9900),
    "desert": lambda: spectrum(DESERT),
    "forest": lambda: spectrum(FOREST),
    "forest, floats": lambda: spectrum(FOREST, dtype="float32"),
    "series with a cloud": lambda: series(
        spectrum(FOREST), spectrum([3000] * 12), spectrum(FOREST), spectrum(SNOW, 0.05)
    ),
    "series with thin cloud": lambda: series(
        spectrum(FOREST), spectrum([level + 1500 - 110 * i for i, level in enumerate(FOREST)])
    ),
    "sample scene": whole,
    "sample scene, a corner": lambda: whole().isel(x=slice(40), y=slice(35)),
    "sample scene, coarse": lambda: scene(64, 64).coarsen(x=2, y=2).mean(),
    "GDAL's empty scale": lambda: whole().assign_attrs(scale_factor=1.0, add_offset=0.0),
    "scale of digital numbers": lambda: whole().assign_attrs(scale_factor=1e-4, add_offset=0.0),
    "odc-stac's unit": lambda: whole().assign_attrs(units="1", nodata=0),
}


@pytest.mark.parametrize("chunks", [None, {"x": 32}], ids=["eager", "lazy"])
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_scenes_bring_no_message_about_their_values(name, chunks):
    cube = ORDINARY[name]() if chunks is None else ORDINARY[name]().chunk(chunks)
    codes = {issue.code for issue in cube.terramind.check().issues}
    assert codes <= {"pixel-size", "small-extent"}


def test_clouds_that_saturate_are_out_of_range_and_nothing_else():
    codes = [issue.code for issue in spectrum(CLOUD).clip(0, 16000).terramind.check().issues]
    assert codes == ["value-range"]


@pytest.mark.parametrize(
    ("modality", "cube"),
    [
        ("S1GRD", radar(size_px=64)),
        ("S1RTC", radar(-8, size_px=64)),
        ("S1GRD", radar(9, size_px=64).clip(-50, 1)),
        ("DEM", image(["DEM"], np.zeros((1, 64, 64), "int16"))),
        ("DEM", image(["DEM"], np.linspace(-4000, 9000, 4096).reshape(1, 64, 64).round())),
        ("RGB", colours()),
        ("RGB", mask(colours(), 255)),
    ],
    ids=["radar", "calm sea", "city", "sea", "sea floor", "colours", "white cloud"],
)
def test_other_modalities_as_they_should_be_bring_no_message(modality, cube):
    assert cube.terramind.check(modality=modality).issues == ()


# Date by date


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("shifted", [[2, 3], [1], [0, 3]])
def test_the_offset_of_some_dates_is_told_by_their_names(shifted, lazy):
    cubes = [shadows(whole() + 1000, 0.01) if i in shifted else whole() for i in range(4)]
    cube = series(*cubes)
    cube = cube.chunk(time=1, x=32) if lazy else cube
    for given_cube in (cube, cube.to_dataset("band")):
        (issue,) = given_cube.terramind.check().issues
        assert issue.code == "boa-offset"
        for i in range(4):
            assert (str(DATES[i])[:10] in issue.message) == (i in shifted)
        (mended,) = mend(given_cube, issue.message)
        assert mended.terramind.check().issues == ()
        values = mended.terramind.arrange().sel(band="B8").values
        wanted = cube.sel(band="B8").values.astype(float)
        wanted[shifted] -= 1000
        np.testing.assert_allclose(values, wanted)
    with pytest.warns(xtm.TerraMindWarning, match="subtract it"):
        embed(cube).compute()


def test_a_unit_of_one_date_is_told_by_its_name():
    cube = series(whole().astype("float32"), whole() / np.float32(100), whole())
    (issue,) = cube.terramind.check().issues
    assert issue.code == "percent" and "2021-12-30" in issue.message
    (mended,) = mend(cube, issue.message)
    np.testing.assert_allclose(mended.values, series(whole(), whole(), whole()).values, rtol=1e-5)


def test_attrs_that_contradict_the_values_are_told_with_both():
    cube = whole().assign_attrs(scale_factor=1e-4, add_offset=-0.1)
    (issue,) = cube.terramind.check().issues
    assert issue.code == "offset-in-attrs"
    assert "add_offset=-0.1" in issue.message and re.search(r"\d+\.\d% would", issue.message)
    mended = mend(cube, issue.message)[0]
    assert mended.terramind.check().issues == ()


# No valid pixel


def test_a_cube_without_a_valid_pixel_is_not_ready():
    empty = (whole() * 0).astype("uint16")
    for cube in (empty, empty.chunk(x=32), series(empty, empty)):
        report = cube.terramind.check()
        assert [issue.code for issue in report.issues] == ["no-valid-pixel"]
        assert report.ok and "ready to embed" not in repr(report)
    with pytest.warns(xtm.TerraMindWarning, match="no valid pixel"):
        embed(empty)


def test_an_empty_date_or_corner_is_no_matter():
    assert series(whole(), whole() * 0).terramind.check().issues == ()
    assert mask(whole(), 0).terramind.check().issues == ()


# Unnamed bands of another modality


@pytest.mark.parametrize("fitting", ["S2L1C", "RGB", "S1GRD", "S1RTC", "DEM"])
def test_unnamed_bands_suggest_the_modality_that_has_as_many(fitting):
    from tests.support.cubes import noise_image

    cube = noise_image(fitting, 32, 32).drop_vars("band")
    with pytest.raises(xtm.BandError, match=f"modality={fitting!r}|modality='S1GRD'") as raised:
        embed(cube)
    assert f"{fitting!r}" in str(raised.value)
    assert np.isfinite(embed(cube, modality=fitting)).all()


# A few odd values, of any size, hide nothing and make up nothing.

UNITS = {
    "": lambda values: values,
    "percent": lambda values: values / np.float32(100),
    "bytes": lambda values: np.rint(values * np.float32(0.0255)),
    "reflectance-0-1": lambda values: values / np.float32(10000),
    "boa-offset": lambda values: values + 1000,
}


@settings(max_examples=60, deadline=None)
@given(
    unit=st.sampled_from(list(UNITS)),
    share=st.floats(0, 0.03),
    odd=st.sampled_from([-9999, -1, 0, 1, 0.5, 255, 950, 1500, 20000, 32767, 65535, 1e20, None]),
    pixels=st.booleans(),
    seed=st.integers(0, 99),
    way=st.sampled_from(WAYS),
)
def test_a_unit_beside_odd_values_is_right_or_told(unit, share, odd, pixels, seed, way):
    rng = np.random.default_rng(seed)
    cube = whole().astype("float32")
    values = UNITS[unit](cube.values)
    n_odd = int(share * (values[0].size if pixels else values.size))
    strange = rng.uniform(-20000, 40000, n_odd) if odd is None else odd
    if pixels:
        values.reshape(12, -1)[:, rng.permutation(values[0].size)[:n_odd]] = strange
    else:
        values.reshape(-1)[rng.permutation(values.size)[:n_odd]] = strange
    report = given_as(way, cube.copy(data=values)).terramind.check()
    units = [issue.code for issue in report.issues if issue.code in UNITS]
    assert units == ([unit] if unit else [])


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["", "linear-power", "decibel-scaled"]),
    share=st.floats(0, 0.03),
    odd=st.sampled_from([-9999, -0.01, -1, 0, 5, 40, 1e6, -32768]),
    seed=st.integers(0, 99),
)
def test_radar_beside_odd_values_is_right_or_told(kind, share, odd, seed):
    cube = radar(size_px=64)
    scaled = {"": 1.0, "decibel-scaled": 100.0}
    values = 10 ** (cube.values / 10) if kind == "linear-power" else cube.values * scaled[kind]
    places = np.random.default_rng(seed).permutation(values.size)[: int(share * values.size)]
    values.reshape(-1)[places] = odd
    report = cube.copy(data=values).terramind.check(modality="S1GRD")
    found = [issue.code for issue in report.issues if issue.code != "undeclared-nodata"]
    assert found == ([kind] if kind else [])


def test_what_is_named_nodata_is_masked_and_the_rest_judged():
    cube = mask(whole() / np.float32(100), -9999)
    codes = [issue.code for issue in cube.terramind.check().issues]
    assert set(codes) == {"undeclared-nodata", "percent", "value-range"}
    nodata = next(i for i in cube.terramind.check().issues if i.code == "undeclared-nodata")
    assert "-9999 in 20." in nodata.message and nodata.fix.nodata == -9999
    percent = next(i for i in cube.terramind.check().issues if i.code == "percent")
    assert mend(cube, percent.message)[0].terramind.check().issues == ()


def test_plain_arrays_are_told_of_the_same():
    with pytest.warns(xtm.TerraMindWarning, match="percent"):
        xtm.embed_array(whole().values / np.float32(100), **QUICK)
