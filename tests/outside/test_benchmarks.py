"""The page of figures: what is written into it, and what is left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.figures import Figure, Report, goals_table
from tests.benchmarks.page import BEGIN, END, PAGE, replace_figures, summary, write_page

BEFORE = "# Benchmarks\r\n\r\nBy hand:  spaces, ünïcode.\n\n"
AFTER = "\n\n## Why\n\nBy hand too, without a last newline"


def test_what_stands_between_the_markers_is_replaced(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_bytes(f"{BEFORE}{BEGIN}\nold\n{END}{AFTER}".encode())
    for _ in range(2):
        write_page(page, "| new |")
        assert page.read_bytes() == f"{BEFORE}{BEGIN}\n\n| new |\n\n{END}{AFTER}".encode()
    assert list(tmp_path.iterdir()) == [page]


def test_the_page_has_its_markers():
    assert "| new |" in replace_figures(PAGE.read_text(), "| new |")


@pytest.mark.parametrize(
    "page", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}", f"{BEGIN}{BEGIN}{END}"]
)
def test_a_page_without_its_markers_is_refused_and_left_as_it_is(tmp_path, page):
    path = tmp_path / "benchmarks.md"
    path.write_text(page)
    with pytest.raises(ValueError, match=r"found \d x .* expected one of each.* Put them back"):
        write_page(path, "new")
    assert path.read_text() == page


@pytest.mark.parametrize(
    ("value", "bound", "goal", "verdict"),
    [
        (1.5, "at least", 1.5, "met"),
        (1.6, "at least", 1.5, "met"),
        (1.4999, "at least", 1.5, "**not met**"),
        (0.25, "at most", 0.25, "met"),
        (0.2, "at most", 0.25, "met"),
        (0.2501, "at most", 0.25, "**not met**"),
    ],
)
def test_a_goal_is_met_from_its_own_side_on(value, bound, goal, verdict):
    assert Figure("", value, bound, goal).row[-1] == verdict


def test_figures_and_goals_carry_units():
    tile = Figure("a tile", 969.4, "at most", 4096, "MB", digits=0)
    tasks = Figure("graph", 84_340, "at most", 100_000, "tasks", digits=0)
    assert goals_table([Report((tile, tasks), "", 0.0)]).splitlines()[2:] == [
        "| a tile | 969 MB | at most 4,096 MB | met |",
        "| graph | 84,340 tasks | at most 100,000 tasks | met |",
    ]


def test_what_starts_the_contestants_is_small():
    # A process's peak is never less than what the process held that started it.
    code = "import sys, page; assert not {'torch', 'xarray'} & set(sys.modules)"
    folder = Path(__file__).parents[1] / "benchmarks"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def test_the_summary_has_all_figures_before_the_tables_behind_them():
    ratio = Figure("ratio", 0.96, "at least", 0.95)
    reports = [Report((ratio,), "### One", 0.02), Report((ratio, ratio), "### Two", 0.4)]
    text = summary(reports, "Once.")
    goals, rest = text.split("\n\n", 1)
    assert goals.count("| ratio | 0.960 | at least 0.95 | met |") == 1
    assert goals.count("| ratio | 0.960 | at least 0.95 | met, on a busy machine |") == 2
    measured, *tables = rest.split("\n\n")
    assert measured.startswith("Measured ")
    assert measured.endswith(" Other processes had up to 40% of the cores. Once.")
    assert tables == ["### One", "### Two"]
