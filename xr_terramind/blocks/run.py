"""Run the tasks that write blocks: in an order that keeps memory flat, and none for all.

Every task of the graph is wrapped: what raises is tried again, then becomes a `Failure` that goes
through the graph in place of a result, so that only the blocks that need it are lost.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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

from xr_terramind.blocks.order import Key, Nodes, first_uses, in_reading_order, reads
from xr_terramind.errors import SourceError, StoreError, TerraMindError

FIRST_PAUSE_S = 0.5
"""Wait before a task is tried again; it doubles with every further attempt."""

READ_AHEAD = 1
"""Blocks whose chunks may be read beyond those that threads are busy with."""

Seen = Callable[[Key, Any], None]


@dataclass(frozen=True)
class Failure:
    """What stands in the graph where a task failed.

    Attributes
    ----------
    reason : str
        Type and message of the last attempt's error.
    refusal : TerraMindError or None
        The error, where it says that input, options or store are wrong: another attempt would not
        help.
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
        values = values[: len(self.needs)]  # what comes behind only had to come first
        failed = next((value for value in values if isinstance(value, Failure)), None)
        if failed is not None:
            return failed
        for attempt in range(self.retries + 1):
            try:
                return self.task(dict(zip(self.needs, values, strict=True)))
            except Exception as error:  # noqa: BLE001 - any source may break in its own way
                failed = _failure(error)
                if failed.refusal:
                    break
            if attempt < self.retries:
                time.sleep(FIRST_PAUSE_S * 2**attempt)
        return failed


def _failure(error: Exception) -> Failure:
    if isinstance(error, TerraMindError):
        # Without its cause, which another process may not be able to unpickle.
        bare = type(error)(*error.args)
        return Failure(str(error), None if isinstance(error, SourceError) else bare)
    cause = error.__cause__ or error  # rasterio only says "see previous exception"
    return Failure(f"{type(cause).__name__}: {cause}")


def _guarded(node: GraphNode, retries: int, first: Iterable[Any] = ()) -> GraphNode:
    """Wrap a task, which may have to wait for others whose results it does not need."""
    if not isinstance(node, Task):
        return node  # plain data and other names of tasks cannot fail
    needs = tuple(node.dependencies)
    waits = (TaskRef(key) for key in (*needs, *first))
    return Task(node.key, _Attempts(node, needs, retries), *waits)


def one_after_another(
    keys: Sequence[Key], nodes: Nodes, *, retries: int, ahead: int
) -> dict[Any, GraphNode]:
    """Guard a graph, and let no block begin before those far ahead of it are written.

    Dask's own order is not made for sources whose chunks cross the borders of blocks: it reads
    most of a scene before the last blocks of its first chunk are done. Here reading waits, so that
    memory does not grow with the scene.

    Parameters
    ----------
    keys : sequence of tuple
        The blocks, in the order in which they are to be done.
    nodes : mapping
        The whole graph.
    retries : int
        Further attempts of a task that raised.
    ahead : int
        Blocks that may be under way at once.

    Returns
    -------
    dict
        The graph, with the same keys.
    """
    uses = first_uses(keys, nodes)

    def gate(number: int) -> tuple[str, int]:
        return "terramind-gate", number

    def first(key: Any) -> list[Any]:
        waits = uses[key] >= ahead and reads(key, nodes)
        return [gate(uses[key] - ahead)] if waits else []

    # A gate opens once its block, and all before it, are written.
    gates: dict[Any, GraphNode] = {
        gate(number): Task(
            gate(number), _open, TaskRef(key), *(TaskRef(gate(number - 1)),) * (number > 0)
        )
        for number, key in enumerate(keys[:-ahead])
    }
    return gates | {key: _guarded(nodes[key], retries, first(key)) for key in uses}


def _open(*_: Any) -> None:
    # What a block has freed goes back to the system: otherwise glibc keeps it, in pieces between
    # what lives longer. It takes a millisecond; other C libraries do so by themselves.
    if sys.platform == "linux" and hasattr(trim := ctypes.CDLL(None), "malloc_trim"):
        trim.malloc_trim(0)


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
        # Where the disk is full, say, no other block would fare better.
        if result.refusal and (not n_written or isinstance(result.refusal, StoreError)):
            raise result.refusal

    # Fusing whole chains would hide which task failed, and what the dashboard calls it.
    with dask.config.set({"optimization.fuse.active": False}):
        graph = optimize(graph, keys)
    nodes = convert_legacy_graph(ensure_dict(graph))
    keys = in_reading_order(keys, nodes)
    get = get_scheduler() or dask.threaded.get
    client = getattr(get, "__self__", None)
    if client is not None and hasattr(client, "scheduler_info"):
        _run_distributed(client, _with_priorities(graph, nodes, keys, retries), keys, note)
    else:
        ahead = (dask.config.get("num_workers", None) or CPU_COUNT) + READ_AHEAD
        tasks = one_after_another(keys, nodes, retries=retries, ahead=ahead)
        with threads_that_end(get), _Watch(set(keys), note):
            get(tasks, keys)
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


def _with_priorities(
    graph: HighLevelGraph, nodes: Nodes, keys: Sequence[Key], retries: int
) -> HighLevelGraph:
    # A cluster has as much under way as it has workers, and they may come and go: it is only told
    # what comes first. Annotations of the user's layers are kept.
    uses = first_uses(keys, nodes)
    layers = {
        name: MaterializedLayer(
            {key: _guarded(nodes[key], retries) if key in nodes else layer[key] for key in layer},
            annotations={"priority": lambda key: -uses.get(key, 0), **(layer.annotations or {})},
        )
        for name, layer in graph.layers.items()
    }
    return HighLevelGraph(layers, graph.dependencies)


def _run_distributed(client: Any, graph: HighLevelGraph, keys: list[Key], note: Seen) -> None:
    # A block that kills its worker takes along what waited there. Alone it only takes itself.
    killers = _gather(client, graph, keys, note, suspect=lambda key: None)
    for key in killers:
        _gather(client, graph.cull({key}), [key], note, suspect=lambda key: note(key, _KILLER))


_KILLER = Failure("KilledWorker: its workers die; it may need more memory than they have")


def _gather(
    client: Any, graph: HighLevelGraph, keys: list[Key], note: Seen, suspect: Callable[[Key], None]
) -> list[Key]:
    from distributed import KilledWorker, as_completed

    futures = dict(zip(client.get(graph, keys, sync=False), keys, strict=True))
    finished = as_completed(list(futures), loop=client.loop)
    killed = []
    try:
        for future in finished:
            key = futures.pop(future)
            try:
                result = future.result()
            except KilledWorker:
                killed.append(key)
                suspect(key)
                continue
            finally:
                # Let go at once: what a dead worker still held would be computed, and written,
                # again.
                future.release()
            note(key, result)
    finally:
        client.cancel(list(futures))
    return killed
