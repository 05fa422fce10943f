"""Run the tasks that write blocks: in an order that keeps memory flat, and none for all.

Every task of the graph is wrapped: what raises is tried again, then becomes a `Failure` that goes
through the graph in place of a result, so that only the blocks that need it are lost.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import dask.threaded
from dask.array.optimization import optimize
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.system import CPU_COUNT

from xr_terramind.blocks.dask_tasks import (
    Graph,
    Key,
    Nodes,
    convert_graph,
    find_scheduler,
    make_task,
    wrap_task,
)
from xr_terramind.blocks.order import find_first_uses, reads_source, sort_by_reading
from xr_terramind.errors import SourceError, StoreError, TerraMindError

FIRST_PAUSE_S = 0.5
"""Wait before a task is tried again; it doubles with every further attempt."""

READ_AHEAD = 1
"""Blocks whose chunks may be read beyond those that threads are busy with."""

OnBlock = Callable[[Key, Any], None]


@dataclass(frozen=True)
class Failure:
    """What stands in the graph where a task failed: type and message of the last error.

    `refusal` is the error itself where it says that input, options or store are wrong: another
    attempt would not help.
    """

    reason: str
    refusal: TerraMindError | None = None


def run_task(task: Callable[[], Any], values: list[Any], *, retries: int) -> Any:
    """Call a task; pass on the failure of what it needs, or return its own instead of raising."""
    failed = next((value for value in values if isinstance(value, Failure)), None)
    return failed or call_with_retries(task, retries)


def call_with_retries(task: Callable[[], Any], retries: int) -> Any:
    """Call a task until it returns; after the last attempt, return a `Failure`."""
    for attempt in range(retries + 1):
        if attempt:
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            return task()
        except Exception as error:  # noqa: BLE001 - any source may break in its own way
            failure = describe_failure(error)
            if failure.refusal:
                break
    return failure


def describe_failure(error: Exception) -> Failure:
    """Say what failed, and whether that is a refusal."""
    if isinstance(error, TerraMindError):
        # Without its cause, which another process may not be able to unpickle.
        bare = type(error)(*error.args)
        bare.issues = error.issues
        return Failure(str(error), None if isinstance(error, SourceError) else bare)
    cause = error.__cause__ or error  # rasterio only says "see previous exception"
    return Failure(f"{type(cause).__name__}: {cause}")


def gate_tasks(keys: Sequence[Key], nodes: Nodes, *, retries: int, ahead: int) -> Graph:
    """Guard a graph, and let no block begin before those `ahead` blocks before it are written.

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
        The graph, with the same keys, and the gates.
    """
    uses = find_first_uses(keys, nodes)
    run = partial(run_task, retries=retries)

    def gate(number: int) -> Key:
        return "terramind-gate", number

    def gates_before(key: Any) -> list[Key]:
        waits = uses[key] >= ahead and reads_source(key, nodes)
        return [gate(uses[key] - ahead)] if waits else []

    # A gate opens once its block, and all before it, are written.
    gates = {
        gate(number): make_task(
            gate(number), free_memory, needs=(key, *(gate(number - 1),) * (number > 0))
        )
        for number, key in enumerate(keys[:-ahead])
    }
    return gates | {key: wrap_task(nodes[key], run, gates_before(key)) for key in uses}


def free_memory(*_: Any) -> None:
    """Give what a block has freed back to the system."""
    # Otherwise glibc keeps it, in pieces between what lives longer. It takes a millisecond; other C
    # libraries do so by themselves.
    if sys.platform == "linux" and hasattr(trim := ctypes.CDLL(None), "malloc_trim"):
        trim.malloc_trim(0)


def run_blocks(
    graph: HighLevelGraph, keys: list[Key], *, retries: int, on_block: OnBlock
) -> dict[Key, Failure]:
    """Run the tasks of blocks on whatever scheduler Dask is set to.

    Parameters
    ----------
    graph : HighLevelGraph
    keys : list of tuple
        The tasks that write one block each.
    retries : int
        Further attempts of a task that raised.
    on_block : callable
        ``on_block(key, result)`` is called in this process as each block ends.

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
        on_block(key, result)
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
    nodes = convert_graph(graph)
    keys = sort_by_reading(keys, nodes)
    get, client = find_scheduler()
    if client is not None:
        _run_distributed(client, _set_priorities(graph, nodes, keys, retries), keys, note)
    else:
        tasks = gate_tasks(keys, nodes, retries=retries, ahead=_count_threads() + READ_AHEAD)
        with wait_for_threads(get), _Watch(set(keys), note):
            get(tasks, keys)
    return failures


class _Watch(Callback):
    """Hand the results of some tasks to a function as Dask's own schedulers finish them."""

    def __init__(self, keys: set[Key], note: OnBlock) -> None:
        super().__init__()
        self._keys = keys
        self._note = note

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        if key in self._keys:
            self._note(key, result)


def _count_threads() -> int:
    return dask.config.get("num_workers", None) or CPU_COUNT


@contextmanager
def wait_for_threads(get: Any = dask.threaded.get) -> Iterator[None]:
    """Wait for running tasks where another one failed, or on Ctrl-C: they would still write.

    Only the threads of Dask's own scheduler need that.
    """
    if get is not dask.threaded.get:
        yield
        return
    with ThreadPoolExecutor(_count_threads()) as pool, dask.config.set(pool=pool):
        yield


def _set_priorities(
    graph: HighLevelGraph, nodes: Nodes, keys: Sequence[Key], retries: int
) -> HighLevelGraph:
    # A cluster has as much under way as it has workers, and they may come and go: it is only told
    # what comes first. Annotations of the user's layers are kept.
    uses = find_first_uses(keys, nodes)
    run = partial(run_task, retries=retries)
    layers = {
        name: MaterializedLayer(
            {key: wrap_task(nodes[key], run) if key in nodes else layer[key] for key in layer},
            annotations={"priority": lambda key: -uses.get(key, 0), **(layer.annotations or {})},
        )
        for name, layer in graph.layers.items()
    }
    return HighLevelGraph(layers, graph.dependencies)


def _run_distributed(client: Any, graph: HighLevelGraph, keys: list[Key], note: OnBlock) -> None:
    # A block that kills its worker takes along what waited there. Alone it only takes itself.
    killers = _gather(client, graph, keys, note, suspect=lambda key: None)
    for key in killers:
        _gather(client, graph.cull({key}), [key], note, suspect=lambda key: note(key, _KILLER))


_KILLER = Failure("KilledWorker: its workers die; it may need more memory than they have")


def _gather(
    client: Any,
    graph: HighLevelGraph,
    keys: list[Key],
    note: OnBlock,
    suspect: Callable[[Key], None],
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
