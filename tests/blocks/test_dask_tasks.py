"""Private names of Dask stand in one file, and no task is a tuple."""

import ast
import re
from pathlib import Path

import dask
import pytest
from dask._task_spec import DataNode, GraphNode

import xr_terramind as xtm
from tests.support.cubes import embed, scene
from xr_terramind.blocks.dask_tasks import convert_graph, find_scheduler, make_task, wrap_task
from xr_terramind.storage import to_zarr

PACKAGE = Path(xtm.__file__).parent
OF = ("dask", "distributed")
UNDOCUMENTED = {"concatenate3", "get_scheduler", "__self__"}


def private_names(path: Path) -> set[str]:
    """Names of Dask and distributed that begin with an underscore, or that no page documents."""
    text = path.read_text()
    dotted = set(re.findall(r"\b(?:dask|distributed)(?:\.\w+)*\._\w+", text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OF):
            dotted |= {alias.name for alias in node.names if alias.name.startswith("_")}
    return dotted | {name for name in UNDOCUMENTED if name in text}


def test_one_file_knows_private_names_of_dask():
    found = {path.name for path in PACKAGE.rglob("*.py") if private_names(path)}
    assert found == {"dask_tasks.py"}


@pytest.mark.parametrize("options", [{}, {"overlap": 32, "window_size": 48}, {"fit": "resize"}])
def test_what_embed_adds_to_a_graph_are_tasks(options):
    source = scene(64, 64, 3).chunk(time=1, y=20, x=24)
    embedding = embed(source, **options)
    for data in (embedding.data, embedding.valid_fraction.data):
        graph = dict(data.__dask_graph__())
        ours = {key: graph[key] for key in graph if str(key[0]).startswith("terramind-")}
        assert ours and all(isinstance(node, GraphNode) for node in ours.values())
        assert all(node.key == key for key, node in ours.items())


def test_what_to_zarr_adds_are_tasks_too(tmp_path, monkeypatch):
    layers = []

    def write_nothing(graph, keys, **options):
        layers.append({key: dict(graph)[key] for key in keys})
        return {}

    monkeypatch.setattr(to_zarr, "run_blocks", write_nothing)
    with pytest.raises(xtm.StoreError):
        embed(scene(64, 64).chunk(x=32)).terramind.to_zarr(tmp_path / "e.zarr")
    assert layers[0] and all(isinstance(node, GraphNode) for node in layers[0].values())


def add(*numbers):
    return sum(numbers)


def test_a_task_gets_the_results_that_it_needs_in_order():
    graph = {
        ("a", 0): make_task(("a", 0), lambda: "a"),
        ("b", 0): make_task(("b", 0), lambda: "b"),
        "c": make_task("c", "{}{}{}".format, 7, needs=[("b", 0), ("a", 0)]),
    }
    assert dask.get(graph, "c") == "7ba"


def test_a_wrapped_task_waits_for_others_but_does_not_see_them():
    seen = []

    def run(call, values):
        seen.append(values)
        return call() * 10

    nodes = {
        "one": DataNode("one", 1),
        "late": DataNode("late", 7),
        "sum": wrap_task(make_task("sum", add, 1, needs=["one"]), run, ("late",)),
    }
    assert nodes["sum"].dependencies == {"one", "late"}
    assert wrap_task(nodes["one"], run) is nodes["one"]
    assert dask.get(nodes, "sum") == 20 and seen == [[1]]


def test_tuples_of_a_users_graph_become_tasks():
    nodes = convert_graph({"one": 1, "sum": (add, "one", ["one"][0])})
    assert all(isinstance(node, GraphNode) for node in nodes.values())
    assert nodes["sum"].dependencies == {"one"}


def test_the_scheduler_is_the_one_that_dask_is_set_to():
    assert find_scheduler() == (dask.threaded.get, None)
    with dask.config.set(scheduler="synchronous"):
        assert find_scheduler() == (dask.get, None)
