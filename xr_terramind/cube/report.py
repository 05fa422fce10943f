"""What a check found: issues and facts, as text and as HTML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Literal, NamedTuple

from xr_terramind.errors import TerraMindError, explain

_GREEN = "#2e7d32"


class Fix(NamedTuple):
    """What would mend the values of a whole cube: value * scale + offset, and a nodata value."""

    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None


@dataclass(frozen=True)
class Issue:
    """One thing about a cube that is wrong or doubtful.

    Parameters
    ----------
    code : str
        Short and stable, for programs.
    severity : {"error", "warning"}
        An error stops ``embed``; a warning does not.
    message : str
        Found, expected, remedy.
    kind : type
        The exception that the issue becomes in `InputReport.raise_for_errors`.
    fix : Fix or None
        The remedy in numbers, where numbers suffice.
    """

    code: str
    severity: Literal["error", "warning"]
    message: str
    kind: type[TerraMindError] = field(default=TerraMindError, repr=False)
    fix: Fix | None = field(default=None, repr=False)


def make_warning(
    code: str, found: str, expected: str, remedy: str, *, fix: Fix | None = None
) -> Issue:
    """Say what is doubtful, in the three parts of every message."""
    return Issue(code, "warning", explain(found, expected, remedy), fix=fix)


@dataclass(frozen=True)
class InputReport:
    """What ``check`` found out about a cube.

    Attributes
    ----------
    issues : tuple of Issue
        Errors first.
    facts : mapping of str to str
        What was found, in words.
    """

    issues: tuple[Issue, ...]
    facts: Mapping[str, str]

    @property
    def errors(self) -> tuple[Issue, ...]:
        """The issues that stop ``embed``."""
        return tuple(issue for issue in self.issues if issue.severity == "error")

    @property
    def warnings(self) -> tuple[Issue, ...]:
        """The issues that ``embed`` goes on with."""
        return tuple(issue for issue in self.issues if issue.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether ``embed`` would run; warnings may remain."""
        return not self.errors

    def raise_for_errors(self) -> None:
        """Raise the first error, with the messages of all.

        Raises
        ------
        TerraMindError
            The subclass that fits the first error.
        """
        if self.errors:
            error = self.errors[0].kind("\n".join(issue.message for issue in self.errors))
            error.issues = self.errors
            raise error

    def _verdict(self) -> str:
        counts = (
            f"{len(found)} {word}{'s' if len(found) > 1 else ''}"
            for found, word in ((self.errors, "error"), (self.warnings, "warning"))
            if found
        )
        return "ready to embed" if not self.issues else ", ".join(counts)

    def __repr__(self) -> str:
        width = max((len(key) for key in self.facts), default=0)
        lines = [f"<terramind.InputReport: {self._verdict()}>"]
        lines += [f"  {key:<{width}}  {value}" for key, value in self.facts.items()]
        lines += [f"  {issue.severity} [{issue.code}] {issue.message}" for issue in self.issues]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colours = {"error": "#d93a35", "warning": "#b26a00", "ready": _GREEN}
        rows = [(escape(key), escape(value), "inherit") for key, value in self.facts.items()] + [
            (f"{issue.severity}<br><code>{escape(issue.code)}</code>", escape(issue.message), shade)
            for issue in self.issues
            for shade in (colours[issue.severity],)
        ]
        worst = self.issues[0].severity if self.issues else "ready"
        return html_table(f"terramind.InputReport: {self._verdict()}", rows, edge=colours[worst])


def html_table(title: str, rows: list[tuple[str, str, str]], edge: str = _GREEN) -> str:
    """Draw a two-column table that reads in light and dark notebooks.

    Rows are (label, value, colour): label and value as HTML, the label's colour as CSS; other text
    takes the notebook's own colour. `edge` is the colour of the line beside the table.
    """
    cell = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;background:none"
    body = "".join(
        f'<tr><th style="{cell};color:{colour};white-space:nowrap">{label}</th>'
        f'<td style="{cell}">{value}</td></tr>'
        for label, value, colour in rows
    )
    table = "border-collapse:collapse;margin:4px 0;color:inherit;font:inherit"
    return (
        f'<div style="border-left:3px solid {edge};padding-left:10px"><strong>{escape(title)}'
        f'</strong><table style="{table}">{body}</table></div>'
    )
