"""The cache: what is costly to make is made once, and nothing half-written is ever used."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import xr_terramind as xtm
from tests.support.cubes import embed, scene
from xr_terramind.inference import loaded
from xr_terramind.inference.device import import_openvino
from xr_terramind.inference.engines import cache
from xr_terramind.inference.engines import openvino as engine
from xr_terramind.inference.engines.cache import ABANDONED_S, cache_folder, find_or_make

KIND = "numbers"
FACTS = {"model": "tiny", "layer": "-1"}
CONTENT = {"a.bin": bytes(range(256)) * 40, "b.xml": b"<net/>"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A cache of its own for each test, and temporary files where they can be counted."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "cache"


def write(folder: Path) -> None:
    assert not list(folder.iterdir())
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)


@pytest.fixture
def make() -> Mock:
    """Writes CONTENT, and knows how often it had to."""
    return Mock(side_effect=write)


def content(entry: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in entry.iterdir() if path.name != "manifest.json"
    }


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Made once, found by facts


def test_an_entry_is_made_once_and_then_found(folder, make):
    entry = find_or_make(KIND, FACTS, make)
    assert content(entry) == CONTENT
    assert entry.is_relative_to(folder / KIND)
    assert find_or_make(KIND, dict(reversed(FACTS.items())), make) == entry
    assert make.call_count == 1
    assert list((folder / KIND).iterdir()) == [entry]  # no workshop is left


@pytest.mark.parametrize(
    "facts",
    [{**FACTS, "layer": "3"}, {**FACTS, "more": ""}, {"model": "tiny"}, {"layer": "tiny"}, {}],
)
def test_other_facts_are_another_entry(make, facts):
    first = find_or_make(KIND, FACTS, make)
    assert find_or_make(KIND, facts, make) != first
    assert make.call_count == 2
    assert content(first) == CONTENT


def test_another_kind_is_another_entry(make):
    assert find_or_make(KIND, FACTS, make) != find_or_make("letters", FACTS, make)
    assert make.call_count == 2


def test_the_manifest_says_what_the_entry_depends_on(make):
    entry = find_or_make(KIND, FACTS, make)
    manifest = json.loads((entry / "manifest.json").read_text())
    assert manifest["facts"] == FACTS
    assert set(manifest["files"]) == set(CONTENT)


# Broken entries are made again


def _cut(name: str):
    return lambda entry: (entry / name).write_bytes((entry / name).read_bytes()[:-3])


def _manifest(text: str | bytes):
    data = text if isinstance(text, bytes) else text.encode()
    return lambda entry: (entry / "manifest.json").write_bytes(data)


def _keep_manifest_alone(entry: Path) -> None:
    for name in CONTENT:
        (entry / name).unlink()
    (entry / "manifest.json").write_text(json.dumps({"facts": FACTS, "files": {}}))


DAMAGE = {
    "a file cut short": _cut("a.bin"),
    "a file emptied": lambda entry: (entry / "b.xml").write_bytes(b""),
    "a file removed": lambda entry: (entry / "b.xml").unlink(),
    "a file added": lambda entry: (entry / "c").write_text(""),
    "a file renamed": lambda entry: (entry / "b.xml").rename(entry / "c.xml"),
    "manifest missing": lambda entry: (entry / "manifest.json").unlink(),
    "manifest torn": _cut("manifest.json"),
    "manifest empty": _manifest(""),
    "manifest not text": _manifest(b"\xff\xfe\x00"),
    "manifest of something else": _manifest("null"),
    "manifest too deep": _manifest("[" * 100_000),
    "nothing but a manifest": _keep_manifest_alone,
    "a file in its place": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
    "manifest of other facts": _manifest(json.dumps({"facts": {}, "files": {}})),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_not_as_it_was_made_is_made_again(folder, make, damage):
    entry = find_or_make(KIND, FACTS, make)
    damage(entry)
    assert content(find_or_make(KIND, FACTS, make)) == CONTENT
    assert make.call_count == 2
    assert find_or_make(KIND, FACTS, make) == entry
    assert make.call_count == 2
    assert list((folder / KIND).iterdir()) == [entry]


def test_what_killed_processes_left_is_removed_after_a_day(folder, make):
    (folder / KIND).mkdir(parents=True)
    left, under_way = folder / KIND / ".abc-1", folder / KIND / ".abc-2"
    for workshop in (left, under_way):
        (workshop / "new").mkdir(parents=True)
        (workshop / "new" / "torn").write_bytes(b"half")
    yesterday = time.time() - ABANDONED_S - 60
    os.utime(left, (yesterday, yesterday))
    find_or_make(KIND, FACTS, make)
    assert not left.exists() and under_way.exists()


def test_an_entry_of_other_facts_under_the_same_name_is_not_taken(make):
    entry = find_or_make(KIND, FACTS, make)
    other = find_or_make(KIND, {"model": "base"}, make)
    for path in entry.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    find_or_make(KIND, {"model": "base"}, make)
    assert make.call_count == 3


# Several at once

RACE = """
import os, sys, time, warnings
from pathlib import Path
from xr_terramind.inference.engines.cache import find_or_make
warnings.simplefilter("error")
place, n_processes = Path(sys.argv[1]), int(sys.argv[2])

def make(folder):
    (folder / "a.bin").write_bytes(bytes(range(256)) * 40)
    # All are in the middle at once, and then leave it at once.
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < n_processes:
        time.sleep(0.002)
    (folder / "b.xml").write_bytes(b"<net/>")

entry = find_or_make("numbers", {"model": "tiny", "layer": "-1"}, make)
assert (entry / "a.bin").read_bytes() == bytes(range(256)) * 40
assert (entry / "b.xml").read_bytes() == b"<net/>"
print(entry)
"""


def python(code: str, *arguments: object, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)


def outcomes(started: list[subprocess.Popen]) -> set[str]:
    """What all of them printed; none failed."""
    printed = set()
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        printed.add(out.strip())
    return printed


@pytest.mark.parametrize("start", ["nothing", "a broken entry"])
def test_processes_that_make_the_same_at_once_all_get_a_whole_entry(folder, tmp_path, make, start):
    if start == "a broken entry":
        _cut("a.bin")(find_or_make(KIND, FACTS, make))
    place = tmp_path / "place"
    place.mkdir()
    printed = outcomes([python(RACE, place, 4) for _ in range(4)])
    assert len(printed) == 1
    entry = Path(printed.pop())
    assert find_or_make(KIND, FACTS, make) == entry
    assert make.call_count == (start != "nothing")
    assert list((folder / KIND).iterdir()) == [entry]


def test_threads_that_make_the_same_at_once_all_get_a_whole_entry(folder, make):
    def slow(workshop: Path) -> None:
        time.sleep(0.05)
        write(workshop)

    def ask(_: int) -> Path:
        return find_or_make(KIND, FACTS, slow)

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(ask, range(16)))
    assert len(found) == 1
    assert find_or_make(KIND, FACTS, make) in found
    assert make.call_count == 0
    assert content(found.pop()) == CONTENT


# What is left when making goes wrong

DIES = """
import os, sys
from pathlib import Path
from xr_terramind.inference.engines.cache import find_or_make

def make(folder):
    (folder / "a.bin").write_bytes(bytes(range(256)) * 40)
    print("half", flush=True)
    sys.stdin.read()

find_or_make("numbers", {"model": "tiny", "layer": "-1"}, make)
"""


def test_what_a_killed_process_left_does_not_count(folder, make):
    process = python(DIES, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate(timeout=60)
    entry = find_or_make(KIND, FACTS, make)
    assert make.call_count == 1
    assert content(entry) == CONTENT
    # What it had begun is hidden, and no entry.
    assert [path for path in (folder / KIND).iterdir() if not path.name.startswith(".")] == [entry]


@pytest.mark.filterwarnings("ignore::xr_terramind.TerraMindWarning")
@pytest.mark.parametrize(
    "error",
    [ValueError("bad weights"), FileNotFoundError("weights are gone"), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_making_that_fails_leaves_nothing(folder, tmp_path, make, error):
    def fail(workshop: Path) -> None:
        (workshop / "a.bin").write_bytes(b"half")
        raise error

    with pytest.raises(type(error)) as raised:
        find_or_make(KIND, FACTS, fail)
    assert raised.value is error
    assert not list((folder / KIND).iterdir())
    assert not list((tmp_path / "temporary").iterdir())
    assert content(find_or_make(KIND, FACTS, make)) == CONTENT


def test_making_that_fails_leaves_the_entries_that_are_there(make):
    def fail(workshop: Path) -> None:
        raise ValueError

    entry = find_or_make(KIND, FACTS, make)
    with pytest.raises(ValueError):
        find_or_make(KIND, {"model": "base"}, fail)
    assert find_or_make(KIND, FACTS, make) == entry
    assert make.call_count == 1


# Where the cache is


@pytest.mark.parametrize("at", ["cache", "kind"])
def test_a_cache_that_cannot_be_written_warns_and_works(folder, make, at):
    # Permissions do not stop root: a file stands where a folder should.
    if at == "kind":
        folder.mkdir()
    (folder if at == "cache" else folder / KIND).write_text("in the way")
    with pytest.warns(xtm.TerraMindWarning, match=f"{cache.VARIABLE}"):
        entry = find_or_make(KIND, FACTS, make)
    assert content(entry) == CONTENT
    assert make.call_count == 1
    assert not entry.is_relative_to(folder)


def test_a_process_without_a_cache_cleans_up_after_itself(folder, tmp_path):
    folder.write_text("in the way")
    code = RACE.replace('"error"', '"ignore"')
    place = tmp_path / "place"
    place.mkdir()
    outcomes([python(code, place, 1)])
    assert files_under(tmp_path / "temporary") == []


def test_the_variable_may_start_at_home(tmp_path, monkeypatch, make):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv(cache.VARIABLE, "~/some/cache")
    assert cache_folder() == tmp_path / "home/some/cache"
    assert find_or_make(KIND, FACTS, make).is_relative_to(tmp_path / "home/some/cache")


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_it_is_the_users_cache(monkeypatch, value):
    monkeypatch.delenv(cache.VARIABLE)
    if value is not None:
        monkeypatch.setenv(cache.VARIABLE, value)
    assert cache_folder().is_absolute()
    assert cache_folder().name == "xr_terramind"
    assert not cache_folder().is_relative_to(Path.cwd())


# Through the engine

CHOSEN = {"engine": "openvino", "window_size": 224}


@pytest.fixture
def forget():
    """Load encoders anew, as another process would."""
    loaded._load_engine.cache_clear()
    yield loaded._load_engine.cache_clear
    loaded._load_engine.cache_clear()


@pytest.fixture
def conversions(monkeypatch) -> list[Path]:
    found = []
    convert = engine.convert

    def counted(request, window_px, workshop):
        found.append(workshop)
        convert(request, window_px, workshop)

    monkeypatch.setattr(engine, "convert", counted)
    return found


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("openvino/[!.]*"))


def test_a_broken_encoder_is_converted_again(folder, forget, conversions):
    expected = embed(scene(), **CHOSEN)
    (entry,) = entries(folder)
    whole = content(entry)

    binary = entry / "encoder.bin"
    os.truncate(binary, binary.stat().st_size // 2)
    forget()
    np.testing.assert_allclose(embed(scene(), **CHOSEN), expected, atol=1e-6)
    assert content(entry)["encoder.bin"] == whole["encoder.bin"]

    assert len(conversions) == 2

    forget()
    np.testing.assert_array_equal(embed(scene(), **CHOSEN), expected)
    assert len(conversions) == 2
    assert entries(folder) == [entry]


def test_other_versions_convert_again(folder, forget, conversions, monkeypatch):
    expected = embed(scene(), **CHOSEN)
    for name in ("xr_terramind.inference.engines.openvino.__version__", "openvino.__version__"):
        monkeypatch.setattr(name, "0.0.1")
        forget()
        np.testing.assert_allclose(embed(scene(), **CHOSEN), expected, atol=1e-6)
    assert len(conversions) == len(entries(folder)) == 3


def test_a_disk_without_room_for_the_encoder_warns_and_works(folder, forget, monkeypatch):
    openvino = import_openvino()
    save = openvino.save_model

    def without_room(model, path, **options):
        if Path(path).is_relative_to(folder):
            # What OpenVINO says where a write fails, as with a limit on the size of files.
            raise RuntimeError("basic_ios::clear: iostream error")
        save(model, path, **options)

    monkeypatch.setattr(openvino, "save_model", without_room)
    with pytest.warns(xtm.TerraMindWarning, match=cache.VARIABLE):
        found = embed(scene(), **CHOSEN)
    np.testing.assert_allclose(found, embed(scene(), engine="torch", window_size=224), atol=1e-4)
    assert files_under(folder) == []
