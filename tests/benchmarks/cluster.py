"""One and two worker processes on this machine, and a worker that is killed in the middle.

Every worker process has a model of its own; the processors are shared out among them. The last run
kills one of two workers once a third of the blocks are written: blocks that it was embedding, and
those that it held but had not yet written, are embedded again by others.

Run: python tests/benchmarks/cluster.py [--windows 12] [--repeats 3]
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import print_machine, print_table

BLOCK_PREFIX = "terramind-embed-"
OPTIONS = {"model": "terramind_v1_small", "weights": "random"}


def count_blocks(client) -> object:
    """Count, on the scheduler, how often a block was embedded."""
    import re

    from distributed import SchedulerPlugin

    block = re.compile(r"\('terramind-embed-[0-9a-f]+'")

    class Count(SchedulerPlugin):
        n_blocks = 0

        def transition(self, key, start, finish, *args, **kwargs):
            if finish == "memory" and start == "processing" and block.match(str(key)):
                self.n_blocks += 1

    plugin = Count()
    client.cluster.scheduler.add_plugin(plugin, name="count")
    return plugin


def run(side: int, n_workers: int, folder: Path, *, kill: bool) -> tuple[float, int, int]:
    """Write one embedding; return seconds, blocks, and blocks that were embedded."""
    import xarray as xr
    from distributed import Client, LocalCluster

    import xr_terramind as xtm

    cube = xtm.sample_scene(size_px=224 * side).chunk(x=512, y=512)
    threads = max(1, (os.cpu_count() or 1) // n_workers)
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=threads, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        # Loads the model on every worker, so that only embedding is timed.
        for worker in client.scheduler_info()["workers"]:
            warm = cube[:, :224, :224].compute()
            client.submit(_warm_up, warm, workers=[worker], pure=False).result()
        plugin = count_blocks(client)
        embedding = cube.terramind.embed(**OPTIONS)
        target = folder / f"{n_workers}-{kill}-{time.monotonic_ns()}.zarr"
        n_blocks = embedding.data.npartitions
        if kill:
            victim = next(iter(cluster.workers.values())).process.pid
            threading.Thread(
                target=_kill_when, args=(target, n_blocks // 3, victim), daemon=True
            ).start()
        start = time.perf_counter()
        embedding.terramind.to_zarr(target)
        wall_s = time.perf_counter() - start
    expected = cube.terramind.embed(**OPTIONS)
    stored = xr.open_zarr(target, consolidated=False)["embedding"]
    assert float(abs(stored - expected).max()) < 1e-5
    return wall_s, n_blocks, plugin.n_blocks


def _warm_up(cube) -> None:
    import xr_terramind  # noqa: F401  # a worker has not imported it yet

    cube.terramind.embed(**OPTIONS)


def _kill_when(target: Path, n_written: int, process_id: int) -> None:
    while len(list(target.glob("embedding/c/*/*/*"))) < n_written:
        time.sleep(0.02)
    os.kill(process_id, signal.SIGKILL)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=12, help="along each edge of the scene")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    contestants = {
        "1 process": (1, False),
        "2 processes": (2, False),
        "2 processes, one killed": (2, True),
    }
    found: dict[str, list[tuple[float, int, int]]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.repeats):
            for name, (n_workers, kill) in contestants.items():
                found[name].append(run(chosen.windows, n_workers, Path(folder), kill=kill))
    base_s = statistics.median(run[0] for run in found["1 process"])
    rows = []
    for name, runs in found.items():
        wall_s = statistics.median(run[0] for run in runs)
        again = max(run[2] - run[1] for run in runs)
        rate = chosen.windows**2 / wall_s
        rows.append((name, f"{rate:.1f}", f"{base_s / wall_s:.2f}", runs[0][1], again))
    print_table(
        f"{chosen.windows**2} windows of small to Zarr on a local cluster",
        ("", "windows/s", "over 1 process", "blocks", "embedded again (most)"),
        rows,
    )
    print_machine()


if __name__ == "__main__":
    main()
