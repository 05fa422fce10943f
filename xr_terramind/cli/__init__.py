"""``xr-terramind``: the same for files, without writing Python.

`commands` are the commands that make embeddings, `look` those that look at them. `flags` makes the
flags of both from the table of options. `read` and `write` open and write files by their suffix,
`messages` prints what went wrong, `demo` draws the picture of ``xr-terramind demo``.
"""

from xr_terramind.cli.commands import app, main

__all__ = ["app", "main"]
