"""Run the tasks that write blocks, so that one broken block does not take the others down.

Every task of the graph is wrapped: an error is tried again, then becomes a `Failure` that travels
through the graph in place of a result, so that only the blocks that need it are lost.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask
import dask.threaded
from dask._task_spec import GraphNode, Task, TaskRef, convert_legacy_graph
from dask.array.optimization import optimize
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.system import CPU_COUNT
from dask.utils import ensure_dict

from xr_terramind.errors import SourceError, StoreError, TerraMindError

FIRST_PAUSE_S = 0.5
"""Wait before a task is tried again; it doubles with every further attempt."""

Key = tuple[str | int, ...]
Seen = Callable[[Key, Any], None]


@dataclass(frozen=True)
class Failure:
    """What stands in the graph where a task failed.

    Attributes
    ----------
    reason : str
        Type and message of the last attempt's error.
    refusal : TerraMindError or None
        The error, where it says that input or options are wrong: another attempt would not help.
    """

    reason: str
    refusal: TerraMindError | None = None


class _Attempts:
    """A task that is tried several times, and returns a `Failure` instead of raising."""

    def __init__(self, task: GraphNode, needs: tuple[Any, ...], retries: int) -> None:
        self.task = task
        self.needs = needs
        self.retries = retries

    def __call__(self, *values: Any) -> Any:
        failed = next((value for value in values if isinstance(value, Failure)), None)
        if failed is not None:
            return failed
        for attempt in range(self.retries + 1):
            try:
                return self.task(dict(zip(self.needs, values, strict=True)))
            except StoreError:
                raise  # the disk is full, say: no other block would fare better
            except Exception as error:  # noqa: BLE001 - any source may break in its own way
                failed = Failure(f"{type(error).__name__}: {error}", _refusal(error))
                if failed.refusal:
                    break
            if attempt < self.retries:
                time.sleep(FIRST_PAUSE_S * 2**attempt)
        return failed


def _refusal(error: Exception) -> TerraMindError | None:
    if isinstance(error, TerraMindError) and not isinstance(error, SourceError):
        return error
    return None


def guarded(graph: HighLevelGraph, *, retries: int) -> HighLevelGraph:
    """Wrap every task of a graph, so that errors become `Failure` objects.

    Parameters
    ----------
    graph : HighLevelGraph
    retries : int
        Further attempts of a task that raised.

    Returns
    -------
    HighLevelGraph
        With the same keys, layers and annotations.
    """
    nodes = convert_legacy_graph(ensure_dict(graph))
    layers = {
        name: MaterializedLayer(
            {key: _guarded(nodes[key], retries) for key in layer}, annotations=layer.annotations
        )
        for name, layer in graph.layers.items()
    }
    return HighLevelGraph(layers, graph.dependencies)


def _guarded(node: GraphNode, retries: int) -> GraphNode:
    if not isinstance(node, Task):
        return node  # plain data and other names of tasks cannot fail
    needs = tuple(node.dependencies)
    return Task(node.key, _Attempts(node, needs, retries), *(TaskRef(key) for key in needs))


def run_blocks(
    graph: HighLevelGraph, keys: list[Key], *, retries: int, seen: Seen
) -> dict[Key, Failure]:
    """Run the tasks of blocks on whatever scheduler Dask is set to.

    Parameters
    ----------
    graph : HighLevelGraph
    keys : list of tuple
        The tasks that write one block each.
    retries : int
        Further attempts of a task that raised.
    seen : callable
        ``seen(key, result)`` is called in this process as each block ends.

    Returns
    -------
    dict
        The blocks that failed.

    Raises
    ------
    StoreError
        From the first block that cannot be written.
    TerraMindError
        Where the first blocks refuse the input or the options, which others would, too.
    """
    failures: dict[Key, Failure] = {}
    n_written = 0

    def note(key: Key, result: Any) -> None:
        nonlocal n_written
        seen(key, result)
        if not isinstance(result, Failure):
            n_written += 1
            return
        failures[key] = result
        if result.refusal and not n_written:
            raise result.refusal

    # Fusing whole chains would hide which task failed, and what the dashboard calls it.
    with dask.config.set({"optimization.fuse.active": False}):
        graph = guarded(optimize(graph, keys), retries=retries)
    get = get_scheduler() or dask.threaded.get
    client = getattr(get, "__self__", None)
    if client is not None and hasattr(client, "scheduler_info"):
        _run_distributed(client, graph, keys, note)
    else:
        with threads_that_end(get), _Watch(set(keys), note):
            get(ensure_dict(graph), keys)
    return failures


class _Watch(Callback):
    """Hand the results of some tasks to a function as Dask's own schedulers finish them."""

    def __init__(self, keys: set[Key], note: Seen) -> None:
        super().__init__()
        self._keys = keys
        self._note = note

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        if key in self._keys:
            self._note(key, result)


@contextmanager
def threads_that_end(get: Any = dask.threaded.get) -> Iterator[None]:
    """Wait for running tasks where another one failed, or on Ctrl-C: they would still write.

    Parameters
    ----------
    get : callable
        The scheduler; only Dask's threads are looked after.
    """
    if get is not dask.threaded.get:
        yield
        return
    n_threads = dask.config.get("num_workers", None) or CPU_COUNT
    with ThreadPoolExecutor(n_threads) as pool, dask.config.set(pool=pool):
        yield


def _run_distributed(client: Any, graph: HighLevelGraph, keys: list[Key], note: Seen) -> None:
    from distributed import KilledWorker, as_completed

    futures = dict(zip(client.get(graph, keys, sync=False), keys, strict=True))
    try:
        for future in as_completed(futures):
            try:
                result = future.result()
            except KilledWorker as error:
                result = Failure(f"KilledWorker: {error}")
            note(futures[future], result)
    finally:
        client.cancel(list(futures))
