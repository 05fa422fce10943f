"""What a benchmark reports: figures beside their goals, and its tables."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import BUSY, as_table, machine


@dataclass(frozen=True)
class Figure:
    """A number that has a goal.

    Parameters
    ----------
    what : str
        What was measured, as in "encoder over TerraTorch's".
    value : float
    bound : {"at least", "at most"}
        On which side of the goal the number should be.
    goal : float
    unit : str, default ""
        Nothing for a ratio.
    digits : int, default 3
        How many are shown behind the point. Two would show many ratios as the goal that they miss.
    """

    what: str
    value: float
    bound: Literal["at least", "at most"]
    goal: float
    unit: str = ""
    digits: int = 3

    @property
    def is_met(self) -> bool:
        """Whether the number itself, not what is shown of it, reaches the goal."""
        return self.value >= self.goal if self.bound == "at least" else self.value <= self.goal

    @property
    def row(self) -> tuple[str, str, str, str]:
        """The cells of a table: what, measured, goal, and whether it is met."""
        measured = f"{self.value:,.{self.digits}f} {self.unit}".rstrip()
        goal = f"{self.bound} {self.goal:,g} {self.unit}".rstrip()
        return self.what, measured, goal, "met" if self.is_met else "**not met**"


@dataclass(frozen=True)
class Report:
    """The outcome of one benchmark.

    Parameters
    ----------
    figures : tuple of Figure
        What has a goal.
    text : str
        All that was measured: Markdown, tables under titles of the third level.
    others : float
        The share of the cores that went to anything else, for the contestant that suffered most.
    """

    figures: tuple[Figure, ...]
    text: str
    others: float

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows of its figures, with a word where the machine was not its own."""
        word = ", on a busy machine" if self.others > BUSY else ""
        return [(*cells, verdict + word) for *cells, verdict in (f.row for f in self.figures)]


def goals_table(reports: Sequence[Report]) -> str:
    """Return one row a figure."""
    rows = [row for report in reports for row in report.rows]
    return as_table(("", "measured", "goal", ""), rows)


def circumstances(reports: Sequence[Report]) -> str:
    """Return where it was measured, and how much of the machine others had."""
    others = max(report.others for report in reports)
    return f"{machine()} Other processes had up to {others:.0%} of the cores."


def print_report(report: Report) -> None:
    """Print what one benchmark measured, where, and what became of its goals."""
    print(f"{report.text}\n\n{goals_table([report])}\n\n{circumstances([report])}")
