"""Copies ``../notebooks`` to ``docs/notebooks``: Sphinx reads only what lies in its folder."""

from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SOURCE, TARGET = HERE.parent / "notebooks", HERE / "notebooks"


def _page(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".ipynb":
        return content
    # From notebooks/ a page is ../docs/scale.md, from docs/notebooks/ it is ../scale.md.
    return content.replace(b"](../docs/", b"](../").replace(b"](../README.md", b"](../index.md")


def copy_notebooks(app) -> None:
    """Make the copy equal to the source; what has not changed keeps its date."""
    wanted = {
        path.relative_to(SOURCE): _page(path)
        for path in SOURCE.rglob("*")
        if path.is_file() and ".ipynb_checkpoints" not in path.parts
    }
    for path in TARGET.rglob("*"):
        if path.is_file() and path.relative_to(TARGET) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def setup(app):
    """Run before Sphinx looks for pages."""
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
