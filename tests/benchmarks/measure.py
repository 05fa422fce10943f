"""Run contestants as processes of their own, in turns, and print medians as a Markdown table."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

BUSY = 0.1  # of the cores; from about there on, ratios say more of others than of contestants
TRIES = 3
PACKAGES = ("xr_terramind", "torch", "openvino", "terratorch", "dask")


@dataclass(frozen=True)
class Run:
    """One finished process: wall time, peak resident memory, and what it printed as JSON.

    ``others`` is the share of all cores that went to anything else meanwhile, 0 to 1.
    """

    wall_s: float
    peak_mb: float
    others: float
    figures: dict[str, float]


def run_once(arguments: Sequence[str]) -> Run:
    """Run a Python process to its end; its last line of output may be a JSON object.

    Linux counts what this process holds now as held by the new one too, so that no peak is less:
    the scripts themselves import no torch, and have checkpoints written by another process.
    """
    start, start_busy_s = time.perf_counter(), _busy_s()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed with status {status}")
    figures = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    others_s = _busy_s() - start_busy_s - usage.ru_utime - usage.ru_stime
    others = max(0.0, others_s / wall_s / (os.cpu_count() or 1))
    return Run(wall_s, usage.ru_maxrss / 1024, others, figures)


def _busy_s() -> float:
    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")  # stolen by other guests
    return sum(getattr(times, kind, 0.0) for kind in kinds)


def run_undisturbed(arguments: Sequence[str], tries: int) -> Run:
    """Run a process, again while others were busy; return the run with the least of them."""
    runs: list[Run] = []
    while len(runs) < tries and all(run.others > BUSY for run in runs):
        runs.append(run_once(arguments))
    return min(runs, key=lambda run: run.others)


def in_turns(
    contestants: Mapping[str, Sequence[str]],
    repeats: int,
    *,
    warm_up: bool = True,
    tries: int = TRIES,
) -> dict[str, list[Run]]:
    """Run all contestants once, then again, so that a drifting machine is unfair to none."""
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for turn in range(repeats + warm_up):
        for name, arguments in contestants.items():
            if turn or not warm_up:
                runs[name].append(run_undisturbed(arguments, tries))
            else:  # the first turn fills the disk cache
                run_once(arguments)
    return runs


def median(runs: Sequence[Run], figure: str) -> float:
    """Return the median of ``wall_s``, ``peak_mb``, ``others`` or a printed figure."""
    return statistics.median(
        getattr(run, figure) if hasattr(run, figure) else run.figures[figure] for run in runs
    )


def most_others(runs: Mapping[str, Sequence[Run]]) -> float:
    """Return the share that others had of the cores, for the contestant that suffered most."""
    return max(median(found, "others") for found in runs.values())


def as_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table under a title."""
    print(f"\n### {title}\n\n{as_table(header, rows)}")


def machine() -> str:
    """Return what the figures were measured on: the day, the processor, the versions."""
    versions = ", ".join(filter(None, map(_version, PACKAGES)))
    return (
        f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores of {_processor()}, "
        f"Python {platform.python_version()}, {versions}."
    )


def print_machine() -> None:
    """Print what the figures were measured on."""
    print(f"\n{machine()}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    features = next((line for line in lines if line.startswith("flags")), "")
    amx = " with AMX bfloat16" if "amx_bf16" in features else ""
    return (names[0] if names else "unknown processor") + amx


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # openvino is an extra, and TerraTorch may be left out
        return ""
