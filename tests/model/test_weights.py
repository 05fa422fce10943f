"""Weights: read without trust, complete or refused, recorded by their digest, found offline."""

import hashlib
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xr_terramind as xtm
from tests.support.cubes import assert_same_embedding, embed, scene, sealed
from tests.support.local_hub import hub_path, local_hub
from tests.support.weights import NORM, PATCH, TINY, State, checksum, make_state, save, shapes_of
from xr_terramind.model.random_weights import random_weights
from xr_terramind.model.specs import MODELS


@pytest.fixture(autouse=True, scope="module")
def _on_torch():
    # OpenVINO would convert the encoder anew for each file; here it is the file that matters.
    with xtm.set_options(engine="torch"):
        yield


@pytest.fixture(scope="module")
def state() -> State:
    return make_state()


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def expected(checkpoint):
    return embed(scene(), weights=checkpoint)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Files that are as they should be


def test_both_formats_give_the_same_and_record_their_own_digest(state, checkpoint, tmp_path):
    other = save(state, tmp_path / "tiny.safetensors")
    for path in (checkpoint, other):
        result = embed(scene(), weights=path)
        assert result.attrs["weights_sha256"] == digest(path)
        assert result.attrs["weights"] == str(path)
        assert result.attrs["pretrained"] == 0
    np.testing.assert_array_equal(result, embed(scene(), weights=checkpoint))
    assert digest(checkpoint) != digest(other)


def test_weights_change_the_numbers(expected):
    assert np.abs(expected - embed(scene())).max() > 0.1


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_keys_of_the_decoder_and_of_other_modalities_are_dropped(suffix, state, expected, tmp_path):
    others = {
        "decoder.0.norm1.weight": torch.ones(4),
        "mask_token": torch.full((3,), torch.nan),
        "encoder_embeddings.untok_dem@224.proj.weight": torch.ones(192, 256),
    }
    path = save({**others, **state}, tmp_path / f"whole{suffix}")
    np.testing.assert_array_equal(embed(scene(), weights=path), expected)


def test_older_pickle_files_are_read(state, expected, tmp_path):
    path = tmp_path / "old.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(embed(scene(), weights=path), expected)


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [
        (torch.bfloat16, ".pt"),
        (torch.bfloat16, ".safetensors"),
        (torch.float16, ".pt"),
        (torch.float64, ".pt"),
    ],
    ids=str,
)
def test_other_precisions_are_read_as_the_float32_that_they_hold(dtype, suffix, state, tmp_path):
    rounded = {name: value.to(dtype) for name, value in state.items()}
    as_float32 = {name: value.to(torch.float32) for name, value in rounded.items()}
    low = embed(scene(), weights=save(rounded, tmp_path / f"low{suffix}"))
    full = embed(scene(), weights=save(as_float32, tmp_path / f"full{suffix}"))
    np.testing.assert_array_equal(low, full)
    assert low.attrs["precision"] == "float32"


def test_relative_paths_and_home_are_understood(checkpoint, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    lazy = embed(scene().chunk(x=16), weights="tiny.pt")
    for weights in ("tiny.pt", Path("tiny.pt"), "./tiny.pt", "~/tiny.pt", str(checkpoint)):
        np.testing.assert_array_equal(embed(scene(), weights=weights), expected)
    monkeypatch.chdir(tmp_path)  # a lazy result remembers where the file was
    assert_same_embedding(lazy.compute(), expected)


def test_a_link_is_followed(checkpoint, expected, tmp_path):
    link = tmp_path / "link.pt"
    link.symlink_to(checkpoint)
    np.testing.assert_array_equal(embed(scene(), weights=link), expected)


# Files that are replaced


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("keeps_time", [False, True], ids=["", "with the same time and size"])
def test_a_replaced_file_gives_the_new_numbers(suffix, keeps_time, state, expected, tmp_path):
    path = save(state, tmp_path / f"mine{suffix}")
    before = path.stat()
    np.testing.assert_array_equal(embed(scene(), weights=path), expected)
    (tmp_path / "new").mkdir()
    fresh = save(make_state(seed=2), tmp_path / "new" / path.name)  # torch.save stores the name
    reference = embed(scene(), weights=fresh)
    os.replace(fresh, path)
    if keeps_time:
        assert path.stat().st_size == before.st_size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = embed(scene(), weights=path)
    np.testing.assert_array_equal(result, reference)
    assert result.attrs["weights_sha256"] == digest(path)


def test_a_file_replaced_before_a_lazy_result_is_computed_is_refused(tmp_path):
    path = save(make_state(seed=3), tmp_path / "mine.pt")
    lazy = embed(scene().chunk(x=16), weights=path)
    save(make_state(seed=4), path)
    with pytest.raises(xtm.WeightsError, match=r"found mine.pt with SHA-256.*Call embed again"):
        lazy.compute()


def test_a_file_gone_before_a_lazy_result_is_computed_is_said(tmp_path):
    path = save(make_state(seed=5), tmp_path / "mine.pt")
    lazy = embed(scene().chunk(x=16), weights=path)
    path.unlink()
    with pytest.raises(xtm.WeightsError, match=r"mine\.pt"):
        lazy.compute()


# Files that are refused


def without(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if name not in names}


def spoilt(state: State, number: float) -> State:
    value = state[PATCH].clone()
    value[5, 7] = number
    return {**state, PATCH: value}


SPOILT = {
    "one key missing": (lambda s: without(s, NORM), [f"without {NORM}", "all 149 keys"]),
    "two keys missing": (lambda s: without(s, NORM, PATCH), [NORM, PATCH]),
    "only the decoder": (
        lambda s: {f"decoder.{name}": value for name, value in s.items()},
        ["and 143 more", "it holds decoder."],
    ),
    "empty": (lambda s: {}, ["and 143 more"]),
    "another prefix": (
        lambda s: {f"module.{name}": value for name, value in s.items()},
        ["it holds module."],
    ),
    "wrong shape": (
        lambda s: {**s, NORM: torch.ones(384)},
        [f"{NORM} (384,) instead of (192,)", "model="],
    ),
    "turned": (lambda s: {**s, PATCH: s[PATCH].T.contiguous()}, [PATCH, "instead of (192, 3072)"]),
    "NaN": (lambda s: spoilt(s, float("nan")), [PATCH, "finite"]),
    "infinite": (lambda s: spoilt(s, float("inf")), [PATCH, "finite"]),
    "integers": (lambda s: {**s, NORM: torch.ones(192, dtype=torch.int64)}, [NORM, "finite float"]),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", SPOILT)
def test_an_incomplete_or_spoilt_state_dict_is_refused_by_key(name, suffix, state, tmp_path):
    spoil, parts = SPOILT[name]
    path = save(spoil(state), tmp_path / f"bad{suffix}")
    with pytest.raises(xtm.WeightsError) as raised:
        embed(sealed(scene()), weights=path)
    for part in ("found ", path.name, "; expected ", *parts):
        assert part in str(raised.value)


def test_a_file_of_another_size_or_modality_is_refused(checkpoint):
    with pytest.raises(xtm.WeightsError, match=r"\(192.*instead of \(384"):
        embed(sealed(scene()), weights=checkpoint, model="terramind_v1_small")
    with pytest.raises(xtm.WeightsError, match=r"without encoder_embeddings.untok_dem@224"):
        embed(sealed(scene().sel(band="B1", drop=True)), weights=checkpoint, modality="DEM")


class Hostile:
    """Unpickling it would create a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


NO_STATE_DICTS = {
    "a module": lambda state: torch.nn.Linear(2, 2),
    "a tensor": lambda state: state[NORM],
    "a list": lambda state: list(state.values()),
    "a number": lambda state: 3,
    "nested": lambda state: {"state_dict": state},
    "arrays": lambda state: {name: value.numpy() for name, value in state.items()},
    "None": lambda state: None,
}


@pytest.mark.parametrize("name", NO_STATE_DICTS)
def test_what_is_no_state_dict_is_refused(name, state, tmp_path):
    path = save(NO_STATE_DICTS[name](state), tmp_path / "other.pt")
    with pytest.raises(xtm.WeightsError, match=r"other\.pt"):
        embed(sealed(scene()), weights=path)


@pytest.mark.parametrize("how", ["zip", "old", "plain pickle", "beside good keys"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_no_code_in_a_file_is_ever_run(how, suffix, state, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / f"hostile{suffix}"
    payload = {**state, "extra": Hostile(marker)} if "good" in how else Hostile(marker)
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=how != "old")
    with pytest.raises(xtm.WeightsError, match="hostile"):
        embed(sealed(scene()), weights=path)
    assert not marker.exists()
    # It would have run where the file is trusted: the test's own file is hostile indeed.
    if how == "plain pickle":
        pickle.loads(path.read_bytes()).close()
        assert marker.exists()


@pytest.fixture(scope="module", params=[".pt", ".safetensors"])
def whole(request, state, tmp_path_factory) -> Path:
    return save(state, tmp_path_factory.mktemp("whole") / f"tiny{request.param}")


@pytest.mark.parametrize("share", [0, 1e-7, 1e-6, 1e-4, 0.01, 0.5, 0.99, 0.9999, 0.9999999])
def test_a_file_that_is_cut_short_is_refused(share, whole, tmp_path):
    content = whole.read_bytes()
    path = tmp_path / f"cut{whole.suffix}"
    path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])
    with pytest.raises(xtm.WeightsError, match=r"found cut.*bytes.*Download or save it again"):
        embed(sealed(scene()), weights=path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"<html><body>404 Not Found</body></html>", b"version https://git-lfs", b"\x80", b"\0" * 999],
)
def test_a_file_that_is_something_else_is_refused(content, suffix, tmp_path):
    path = tmp_path / f"page{suffix}"
    path.write_bytes(content)
    with pytest.raises(xtm.WeightsError, match=r"page.*cannot be read"):
        embed(sealed(scene()), weights=path)


@pytest.mark.parametrize("name", ["nowhere.pt", "", "folder.pt", "pretraind", "tiny.ckpt", "tiny"])
def test_a_path_to_no_weights_is_refused(name, checkpoint, tmp_path):
    (tmp_path / "folder.pt").mkdir()
    for copy in ("tiny.ckpt", "tiny"):
        (tmp_path / copy).write_bytes(checkpoint.read_bytes())
    path = tmp_path / name
    with pytest.raises(xtm.WeightsError) as raised:
        embed(sealed(scene()), weights=path)
    assert path.name in str(raised.value)
    assert ".safetensors" in str(raised.value)


@pytest.mark.parametrize("name", ["~nobody-at-all/tiny.pt", "nul\0byte.pt", "x" * 999 + ".pt"])
def test_a_path_that_cannot_be_is_refused(name):
    with pytest.raises(xtm.WeightsError, match=r"\.pt"):
        embed(sealed(scene()), weights=name)


UNREADABLE = Path("/proc/self/mem")  # a file that even its owner cannot read from the start


@pytest.mark.skipif(not UNREADABLE.is_file(), reason="no such file on this system")
def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    link = tmp_path / "secret.pt"
    link.symlink_to(UNREADABLE)
    with pytest.raises(xtm.WeightsError, match=r"secret\.pt"):
        embed(sealed(scene()), weights=link)


# The hub, played by this machine in front of other processes


def launch(script: str, home: Path, hub: str) -> subprocess.Popen:
    ours = ("HF_", "HUGGING", "XR_TERRAMIND_", "RS_EMBED_TERRAMIND_")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and not name.lower().endswith("_proxy")
    }
    settings = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HF_HOME": str(home),
        "HF_ENDPOINT": hub,
        "OMP_NUM_THREADS": "1",  # the processes share the cores
    }
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=inherited | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen) -> Any:
    """What a script printed last, as JSON."""
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(printed.splitlines()[-1])


@contextmanager
def closed_port() -> Iterator[str]:
    """An address where nobody listens: bound, so that nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def silent_port() -> Iterator[str]:
    """An address that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


REFUSAL = """
import json, sys, time
import xr_terramind as xtm
from tests.support.cubes import QUICK, embed, scene, sealed

def refusal(model, cube=scene()):
    start = time.monotonic()
    try:
        embed(cube, model=model, weights="pretrained").compute()
    except xtm.WeightsError as error:
        return {"message": str(error), "seconds": time.monotonic() - start}

answer = {QUICK["model"]: refusal(QUICK["model"]), "loaded torch": "torch" in sys.modules}
print(json.dumps(answer))
"""

USE = (
    REFUSAL.split("answer =")[0]
    + """
from tests.support.weights import checksum, random_weights, shapes_of

def cached():
    return bool(xtm.list_models().loc[QUICK["model"], "cached"])

before = cached()
lazy = embed(scene().chunk(x=16), weights="pretrained")
embed(sealed(scene()), weights="pretrained")
planned = cached()
computed = lazy.compute()
eager = embed(scene(), weights="pretrained")
answer = {"cached": [before, planned, cached()]}
answer |= {"lazy": computed.values.tolist(), "eager": eager.values.tolist(), "attrs": eager.attrs}
answer |= {model: refusal(model) for model in xtm.list_models().index if model != QUICK["model"]}
answer["lazy refusal"] = refusal("terramind_v1_base", scene().chunk(x=16))
answer["checksum"] = checksum(random_weights(shapes_of()))
answer["random"] = embed(scene()).values.tolist()
print(json.dumps(answer))
"""
)


@pytest.fixture(scope="module")
def hub_file(state, tmp_path_factory) -> Path:
    """What the hub holds: an encoder, and a decoder that nobody asked for."""
    path = tmp_path_factory.mktemp("hub") / TINY.hub_file
    return save({**state, "decoder.0.weight": torch.ones(3)}, path)


@pytest.fixture(scope="module")
def answers(hub_file, tmp_path_factory) -> dict[str, Any]:
    """One process with the hub, one after it without, and one that meets only silence."""
    empty, home = (tmp_path_factory.mktemp(name) for name in ("empty", "home"))
    content = hub_file.read_bytes()
    # The small model's file is another one's; base and large are not there; v01 asks for a token.
    files = {hub_path(TINY.key): content, hub_path("terramind_v1_small"): content}
    with silent_port() as silent, closed_port() as closed:
        waiting = launch(REFUSAL, empty, silent)
        with local_hub(files, gated=hub_path("terramind_v01_base")) as (address, asked):
            found: dict[str, Any] = {"online": answer(launch(USE, home, address)), "asked": asked}
        found["offline"] = answer(launch(USE, home, closed))
        found["silent"] = answer(waiting)
    return found


@pytest.mark.parametrize("hub", ["online", "offline"])
def test_pretrained_weights_are_those_of_the_hub(hub, answers, hub_file):
    found, expected = answers[hub], embed(scene(), weights=hub_file)
    np.testing.assert_allclose(found["lazy"], expected, atol=1e-5)
    np.testing.assert_allclose(found["eager"], expected, atol=1e-5)
    attrs = found["attrs"]
    assert (attrs["weights"], attrs["pretrained"]) == ("pretrained", 1)
    assert attrs["weights_sha256"] == digest(hub_file)


def test_the_hub_is_asked_once_and_only_when_weights_are_needed(answers):
    assert answers["online"]["cached"] == [False, False, True]  # planning downloads nothing
    assert answers["offline"]["cached"] == [True, True, True]
    assert answers["asked"].count(("GET", hub_path(TINY.key))) == 1


def test_a_file_of_the_hub_is_verified_as_any_other(answers):
    for hub in ("online", "offline"):
        message = answers[hub]["terramind_v1_small"]["message"]
        assert "TerraMind_v1_small.pt with " in message and "instead of (384" in message


def test_a_gated_model_asks_for_a_token(answers):
    message = answers["online"]["terramind_v01_base"]["message"]
    assert "TerraMind_v01_base.pt" in message and "HF_TOKEN" in message


@pytest.mark.parametrize(
    ("hub", "asked", "key"),
    [
        ("silent", TINY.key, TINY.key),
        ("offline", "terramind_v1_large", "terramind_v1_large"),
        ("offline", "lazy refusal", "terramind_v1_base"),
        ("online", "terramind_v1_base", "terramind_v1_base"),
    ],
    ids=["no answer", "no connection", "no connection, lazily", "no such file"],
)
def test_without_the_hub_an_error_says_within_seconds_what_to_do(hub, asked, key, answers):
    refused = answers[hub][asked]
    assert refused["seconds"] < 15
    spec = MODELS[key]
    for part in (spec.hub_file, spec.hub_id, f"xr-terramind download {key}", "HF_HOME"):
        assert part in refused["message"]


def test_the_hub_is_asked_before_the_slow_imports(answers):
    assert not answers["silent"]["loaded torch"]


def test_offline_mode_asks_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(xtm.WeightsError, match=rf"{TINY.hub_file}.*HF_HOME"):
        embed(scene(), weights="pretrained")


# Random weights


def test_random_weights_are_the_same_in_every_process(answers):
    expected = embed(scene())
    assert (expected.attrs["weights"], expected.attrs["pretrained"]) == ("random", 0)
    for hub in ("online", "offline"):
        assert answers[hub]["checksum"] == checksum(random_weights(shapes_of()))
        # Equal weights; another process may add in another order: 1e-6 in float32.
        np.testing.assert_allclose(answers[hub]["random"], expected, atol=1e-5)


def test_random_weights_of_two_models_and_modalities_differ():
    assert random_weights(shapes_of("S1GRD"))[NORM].equal(random_weights(shapes_of())[NORM])
    one, other = (
        next(v for name, v in random_weights(shapes_of(m)).items() if name.endswith("proj.weight"))
        for m in ("S1GRD", "S1RTC")
    )
    assert not one.equal(other)
    digests = {embed(scene(), model=m).attrs["weights_sha256"] for m in list(MODELS)[:2]}
    assert len(digests) == 2
