"""Options: who wins, what is refused, and what the error says."""

import inspect
import os
from dataclasses import fields
from pathlib import Path
from typing import Unpack, get_args, get_type_hints

import numpy as np
import pytest
import torch

import xr_terramind as xtm
from tests.support.cubes import QUICK, embed, scene, sealed
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.specs import MODELS
from xr_terramind.options import (
    OPTIONS,
    EmbedKeywords,
    EmbedOptions,
    resolve_options,
    setting,
    show_options,
)
from xr_terramind.options.table import Modality, Model, SettingKeywords

XR, RS = "XR_TERRAMIND_", "RS_EMBED_TERRAMIND_"

# Option -> (environment variable without prefix, texts, the values that they stand for).
ENVIRONMENT = {
    "model": (
        "MODEL_KEY",
        ["terramind_v1_base", "terramind_v01_base"],
        ["terramind_v1_base", "terramind_v01_base"],
    ),
    "modality": ("MODALITY", ["s2_l1c", "S1RTC"], ["S2L1C", "S1RTC"]),
    "normalize": ("NORMALIZE", ["raw", "none"], ["raw", "none"]),
    "layer": ("LAYER_INDEX", ["3", "-2"], [3, -2]),
    "weights": ("PRETRAINED", ["0", "1"], ["random", "pretrained"]),
    "fetch_workers": ("FETCH_WORKERS", ["2", "7"], [2, 7]),
}
DEFAULTS = {
    "model": "terramind_v1_small",
    "modality": "S2L2A",
    "normalize": "zscore",
    "layer": -1,
    "weights": "pretrained",
    "fetch_workers": 8,
}
SET = {
    "model": "terramind_v1_large",
    "modality": "DEM",
    "normalize": "zscore",
    "layer": 5,
    "weights": "somewhere.pt",
    "fetch_workers": 11,
}
GIVEN = {
    "model": "terramind_v1_tiny",
    "modality": "RGB",
    "normalize": "raw",
    "layer": 0,
    "weights": "elsewhere.pt",
}


def current(name: str) -> object:
    """What an option is where nobody passes it."""
    if name == "fetch_workers":
        return setting(name, DEFAULTS[name])
    return getattr(resolve_options(), name)


# Who wins


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_explicit_then_set_options_then_ours_then_rs_embeds_then_default(name, monkeypatch):
    suffix, texts, values = ENVIRONMENT[name]
    assert current(name) == DEFAULTS[name]
    monkeypatch.setenv(RS + suffix, texts[1])
    assert current(name) == values[1]
    monkeypatch.setenv(XR + suffix, texts[0])
    assert current(name) == values[0]
    with xtm.set_options(**{name: SET[name]}):
        assert current(name) == SET[name]
        if name in GIVEN:
            assert getattr(resolve_options(**{name: GIVEN[name]}), name) == GIVEN[name]
    assert current(name) == values[0]
    monkeypatch.delenv(XR + suffix)
    assert current(name) == values[1]


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_an_empty_variable_counts_as_unset(name, monkeypatch):
    suffix, texts, values = ENVIRONMENT[name]
    monkeypatch.setenv(XR + suffix, "")
    assert current(name) == DEFAULTS[name]
    monkeypatch.setenv(RS + suffix, texts[0])
    assert current(name) == values[0]


@pytest.mark.parametrize(
    ("text", "weights"),
    [(text, "pretrained") for text in ("1", "true", "True", "yes")]
    + [(text, "random") for text in ("0", "false", "FALSE", "no")],
)
def test_pretrained_is_a_switch(text, weights, monkeypatch):
    monkeypatch.setenv(XR + "PRETRAINED", text)
    assert current("weights") == weights


def test_the_environment_reaches_the_result(monkeypatch):
    for suffix, text in (
        ("MODEL_KEY", "terramind_v1_tiny"),
        ("MODALITY", "S2_L2A"),
        ("NORMALIZE", "none"),
        ("LAYER_INDEX", "2"),
        ("PRETRAINED", "0"),
    ):
        monkeypatch.setenv(XR + suffix, text)
    result = scene().terramind.embed(window_size=32, device="cpu")
    expected = {
        "model_key": "terramind_v1_tiny",
        "modality": "S2L2A",
        "normalization": "none",
        "layer_index": 2,
        "pretrained": 0,
        "weights": "random",
    }
    assert {name: result.attrs[name] for name in expected} == expected
    np.testing.assert_array_equal(result, embed(scene(), layer=2, normalize="none"))


BAD_ENVIRONMENT = [
    ("MODEL_KEY", "terramind_v9"),
    ("MODALITY", "S3"),
    ("NORMALIZE", "minmax"),
    ("LAYER_INDEX", "last"),
    ("LAYER_INDEX", "1.5"),
    ("LAYER_INDEX", "40"),
    ("PRETRAINED", "perhaps"),
    ("FETCH_WORKERS", "0"),
    ("FETCH_WORKERS", "many"),
]


@pytest.mark.parametrize("prefix", [XR, RS])
@pytest.mark.parametrize(("suffix", "text"), BAD_ENVIRONMENT)
def test_a_bad_value_in_the_environment_names_its_variable(prefix, suffix, text, monkeypatch):
    name = next(name for name, known in ENVIRONMENT.items() if known[0] == suffix)
    monkeypatch.setenv(prefix + suffix, text)
    with pytest.raises(xtm.TerraMindError) as raised:
        current(name)
    assert prefix + suffix in str(raised.value)
    assert text in str(raised.value)


def test_an_explicit_argument_does_not_read_the_environment(monkeypatch):
    monkeypatch.setenv(XR + "MODEL_KEY", "terramind_v9")
    assert resolve_options(model="terramind_v1_base").model == "terramind_v1_base"


# set_options


def test_set_options_holds_until_the_block_ends():
    with xtm.set_options(model="terramind_v1_base", layer=3):
        assert (current("model"), current("layer")) == ("terramind_v1_base", 3)
    assert (current("model"), current("layer")) == ("terramind_v1_small", -1)


def test_set_options_nests():
    with xtm.set_options(model="terramind_v1_base", layer=3):
        with xtm.set_options(layer=4):
            assert (current("model"), current("layer")) == ("terramind_v1_base", 4)
        assert (current("model"), current("layer")) == ("terramind_v1_base", 3)


def test_set_options_ends_with_an_exception_too():
    with pytest.raises(ZeroDivisionError), xtm.set_options(layer=3):
        _ = 1 / 0
    assert current("layer") == -1


def test_set_options_without_a_block_stays():
    with xtm.set_options():  # puts all back at the end
        xtm.set_options(layer=3)
        assert current("layer") == 3
        xtm.set_options(layer=-1)
        assert current("layer") == -1


def test_set_options_that_is_refused_changes_nothing():
    with pytest.raises(xtm.EngineError):
        xtm.set_options(layer=3, model="terramind_v9")
    assert (current("model"), current("layer")) == ("terramind_v1_small", -1)


def test_set_options_reaches_check_plan_and_embed():
    with xtm.set_options(**QUICK):
        assert scene().terramind.check().issues == ()
        assert scene().terramind.plan().windows == 1
        assert scene().terramind.embed().attrs["model_key"] == "terramind_v1_tiny"
    assert [issue.code for issue in scene().terramind.check().issues] == ["small-extent"]


def test_set_options_can_set_none():
    with xtm.set_options(clip=None):
        assert resolve_options().clip is None
    assert resolve_options().clip == "auto"


# One table


def test_keywords_are_the_table():
    table = {one.name: one.type for one in fields(EmbedOptions)}
    table["weights"] = str | os.PathLike[str]  # a path is kept as str
    assert get_type_hints(EmbedKeywords) == {n: kind for n, kind in table.items() if n != "output"}
    assert get_type_hints(SettingKeywords).keys() == OPTIONS.keys() - {"output"}


def test_names_of_models_and_modalities_are_those_that_there_are():
    assert get_args(Model) == tuple(MODELS)
    assert get_args(Modality) == tuple(MODALITIES)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_all_its_columns(name):
    about = OPTIONS[name].metadata
    assert about["check"](name, OPTIONS[name].default) == OPTIONS[name].default
    assert about["help"].endswith(".") and len(about["help"]) < 200


def test_variables_are_those_of_the_page():
    variables = {name: option.metadata["variable"] for name, option in OPTIONS.items()}
    assert {name: text for name, text in variables.items() if text} == {
        name: known[0] for name, known in ENVIRONMENT.items()
    }
    page = (Path(__file__).parents[1] / "docs/api/options.md").read_text()
    for name, (suffix, *_) in ENVIRONMENT.items():
        assert f"| `{XR}{suffix}` | `{name}`" in page


# What help and completion see


@show_options
def shown(cube: object, *, calibrate: bool = False, **options: Unpack[EmbedKeywords]) -> object:
    """Do something.

    Parameters
    ----------
    {options}

    Returns
    -------
    object
    """
    return resolve_options(**options)


def test_a_signature_shows_every_option():
    parameters = inspect.signature(shown).parameters
    assert list(parameters) == ["cube", "calibrate", *EmbedKeywords.__annotations__]
    for name, kind in EmbedKeywords.__annotations__.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == OPTIONS[name].default
        assert parameters[name].annotation == kind
    assert "pooling: Literal['mean', 'max'] = 'mean'" in str(inspect.signature(shown))
    assert shown(None, layer=3) == resolve_options(layer=3)


def test_a_method_shows_every_option():
    class Accessor:
        @show_options
        def embed(self, **options: Unpack[EmbedKeywords]) -> None:
            pass

    assert list(inspect.signature(Accessor().embed).parameters) == list(
        EmbedKeywords.__annotations__
    )


def test_set_options_shows_what_it_can_set():
    parameters = inspect.signature(xtm.set_options).parameters
    assert list(parameters) == [*EmbedKeywords.__annotations__, "fetch_workers"]
    assert "layer: int = <unchanged>" in str(inspect.signature(xtm.set_options))


@pytest.mark.parametrize("target", [shown, xtm.set_options])
def test_a_docstring_lists_every_option(target):
    sections = inspect.getdoc(target).split("\n\n")
    entries = sections[1].splitlines()
    assert entries[:2] == ["Parameters", "----------"]
    listed = {line.partition(" : ")[0]: line for line in entries[2:] if not line.startswith(" ")}
    hints = get_type_hints(SettingKeywords if target is xtm.set_options else EmbedKeywords)
    assert list(listed) == list(hints)
    assert listed["pooling"] == 'pooling : {"mean", "max"}, default "mean"'
    assert listed["clip"] == 'clip : "auto" or (float, float) or None, default "auto"'
    assert listed["weights"] == 'weights : str or path, default "pretrained"'
    text = " ".join(" ".join(entries).split())
    assert all(OPTIONS[name].metadata["help"] in text for name in hints)
    assert all(len(line) < 96 for line in entries if line.startswith(" "))
    assert sections[2].startswith(("Returns", "Raises"))


@pytest.mark.parametrize("with_jedi", [True, False])
@pytest.mark.parametrize("call", ["shown(None, ", "xtm.set_options("])
def test_completion_offers_options(call, with_jedi):
    completer = pytest.importorskip("IPython.core.completer")
    ipython = completer.IPCompleter(namespace={"shown": shown, "xtm": xtm}, use_jedi=with_jedi)
    ipython.use_jedi = with_jedi
    with completer.provisionalcompleter():
        found = {one.text for one in ipython.completions(f"{call}mo", len(call) + 2)}
    assert {"model=", "modality="} <= found


# What is refused

UNKNOWN = [
    ("ouput", "output"),
    ("window", "window_size"),
    ("modle", "model"),
    ("normalise", "normalize"),
    ("batchsize", "batch_size"),
    ("Model", "model"),
]


@pytest.mark.parametrize(("typed", "meant"), UNKNOWN)
def test_an_unknown_keyword_is_refused_with_a_suggestion(typed, meant):
    for attempt in (
        lambda: scene().terramind.embed(**{typed: 1}),
        lambda: scene().terramind.plan(**{typed: 1}),
        lambda: xtm.set_options(**{typed: 1}),
        lambda: xtm.embed_array(scene().values, **{typed: 1}),
    ):
        with pytest.raises(xtm.TerraMindError, match=f"Did you mean '{meant}'") as raised:
            attempt()
        assert isinstance(raised.value, TypeError)  # as for any Python call
        assert repr(typed) in str(raised.value)


BAD_VALUES = [
    ({"output": "pixels"}, xtm.EngineError, "'grid', 'windows', 'pooled'"),
    ({"output": "pool"}, xtm.EngineError, "Did you mean 'pooled'"),
    ({"output": None}, xtm.EngineError, "'grid', 'windows', 'pooled'"),
    ({"pooling": "median"}, xtm.EngineError, "'mean', 'max'"),
    ({"model": "terramind_v1_smal"}, xtm.EngineError, "Did you mean 'terramind_v1_small'"),
    ({"model": "resnet"}, xtm.EngineError, "list_models"),
    ({"model": None}, xtm.EngineError, "terramind_v01_base"),
    ({"modality": "S2L2B"}, xtm.BandError, "Did you mean"),
    ({"modality": "NDVI"}, xtm.BandError, "S2L1C"),
    ({"engine": "onnx"}, xtm.EngineError, "'torch'"),
    ({"engine": "toch"}, xtm.EngineError, "Did you mean 'torch'"),
    ({"precision": "fp16"}, xtm.EngineError, "'bfloat16', 'float16'"),
    ({"precision": "float64"}, xtm.EngineError, "'float32'"),
    ({"device": "tpu"}, xtm.EngineError, "'cuda:N'"),
    ({"device": "cuda:x"}, xtm.EngineError, "'cuda:N'"),
    ({"device": 0}, xtm.EngineError, "'cuda:N'"),
    ({"device": "cuda:99"}, xtm.EngineError, "Use device='auto'"),
    ({"normalize": "minmax"}, xtm.EngineError, "'zscore', 'raw', 'none'"),
    ({"normalize": True}, xtm.EngineError, "'zscore', 'raw', 'none'"),
    ({"fit": "crop"}, xtm.EngineError, "'windows', 'resize'"),
    ({"layer": 12}, xtm.EngineError, "-12 to 11"),
    ({"layer": -13}, xtm.EngineError, "-12 to 11"),
    ({"layer": 24, "model": "terramind_v1_large"}, xtm.EngineError, "-24 to 23"),
    ({"layer": 1.0}, xtm.EngineError, "an integer"),
    ({"layer": True}, xtm.EngineError, "an integer"),
    ({"overlap": 16}, xtm.GridError, "multiple of 32"),
    ({"overlap": -32}, xtm.GridError, "from 0"),
    ({"overlap": 32}, xtm.GridError, "under window_size=32"),
    ({"overlap": 32.0}, xtm.EngineError, "an integer"),
    ({"overlap": 32, "window_size": 64, "fit": "resize"}, xtm.GridError, "one window"),
    ({"window_size": 100}, xtm.GridError, "multiple of 16"),
    ({"window_size": 0}, xtm.GridError, "multiple of 16"),
    ({"window_size": -224}, xtm.GridError, "multiple of 16"),
    ({"window_size": "224"}, xtm.EngineError, "an integer"),
    ({"batch_size": 0}, xtm.EngineError, "an integer from 1"),
    ({"batch_size": -1}, xtm.EngineError, "an integer from 1"),
    ({"batch_size": 2.5}, xtm.EngineError, "an integer"),
    ({"batch_size": "many"}, xtm.EngineError, "an integer"),
    ({"clip": (1, 0)}, xtm.EngineError, "low < high"),
    ({"clip": (0, 0)}, xtm.EngineError, "low < high"),
    ({"clip": (0, 1, 2)}, xtm.EngineError, "a pair"),
    ({"clip": 10000}, xtm.EngineError, "a pair"),
    ({"clip": "none"}, xtm.EngineError, "'auto', None"),
    ({"clip": (float("nan"), 1)}, xtm.EngineError, "low < high"),
    ({"min_valid_fraction": 2}, xtm.EngineError, "0 to 1"),
    ({"min_valid_fraction": -0.1}, xtm.EngineError, "0 to 1"),
    ({"min_valid_fraction": float("nan")}, xtm.EngineError, "0 to 1"),
    ({"min_valid_fraction": "half"}, xtm.EngineError, "0 to 1"),
    ({"weights": None}, xtm.EngineError, "'pretrained', 'random' or a path"),
    ({"weights": True}, xtm.EngineError, "'pretrained', 'random' or a path"),
    ({"weights": ""}, xtm.EngineError, "'pretrained', 'random' or a path"),
]


@pytest.mark.parametrize(("options", "kind", "part"), BAD_VALUES, ids=repr)
def test_a_bad_value_is_refused_at_once(options, kind, part):
    for attempt in (
        lambda: embed(sealed(scene()), **options),
        lambda: embed(scene(), **options),
    ):
        with pytest.raises(kind) as raised:
            attempt()
        assert isinstance(raised.value, xtm.TerraMindError)
        for words in ("found ", "; expected ", part, str(next(iter(options)))):
            assert words in str(raised.value)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has it")
def test_a_device_that_is_not_there_is_refused_at_once():
    with pytest.raises(xtm.EngineError, match="found device='mps' on a machine with 0 mps"):
        embed(sealed(scene()), device="mps")


def test_a_model_without_statistics_for_the_modality_is_refused():
    cube = sealed(scene()).sel(band=["B4", "B3", "B2"])
    with pytest.raises(xtm.EngineError, match=r"terramind_v01_base.*S2L2A"):
        embed(cube, model="terramind_v01_base", modality="RGB")


@pytest.mark.parametrize(
    ("options", "attr", "value"),
    [
        ({"output": "GRID"}, "output", "grid"),
        ({"pooling": "Max", "output": "pooled"}, "pooling", "max"),
        ({"layer": np.int64(3)}, "layer_index", 3),
        ({"clip": [0, 5000]}, "clip", [0, 5000]),
        ({"clip": None}, "clip", "none"),
        ({"device": torch.device("cpu")}, "device", "cpu"),
        ({"precision": "Float32"}, "precision", "float32"),
    ],
)
def test_what_plainly_means_the_same_is_accepted(options, attr, value):
    assert embed(scene(), **options).attrs[attr] == value
