"""Dask's tasks: the only file that imports private names of Dask; tests hold it to that.

Dask has no public class for a task, and the tuples that stood for one are deprecated. What is used
here is the same from Dask 2025.1 on.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import dask.threaded
from dask._task_spec import GraphNode, Task, TaskRef, convert_legacy_graph
from dask.base import get_scheduler
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict

Key = tuple[str | int, ...]
Graph = dict[Any, GraphNode]
Nodes = Mapping[Any, GraphNode]


def make_task(
    key: Any, function: Callable[..., Any], *values: Any, needs: Iterable[Any] = ()
) -> GraphNode:
    """Return the task that calls a function with values and then the results of other tasks.

    Each result is an argument of its own: of a list of them Dask would make a further task, which
    takes longer to build than all the rest.
    """
    return Task(key, function, *values, *map(TaskRef, needs))


def convert_graph(graph: HighLevelGraph) -> Graph:
    """Return all nodes of a graph, of which a user's source may have made some as tuples."""
    return convert_legacy_graph(ensure_dict(graph))


def wrap_task(
    node: GraphNode,
    run: Callable[[Callable[[], Any], list[Any]], Any],
    wait_for: Iterable[Any] = (),
) -> GraphNode:
    """Have ``run(call, values)`` call a task in Dask's place; `values` are what the task needs.

    The task also waits for others, whose results nobody needs.
    """
    if not isinstance(node, Task):
        return node  # plain data and other names of tasks are not called
    needs = tuple(node.dependencies)
    # A partial, as Dask takes a task among the arguments for one to be run before.
    return make_task(node.key, partial(_run_wrapped, run, node, needs), needs=(*needs, *wait_for))


def _run_wrapped(
    run: Callable[..., Any], node: GraphNode, needs: tuple[Any, ...], *results: Any
) -> Any:
    values = dict(zip(needs, results, strict=False))  # what was waited for comes behind
    return run(partial(node, values), list(values.values()))


def find_scheduler() -> tuple[Callable[..., Any], Any]:
    """Return the scheduler that Dask is set to, and the client where that is a cluster's."""
    get = get_scheduler() or dask.threaded.get
    client = getattr(get, "__self__", None)
    return get, client if hasattr(client, "scheduler_info") else None
