"""Measure everything that has a goal, and write it into docs/benchmarks.md between two markers.

What stands outside the markers is written by hand and stays as it is.

Run: python tests/benchmarks/page.py [--quick]
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cold_start
import graph
import memory
import throughput
from figures import Report, circumstances, goals_table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/benchmarks.md"
REPEATS, PASSES = 3, 3
BEGIN = "<!-- figures: written by make bench -->"
END = "<!-- end of figures -->"


def replace_figures(page: str, figures: str) -> str:
    """Return the page with other text between its markers.

    Raises
    ------
    ValueError
        Where each marker does not stand there once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(
            f"found {page.count(BEGIN)} x {BEGIN!r} and {page.count(END)} x {END!r}; expected one "
            "of each, in this order. Put them back around the place for the figures."
        )
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def write_page(path: Path, figures: str) -> None:
    """Replace the figures of a page: all of them, or, killed on the way, none."""
    page = replace_figures(path.read_bytes().decode(), figures)
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(page.encode())
    os.replace(beside, path)


def measure_all(*, quick: bool) -> list[Report]:
    """Run the four benchmarks, one after another."""
    repeats, passes = (1, 1) if quick else (REPEATS, PASSES)
    return [
        cold_start.report(repeats),
        throughput.report(repeats, passes),
        graph.report(repeats),
        memory.report(repeats, memory.FEWEST if quick else tuple(memory.CASES)),
    ]


def summary(reports: Sequence[Report], how_often: str) -> str:
    """Return the table of all goals, what it was measured on, and the tables behind it."""
    texts = [report.text for report in reports]
    return "\n\n".join([goals_table(reports), f"{circumstances(reports)} {how_often}", *texts])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each, to try it out")
    quick = parser.parse_args().quick
    replace_figures(PAGE.read_bytes().decode(), "")  # a fault of the page shows before the wait
    how_often = "One run of each (`--quick`)." if quick else f"Medians of {REPEATS} runs."
    write_page(PAGE, summary(measure_all(quick=quick), how_often))
    print(f"Wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
