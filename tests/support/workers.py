"""Worker processes of this machine, and clients of theirs."""

from collections.abc import Iterator

import distributed


def local_cluster(**options: object) -> distributed.LocalCluster:
    """Worker processes with a nanny each, and the dashboard at any free port."""
    return distributed.LocalCluster(dashboard_address=":0", memory_limit=0, **options)


def connected(workers: distributed.LocalCluster) -> Iterator[distributed.Client]:
    with distributed.Client(workers) as client:
        client.wait_for_workers(len(workers.worker_spec), timeout=30)
        yield client
