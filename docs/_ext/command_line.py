"""The directive ``command-line``: what ``xr-terramind --help`` says, as headings and tables."""

import typer
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from xr_terramind.cli import app as typer_app


def _spelling(parameter) -> str:
    value = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "argument":
        return value
    names = ", ".join(parameter.opts)
    return names if parameter.is_flag else f"{names} {value}"


def _explanation(parameter) -> str:
    text = (parameter.help or "").strip()
    shown = not (parameter.default is None or isinstance(parameter.default, bool))
    return f"{text} Default: {parameter.default}." if shown else text


def _row(cells: list[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def _table(rows: list[tuple[str, str]]) -> nodes.table:
    group = nodes.tgroup("", cols=2)
    group += [nodes.colspec(colwidth=40), nodes.colspec(colwidth=60)]
    group += nodes.tbody(
        "", *(_row([nodes.literal("", name), nodes.Text(text)]) for name, text in rows)
    )
    return nodes.table("", group, classes=["command-line"])


class CommandLine(SphinxDirective):
    """Sections of all commands, read off the program itself."""

    def run(self) -> list[nodes.Node]:
        """Build a section for each command."""
        return [
            self._section(name, command)
            for name, command in typer.main.get_command(typer_app).commands.items()
        ]

    def _section(self, name: str, command) -> nodes.section:
        title = f"xr-terramind {name}"
        section = nodes.section("", nodes.title("", title), ids=[nodes.make_id(title)])
        section += nodes.paragraph("", (command.help or "").strip())
        rows = [(_spelling(one), _explanation(one)) for one in command.params]
        if rows:
            section += _table([row for row in rows if not row[0].startswith("--help")])
        examples = [
            line.removeprefix("Example: ").strip()
            for line in (command.epilog or "").splitlines()
            if "xr-terramind" in line
        ]
        if examples:
            section += nodes.literal_block("", "\n".join(examples), language="bash")
        return section


def setup(app):
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
