"""What is lost, and what is done twice, when a run is killed again and again.

A process writes the embedding of a scene with `to_zarr` and is killed with SIGKILL at a random
moment: while it imports, lays out the store, looks at what stands, embeds or writes. The next one
goes on with ``resume=True``, and so forth, until one is let run to its end. Every block that is
embedded is noted in a file, so that those embedded twice can be counted. In the end the store is
compared, byte for byte, with that of a run that nothing came between.

The model is tiny with random weights. The moments are seeded; how far a process gets by then is
not, and depends on the machine.

Run: python tests/benchmarks/resume.py [--kills 25] [--size 4480] [--seed 0]
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import print_machine, print_table

WINDOW_PX = 224
BLOCK_PX = 448
GOAL_TWICE = 2  # blocks per kill: one per thread
N_THREADS = 2


def write(store: str, size_px: int, log: str) -> None:
    """Write the embedding of a scene, with a line in a file for each step."""
    notes = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(notes, b"started\n")

    import dask
    import dask.array as da

    import xr_terramind as xtm
    from xr_terramind.blocks.plan import set_block_counts

    def note(block, block_info=None):
        os.write(notes, b"block %d %d\n" % block_info[None]["chunk-location"][1:])
        return block

    # Chunks are blocks, and a block reads its chunk once: to count the one is to count the other.
    scene = xtm.sample_scene(size_px, chunks={"y": BLOCK_PX, "x": BLOCK_PX})
    data = da.map_blocks(
        note, scene.data, dtype=scene.dtype, meta=scene.data._meta, name=f"noted-{scene.data.name}"
    )
    # Blocks of the same few windows, however large the scene.
    batch = (BLOCK_PX // WINDOW_PX) ** 2
    with set_block_counts(wanted_blocks=10**9, min_blocks=4, min_batch=batch):
        embedding = scene.copy(data=data).terramind.embed(
            model="terramind_v1_tiny", weights="random", device="cpu", window_size=WINDOW_PX
        )
    assert embedding.data.npartitions == data.npartitions
    os.write(notes, b"imported\n")
    with dask.config.set(num_workers=N_THREADS):
        embedding.terramind.to_zarr(store, resume=True)
    os.write(notes, b"finished\n")


def start(store: Path, size_px: int, log: Path) -> subprocess.Popen:
    """Begin or go on, in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--write", str(store)]
    return subprocess.Popen([*command, "--size", str(size_px), "--log", str(log)])


def run_unbroken(folder: Path, size_px: int) -> tuple[float, float]:
    """Run to the end; return the seconds to the first block, and those after it."""
    log, began_s = folder / "unbroken.log", time.perf_counter()
    process = start(folder / "unbroken.zarr", size_px, log)
    first_s = 0.0
    while process.poll() is None:
        if not first_s and embedded(log):
            first_s = time.perf_counter() - began_s
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"the unbroken run ended with {process.returncode}")
    return first_s, time.perf_counter() - began_s - first_s


def embedded(log: Path) -> list[str]:
    """Return a line for each block that was embedded, or was about to be."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if line.startswith("block")]


def standing(store: Path) -> int:
    """Count the blocks that are written."""
    return sum(
        path.is_file() and path.name.isdecimal() for path in (store / "embedding/c").rglob("*")
    )


def files(store: Path) -> dict[str, bytes]:
    """Read every file of a store."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


def where(log: Path, before: int, after: int) -> str:
    """Say what a process was at when it was killed."""
    lines = log.read_text().splitlines() if log.exists() else []
    lines = lines[len(lines) - lines[::-1].index("started") :] if "started" in lines else []
    if "imported" not in lines:
        return "importing"
    if not any(line.startswith("block") for line in lines):
        return "laying out or looking at what stands"
    return "embedding and writing" if after > before else "embedding its first blocks"


def kill_and_resume(folder: Path, size_px: int, kills: int, seed: int) -> list[list[object]]:
    """Kill so many runs, let the last one finish, and return a row of the table for each."""
    to_first_s, rest_s = run_unbroken(folder, size_px)
    store, log, moments = folder / "killed.zarr", folder / "killed.log", random.Random(seed)
    rows: list[list[object]] = []
    while True:
        before, noted, began_s = standing(store), len(embedded(log)), time.perf_counter()
        process = start(store, size_px, log)
        if len(rows) < kills:
            # One in five dies before its first block, the others some blocks later: all together
            # have about half of the time that the work needs, and the last one does the rest.
            if early := moments.random() < 0.2:
                wait_s = to_first_s * moments.random()
            else:
                wait_s = 1.2 * rest_s / kills * moments.random()
            while not early and process.poll() is None and len(embedded(log)) == noted:
                time.sleep(0.01)
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        alive_s = time.perf_counter() - began_s
        torn = sum(path.name.endswith(".partial") for path in store.rglob("*"))
        after, noted_now = standing(store), len(embedded(log))
        ended = process.returncode == 0
        at = "ran to its end" if ended else where(log, before, after)
        lost = noted_now - noted - (after - before)
        rows.append([len(rows) + 1, f"{alive_s:.1f}", at, before, after, lost, torn])
        if ended:
            return rows
        if process.returncode != -9:
            raise SystemExit(f"a run ended with {process.returncode}")


def main() -> None:
    """Run the whole of it, or one process of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--size", type=int, default=4480)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--log", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write, options.size, options.log)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began_s = time.perf_counter()
        rows = kill_and_resume(folder, options.size, options.kills, options.seed)
        n_blocks = len(set(embedded(folder / "killed.log")))
        n_embedded = len(embedded(folder / "killed.log"))
        same = files(folder / "killed.zarr") == files(folder / "unbroken.zarr")
        whole_s = time.perf_counter() - began_s
    n_kills = len(rows) - 1
    print_table(
        f"Killed {n_kills} times: {n_blocks} blocks, {n_embedded} embedded in all",
        ("run", "alive, s", "at", "blocks before", "after", "begun in vain", "torn files"),
        rows,
    )
    print(
        f"\n{n_embedded - n_blocks} blocks were embedded twice (goal: at most "
        f"{GOAL_TWICE} per kill, so {GOAL_TWICE * n_kills}); the store is "
        f"{'byte for byte that' if same else 'NOT that'} of an unbroken run. "
        f"The whole took {whole_s:.0f} s."
    )
    print_machine()
    if not same or n_embedded - n_blocks > GOAL_TWICE * n_kills or n_kills < options.kills:
        raise SystemExit("not as it should be")


if __name__ == "__main__":
    main()
