"""The check: what is wrong with a cube, with the figure and the remedy, before hours are spent."""

import numpy as np
import pytest
import xarray as xr

import xr_terramind as xtm
from tests.support.cubes import BANDS, counted, embed, image, radar, scene, sealed


@pytest.fixture(autouse=True)
def _small_windows():
    with xtm.set_options(window_size=32):
        yield


def degrees(cube: xr.DataArray) -> xr.DataArray:
    along = 1e-4 * np.arange(32)
    bare = cube.drop_vars("spatial_ref")  # its transform would contradict them
    return bare.assign_coords(y=60 - along, x=20 + along).rio.write_crs(4326)


def some(cube: xr.DataArray, n_pixels: int, value: float) -> xr.DataArray:
    """Another value in all bands of some of the 1024 pixels."""
    changed = cube.copy(deep=True)
    changed.values.reshape(12, -1)[:, :n_pixels] = value
    return changed


def unnamed(cube: xr.DataArray) -> xr.DataArray:
    return cube.drop_vars("band")


def linear(cube: xr.DataArray) -> xr.DataArray:
    return 10 ** (cube / 10)


# What is wrong -> (cube, modality, code, severity, parts of the message).
ISSUES = {
    "no x": (lambda: scene().isel(x=0), "S2L2A", "dims", "error", ["('band', 'y')", "expand_dims"]),
    "text": (lambda: scene().astype(str), "S2L2A", "dtype", "error", ["<U", "astype('float32')"]),
    "no row": (lambda: scene()[:, :0], "S2L2A", "dims", "error", ["empty cube", "left y empty"]),
    "two bands short": (
        lambda: scene().isel(band=slice(10)),
        "S2L2A",
        "bands",
        "error",
        ["without B11, B12", "missing_bands='mean'"],
    ),
    "a column lost": (
        lambda: scene(32, 64).isel(x=[*range(9), *range(10, 64)]),
        "S2L2A",
        "grid",
        "error",
        ["coordinate x", "unevenly spaced", "reproject"],
    ),
    "no CRS": (
        lambda: scene().drop_vars("spatial_ref"),
        "S2L2A",
        "no-crs",
        "warning",
        ["no CRS", "write_crs"],
    ),
    "degrees": (
        lambda: degrees(scene()),
        "S2L2A",
        "pixel-size",
        "warning",
        ["5.58 x 11.14 m", "10 m", "reproject"],
    ),
    "narrow": (
        lambda: scene(32, 31),
        "S2L2A",
        "small-extent",
        "warning",
        ["32 x 31 pixels", "32 x 32 pixels", "fit='resize'"],
    ),
    "unnamed bands": (
        lambda: unnamed(scene()),
        "S2L2A",
        "band-order-assumed",
        "warning",
        ["12 bands without names", "B8, B8A, B9", "assign_coords"],
    ),
    "0-1 reflectance": (
        lambda: scene() / 10000,
        "S2L2A",
        "reflectance-0-1",
        "error",
        ["0-1 reflectance", "0 to 10000", "Multiply by 10000", "cube * 10000"],
    ),
    "5.1 % above": (
        lambda: some(scene(), 52, 12345),
        "S2L2A",
        "value-range",
        "warning",
        ["5.1% of the valid values above 10000", "12345", "clipped"],
    ),
    "5.1 % below": (
        lambda: some(scene().astype("int16"), 52, -321),
        "S2L2A",
        "value-range",
        "warning",
        ["5.1% of the valid values below 0", "-321", "clipped"],
    ),
    "+1000": (
        lambda: scene() + 1000,
        "S2L2A",
        "boa-offset",
        "warning",
        ["no valid value under 1000", "+1000", "cube.where(cube != 0) - 1000"],
    ),
    "linear power": (
        lambda: linear(radar()),
        "S1GRD",
        "linear-power",
        "error",
        ["none negative", "dB", "10 * log10"],
    ),
    "linear power, RTC": (
        lambda: linear(radar()),
        "S1RTC",
        "linear-power",
        "error",
        ["none negative", "dB", "10 * log10"],
    ),
    "0-1 colours": (
        lambda: scene().sel(band=["B4", "B3", "B2"]) / 10000,
        "RGB",
        "reflectance-0-1",
        "error",
        ["0 to 255", "cube * 255"],
    ),
    "colours of 16 bits": (
        lambda: scene().sel(band=["B4", "B3", "B2"]),
        "RGB",
        "value-range",
        "warning",
        ["above 255"],
    ),
}


@pytest.mark.parametrize("name", ISSUES)
def test_each_issue_has_its_code_figure_and_remedy(name):
    make, modality, code, severity, parts = ISSUES[name]
    report = make().terramind.check(modality=modality)
    issue = next(issue for issue in report.issues if issue.code == code)
    assert issue.severity == severity
    assert report.ok == (severity == "warning")
    for part in ("found", "; expected", *parts):
        assert part in issue.message


@pytest.mark.parametrize("chunks", [None, {"x": 16}], ids=["eager", "lazy"])
@pytest.mark.parametrize("name", [name for name, issue in ISSUES.items() if issue[3] == "error"])
def test_embed_refuses_what_check_calls_an_error(name, chunks):
    make, modality, *_, parts = ISSUES[name]
    cube = make()
    cube = cube if chunks is None or "x" not in cube.dims else cube.chunk(chunks)
    with pytest.raises(xtm.TerraMindError) as raised:
        embed(cube, modality=modality).compute()
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize("chunks", [None, {"x": 16}], ids=["eager", "lazy"])
@pytest.mark.parametrize("name", [name for name, issue in ISSUES.items() if issue[3] == "warning"])
def test_embed_goes_on_and_warns_where_check_does(name, chunks):
    make, modality, *_, parts = ISSUES[name]
    cube = make() if chunks is None else make().chunk(chunks)
    with pytest.warns(xtm.TerraMindWarning) as caught:
        embed(cube, modality=modality).compute()
    assert any(all(part in str(w.message) for part in parts) for w in caught)


@pytest.mark.parametrize(
    "cube",
    [scene(), scene().chunk(x=16), scene(n_times=2), scene().astype("float64")],
    ids=["eager", "lazy", "series", "float"],
)
def test_a_cube_as_it_should_be_has_no_issue(cube):
    report = cube.terramind.check()
    assert report.ok
    assert report.issues == ()
    report.raise_for_errors()
    assert "ready to embed" in repr(report)


def test_radar_in_decibel_and_heights_have_no_issue():
    assert radar().terramind.check(modality="S1GRD").issues == ()
    heights = image(["DEM"], np.full((1, 32, 32), 0.5, "float32"))
    assert heights.terramind.check(modality="DEM").issues == ()


def test_all_that_is_wrong_is_found_at_one_look():
    cube = scene(31, 32).isel(band=slice(11)).assign_coords(x=np.arange(32) ** 2.0)
    report = cube.terramind.check()
    assert {issue.code for issue in report.issues} >= {"bands", "grid", "small-extent"}
    assert [issue.severity for issue in report.issues] == sorted(
        issue.severity for issue in report.issues
    )
    with pytest.raises(xtm.TerraMindError) as raised:
        report.raise_for_errors()
    for part in ("without B12", "unevenly spaced"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: scene().isel(x=0), xtm.GridError),
        (lambda: scene().isel(band=slice(3)), xtm.BandError),
        (lambda: scene() > 500, xtm.ValueRangeError),
        (lambda: scene() / 10000, xtm.ValueRangeError),
    ],
)
def test_raise_for_errors_raises_the_class_that_fits(make, kind):
    with pytest.raises(kind):
        make().terramind.check().raise_for_errors()


def test_check_never_raises_for_what_is_wrong_with_a_cube():
    report = xr.Dataset({"mean": ("time", [1.0])}).terramind.check()
    assert not report.ok
    assert "mean" in report.issues[0].message


# Reports


def test_the_text_says_verdict_facts_and_issues():
    report = degrees(scene() / 10000).terramind.check()
    text = repr(report)
    assert "1 error, 1 warning" in text
    assert "B8A=B8A" in text
    assert "EPSG:4326" in text
    for issue in report.issues:
        assert f"{issue.severity} [{issue.code}] {issue.message}" in text


def test_the_html_says_the_same_and_is_escaped():
    names = [f"<{name}>" for name in BANDS]
    with_issue = degrees(scene().assign_coords(band=names)).terramind.check()
    html = with_issue._repr_html_()
    assert "B8A=&lt;B8A&gt;" in html and "<B8A>" not in html
    assert "pixel-size" in html and "5.58 x 11.14 m" in html
    broken = scene().isel(band=slice(11)).assign_coords(band=[*names[:10], "<script>alert(1)"])
    assert "<script>" not in broken.terramind.check()._repr_html_()
    assert "&lt;script&gt;alert(1)" in broken.terramind.check()._repr_html_()


# Values


@pytest.mark.parametrize("value", [12000, -5])
@pytest.mark.parametrize(("n_pixels", "warns"), [(51, False), (52, True)])
def test_values_out_of_range_warn_from_five_percent_on(value, n_pixels, warns):
    report = some(scene().astype("int16"), n_pixels, value).terramind.check()
    assert ("value-range" in {issue.code for issue in report.issues}) == warns


def test_the_range_is_judged_without_nodata():
    cube = some(scene().astype("int32"), 256, 65535).rio.write_nodata(65535)
    report = cube.terramind.check()
    assert "value-range" not in {issue.code for issue in report.issues}
    assert "75.0% of 1024 sampled pixels valid" in report.facts["values"]


@pytest.mark.parametrize(
    "make",
    [
        lambda cube: cube.where(cube.x > cube.x[3]),  # NaN beside it
        lambda cube: (cube.where(cube.x > cube.x[3], -9999)).assign_attrs(_FillValue=-9999),
        lambda cube: cube.astype("float32"),
        lambda cube: cube.where((cube.x > cube.x[3]) | (cube.y < cube.y[1]), 2.5),  # 0.8 % glint
    ],
    ids=["NaN", "nodata", "float32", "glint"],
)
def test_reflectance_is_recognised_beside_nodata_and_glint(make):
    report = make(scene() / 10000).terramind.check()
    assert [issue.code for issue in report.issues] == ["reflectance-0-1"]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_dark_digital_numbers_are_no_reflectance(dtype):
    values = np.random.default_rng(0).integers(0, 2, (12, 32, 32)).astype(dtype)
    assert image(BANDS, values).terramind.check().ok


@pytest.mark.parametrize("output", ["grid", "windows", "pooled"])
def test_reflectance_fails_at_once_in_memory_and_with_the_first_block_when_lazy(output):
    cube = scene(64, 64) / 10000
    with pytest.raises(xtm.ValueRangeError, match="Multiply by 10000"):
        embed(cube, output=output)
    lazy = embed(cube.chunk(x=32, y=32), output=output)
    with pytest.raises(xtm.ValueRangeError, match="Multiply by 10000"):
        lazy.compute()


def test_a_lazy_failure_reads_a_few_chunks_only():
    cube, reads = counted(scene(64, 64) / 10000, x=16, y=16)
    with pytest.raises(xtm.ValueRangeError):
        embed(cube).compute(scheduler="synchronous")
    assert 1 <= len(reads) < 16


@pytest.mark.parametrize("shift", [0, 1000])
def test_dark_pixels_tell_the_offset(shift):
    codes = {issue.code for issue in (scene() + shift).terramind.check().issues}
    assert ("boa-offset" in codes) == (shift == 1000)


NOTHING = {
    "Sentinel-2, zeros": lambda: image(BANDS, np.zeros((12, 32, 32), "uint16")),
    "Sentinel-2, NaN": lambda: image(BANDS, np.full((12, 32, 32), np.nan)),
    "Sentinel-2, nodata": lambda: image(
        BANDS, np.full((12, 32, 32), -9999, "int16")
    ).rio.write_nodata(-9999),
    "Sentinel-1, NaN": lambda: image(["VV", "VH"], np.full((2, 32, 32), np.nan)),
    "DEM, NaN": lambda: image(["DEM"], np.full((1, 32, 32), np.nan)),
}


@pytest.mark.parametrize("chunks", [None, {"x": 16}], ids=["eager", "lazy"])
@pytest.mark.parametrize("name", NOTHING)
def test_a_cube_without_a_valid_pixel_is_no_error_and_embeds_to_nan(name, chunks):
    cube = NOTHING[name]() if chunks is None else NOTHING[name]().chunk(chunks)
    modality = {"1": "S1GRD", "2": "S2L2A"}.get(name[9:10], "DEM")
    report = cube.terramind.check(modality=modality)
    assert report.ok
    assert "no valid pixel" in report.facts["values"]
    for output, shape in (("grid", (192, 2, 2)), ("windows", (192, 1, 1)), ("pooled", (192,))):
        result = embed(cube, modality=modality, output=output).compute()
        assert result.shape == shape
        assert np.isnan(result).all()
        assert (result.valid_fraction == 0).all()


# Lazy cubes


def test_checking_a_lazy_cube_reads_four_windows():
    big = xtm.sample_scene(size_px=320)
    cube, reads = counted(big, x=32, y=32)
    assert cube.terramind.check().ok
    assert 4 <= len(set(reads)) <= 16  # 4 windows of 32 px touch at most 4 chunks each, of 100
    assert {place[-2:] for place in reads} >= {(0, 0), (9, 9)}


def test_a_sample_of_one_reads_one_window():
    cube, reads = counted(xtm.sample_scene(size_px=320), x=32, y=32)
    assert cube.terramind.check(sample=1).ok
    assert 1 <= len(set(reads)) <= 4


def test_checking_a_lazy_series_looks_at_the_first_and_the_last_date():
    series = xr.concat([scene(), scene(), scene() / 10000], "time").assign_coords(
        time=np.arange("2022-06", "2022-09", dtype="datetime64[M]").astype("datetime64[ns]")
    )
    cube, reads = counted(series, time=1)
    assert {place[0] for place in reads} == set()
    cube.terramind.check()
    assert {place[0] for place in reads} >= {0, 2}


def test_what_is_wrong_without_the_pixels_is_said_without_reading_any():
    report = sealed(scene().isel(band=slice(11))).terramind.check()
    assert [issue.code for issue in report.issues] == ["bands"]


def test_a_lazy_cube_is_judged_like_one_in_memory():
    for cube in (scene() / 10000, scene() + 1000, degrees(scene())):
        codes = [issue.code for issue in cube.terramind.check().issues]
        assert codes and [i.code for i in cube.chunk(x=10).terramind.check().issues] == codes
