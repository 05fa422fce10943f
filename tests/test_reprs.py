"""What notebooks show of reports: the same facts as the text, readable in light and in dark."""

import re
from html import unescape

import pytest

import xr_terramind as xtm
from tests.support.cubes import TINY

LIGHT, DARK = "#ffffff", "#111111"
LEAST_CONTRAST = 3.0  # WCAG 2.2 for graphics and large or bold text: labels here are bold


@pytest.fixture(scope="module")
def reports():
    scene = xtm.sample_scene(100)
    named = scene.assign_coords(band=[f"<band {n}>" for n in range(12)])
    return {
        "clean": xtm.sample_scene(224).terramind.check(),
        "warning": scene.terramind.check(),
        "errors": named.terramind.check(),
        "plan": scene.terramind.plan(**TINY),
    }


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2.2 defines it."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_wcags():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", ["clean", "warning", "errors", "plan"])
def test_every_colour_stands_out_in_light_and_dark(name, reports):
    colours = set(re.findall(r"#[0-9a-f]{6}", reports[name]._repr_html_()))
    assert colours
    for colour in colours:
        assert min(contrast(colour, LIGHT), contrast(colour, DARK)) >= LEAST_CONTRAST, colour


@pytest.mark.parametrize("name", ["clean", "warning", "errors", "plan"])
def test_html_says_what_the_text_says(name, reports):
    report = reports[name]
    html = report._repr_html_()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    lines = repr(report).splitlines()[1:]
    assert len(cells) == len(lines)
    for cell, line in zip(cells, lines, strict=True):
        assert unescape(cell) in line
    assert "<band" not in html  # names of users' bands are escaped
