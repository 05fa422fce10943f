"""In which order blocks are done, so that what is read is used up before more is read."""

from collections.abc import Iterator, Sequence
from typing import Any

from xr_terramind.blocks.dask_tasks import Key, Nodes


def sort_by_reading(keys: Sequence[Key], nodes: Nodes) -> list[Key]:
    """Sort blocks so that each follows the last source chunk that it needs.

    Chunks and blocks rarely have the same borders. Where chunks come row by row, and each block as
    soon as it can, a chunk waits for its neighbours only, and not for all blocks of a row.
    """

    def last_read(key: Key) -> tuple[int, ...]:
        chunks = (root[1:] for root in _iter_needs(key, nodes, set()) if _is_chunk(root, nodes))
        return max(chunks, default=())

    return sorted(keys, key=last_read)  # stable: blocks of the same chunk stay row by row


def _is_chunk(key: Any, nodes: Nodes) -> bool:
    return reads_source(key, nodes) and all(isinstance(part, int) for part in key[1:])


def reads_source(key: Any, nodes: Nodes) -> bool:
    """Say whether a task needs nothing, or only what has a plain name: a file."""
    return isinstance(key, tuple) and all(isinstance(need, str) for need in nodes[key].dependencies)


def _iter_needs(key: Any, nodes: Nodes, known: set[Any]) -> Iterator[Any]:
    # The task itself and all that it needs, but for what is known already.
    waiting = [key]
    while waiting:
        key = waiting.pop()
        if key not in known and key in nodes:  # what a cluster holds already is no node
            known.add(key)
            yield key
            waiting.extend(nodes[key].dependencies)


def find_first_uses(keys: Sequence[Key], nodes: Nodes) -> dict[Any, int]:
    """Say for each task which block needs it first, as a position in `keys`."""
    known: set[Any] = set()
    return {
        task: number for number, key in enumerate(keys) for task in _iter_needs(key, nodes, known)
    }
