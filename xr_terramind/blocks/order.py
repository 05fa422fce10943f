"""In which order blocks are done, so that what is read is used up before more is read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dask._task_spec import GraphNode

Key = tuple[str | int, ...]
Nodes = Mapping[Any, GraphNode]


def in_reading_order(keys: Sequence[Key], nodes: Nodes) -> list[Key]:
    """Sort blocks so that each follows the last source chunk that it needs.

    Chunks and blocks rarely have the same borders. Where chunks come row by row, and each block as
    soon as it can, a chunk waits for its neighbours only, and not for all blocks of a row.

    Parameters
    ----------
    keys : sequence of tuple
        The tasks that write one block each.
    nodes : mapping
        The whole graph.

    Returns
    -------
    list of tuple
    """

    def last_read(key: Key) -> tuple[int, ...]:
        chunks = (root[1:] for root in _ancestors(key, nodes) if _is_chunk(root, nodes))
        return max(chunks, default=())

    return sorted(keys, key=last_read)  # stable: blocks of the same chunk stay row by row


def _is_chunk(key: Any, nodes: Nodes) -> bool:
    return reads(key, nodes) and all(isinstance(part, int) for part in key[1:])


def reads(key: Any, nodes: Nodes) -> bool:
    """Say whether a task reads the source: it needs nothing, or only what has a plain name, a file.

    Parameters
    ----------
    key : tuple or str
    nodes : mapping
        The whole graph.

    Returns
    -------
    bool
    """
    return isinstance(key, tuple) and all(isinstance(need, str) for need in nodes[key].dependencies)


def _ancestors(key: Any, nodes: Nodes, known: set[Any] | None = None) -> Iterator[Any]:
    known = set() if known is None else known
    waiting = [key]
    while waiting:
        key = waiting.pop()
        if key not in known and key in nodes:  # what a cluster holds already is no node
            known.add(key)
            yield key
            waiting.extend(nodes[key].dependencies)


def first_uses(keys: Sequence[Key], nodes: Nodes) -> dict[Any, int]:
    """Say for each task which block needs it first.

    Parameters
    ----------
    keys : sequence of tuple
        The blocks, in the order in which they are to be done.
    nodes : mapping
        The whole graph.

    Returns
    -------
    dict
        Key -> position in `keys`.
    """
    known: set[Any] = set()
    return {
        task: number for number, key in enumerate(keys) for task in _ancestors(key, nodes, known)
    }
