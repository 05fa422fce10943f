"""What users type: signatures and docstrings that show all, and what an object says it is."""

import inspect
import re
from dataclasses import fields

import numpy as np
import pytest
import xarray as xr
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import xr_terramind as xtm
from tests.support.cubes import embed, image, radar, scene, sealed
from xr_terramind import accessor
from xr_terramind.options import EmbedOptions

OPTIONS = [field.name for field in fields(EmbedOptions) if field.name != "output"]
METHODS = sorted(name for name in vars(xtm.TerraMindAccessor) if not name.startswith("_"))


def test_the_package_shows_its_public_names_alone():
    assert dir(xtm) == sorted(xtm.__all__)


def test_embed_is_a_function_never_a_module():
    assert inspect.isfunction(xtm.embed)
    cube = scene()
    xr.testing.assert_identical(
        xtm.embed(cube, model="terramind_v1_tiny", weights="random", window_size=32, device="cpu"),
        embed(cube),
    )


@pytest.mark.parametrize("name", ["embed", "plan"])
def test_every_option_stands_in_the_signature_with_its_default(name):
    shown = inspect.signature(getattr(scene().terramind, name)).parameters
    defaults = {field.name: field.default for field in fields(EmbedOptions)}
    assert next(iter(shown)) == "output"
    assert {option: shown[option].default for option in OPTIONS} == {
        option: defaults[option] for option in OPTIONS
    }
    assert all(shown[option].kind is inspect.Parameter.KEYWORD_ONLY for option in OPTIONS)
    assert not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in shown.values())


@pytest.mark.parametrize("name", ["embed", "plan"])
def test_every_option_stands_in_the_docstring(name):
    text = inspect.getdoc(getattr(scene().terramind, name))
    assert all(f"\n{option} : " in text for option in ["output", *OPTIONS])
    assert "{options}" not in text


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("cube.terramind.embed(mo", {"model=", "modality="}),
        ("cube.terramind.plan(over", {"overlap="}),
        ("xtm.set_options(fetch_w", {"fetch_workers="}),
        ("xtm.embed_array(array, pool", {"pooling="}),
        ("cube.terramind.to_zarr('e.zarr', res", {"resume="}),
        ("cube.terramind.similarity(c", {"crs="}),
    ],
)
def test_ipython_completes_keywords(typed, offered):
    shell = InteractiveShell.instance()
    shell.user_ns.update(cube=scene(), xtm=xtm, array=np.zeros((12, 16, 16)))
    with provisionalcompleter():
        found = {one.text for one in shell.Completer.completions(typed, len(typed))}
    assert offered <= found


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_documented_and_says_nothing_of_what_it_stands_on(name):
    member = inspect.getattr_static(xtm.TerraMindAccessor, name)
    text = inspect.getdoc(member)
    assert text.splitlines()[0].endswith((".", ":"))
    assert not re.search(r"(?m)^(cube|embedding|image|quantized)(,.*)? : ", text)
    if inspect.isfunction(member):
        assert member.__qualname__ == f"TerraMindAccessor.{name}"
        assert next(iter(inspect.signature(member).parameters)) == "self"
        documented = text.partition("Parameters\n")[2]
        for parameter in list(inspect.signature(member).parameters)[1:]:
            assert f"{parameter} : " in documented or f"{parameter}, " in documented, parameter


def test_methods_pass_arguments_on_as_they_are():
    grid = embed(scene(64, 64))
    by_place = grid.terramind.similarity(x=float(grid.x[1]), y=float(grid.y[1]))
    by_vector = grid.terramind.similarity(grid[:, 1, 1].values)
    np.testing.assert_allclose(by_place, by_vector, atol=1e-6)
    with pytest.raises(TypeError, match="unexpected keyword"):
        grid.terramind.similarity(nowhere=1)


def unpacked(cube):
    return cube.assign_coords(band=cube.band.values.astype(str)).to_dataset("band")


@pytest.mark.parametrize(
    ("make", "says", "offers"),
    [
        (scene, ["cube", "12 bands of S2L2A", "y 32", "EPSG:32632"], ".embed()"),
        (lambda: unpacked(scene()), ["cube", "12 bands of S2L2A"], ".embed()"),
        (lambda: sealed(scene()), ["12 bands of S2L2A", "lazy"], ".plan()"),
        (radar, ["cube", "2 bands of S1GRD or S1RTC"], ".check()"),
        (lambda: image(["B4", "B3", "B2"], np.ones((3, 32, 32))), ["3 bands of RGB"], ".embed()"),
        (
            lambda: scene().drop_vars("band"),
            ["12 bands of S2L2A", "order that is assumed"],
            ".arrange()",
        ),
        (
            lambda: scene().drop_sel(band=["B1", "B9"]),
            ["cube", "10 of the 12 bands of S2L2A"],
            ".check()",
        ),
        (lambda: scene().sel(band=["B4", "B3", "B2"]), ["the 3 bands of RGB"], ".embed()"),
        (lambda: embed(scene()), ["embedding of S2L2A", "tiny", "feature 192"], ".to_zarr()"),
        (lambda: embed(scene(), output="pooled"), ["embedding of S2L2A", "tiny"], ".to_zarr()"),
        (lambda: embed(scene()).terramind.quantize(), ["int8", "tiny"], ".dequantize()"),
        (lambda: embed(scene(64, 64)).terramind.cluster(2), ["cluster", "tiny"], ".to_cog()"),
        (lambda: xr.DataArray(np.zeros(3), dims="x"), ["neither", "x 3"], ".check()"),
    ],
    ids=["cube", "dataset", "lazy", "radar", "colour", "unnamed", "ten bands", "three", "grid",
         "pooled", "int8", "map", "neither"],
)  # fmt: skip
def test_an_object_says_what_it_is_and_what_can_be_done(make, says, offers):
    shown = make().terramind
    text, html = repr(shown), shown._repr_html_()
    assert text.startswith("<terramind: ")
    for words in [*says, offers]:
        assert words in text
        assert words.replace("()", "") in html


def test_every_method_is_offered_for_some_object():
    offered = {name for names in accessor._METHODS.values() for name in names}
    assert offered == set(METHODS)
