"""The order of blocks: reading waits for what is under way, so that memory stays flat."""

from dask.local import get_sync

from xr_terramind.blocks.dask_tasks import make_task
from xr_terramind.blocks.order import find_first_uses, sort_by_reading
from xr_terramind.blocks.run import gate_tasks

N_BLOCKS = 12


def graph_of(log):
    """Blocks that need one chunk of their own and the next one's; each says when it is done."""

    def note(what, number, *_):
        log.append((what, number))

    chunks = {("chunk", i): make_task(("chunk", i), note, "read", i) for i in range(N_BLOCKS + 1)}
    blocks = {
        ("block", i): make_task(
            ("block", i), note, "written", i, needs=[("chunk", i), ("chunk", i + 1)]
        )
        for i in range(N_BLOCKS)
    }
    return chunks | blocks


def test_no_chunk_is_read_before_the_blocks_far_ahead_are_written():
    for ahead in (1, 2, 5):
        log = []
        nodes = graph_of(log)
        keys = [("block", i) for i in range(N_BLOCKS)]
        get_sync(gate_tasks(keys, nodes, retries=0, ahead=ahead), keys)
        assert len(log) == len(nodes)
        for at, (what, number) in enumerate(log):
            first_block = max(number - 1, 0)
            if what == "read":
                assert {("written", i) for i in range(first_block - ahead + 1)} <= set(log[:at])


def test_blocks_follow_the_last_chunk_that_they_need():
    nodes = graph_of([])
    keys = [("block", i) for i in range(N_BLOCKS)]
    assert sort_by_reading(keys[::-1], nodes) == keys
    assert find_first_uses(keys, nodes)[("chunk", 3)] == 2
