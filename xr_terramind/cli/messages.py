"""How the command line says what went wrong."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from xr_terramind.cli.mend.remedies import write_flags
from xr_terramind.errors import TerraMindError, TerraMindWarning

# Results go to standard output; progress, warnings and errors to standard error.
console = Console(stderr=True)


def say(word: str, style: str, message: str = "") -> None:
    """Print a word in a style, and a message after it, to standard error."""
    # Soft-wrapped, so that the width of a terminal breaks no path that someone wants to copy.
    console.print(Text.assemble((word, style), ": " if message else "", message), soft_wrap=True)


class ReadableGroup(TyperGroup):
    """The commands, with errors and warnings as lines that a user can read."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 1 after an error, with 130 after Ctrl-C."""
        try:
            with _print_warnings():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader, `head` for example, has had enough: typer ends quietly
        except (TerraMindError, OSError) as error:
            say("error", "bold red", write_flags(str(error)))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            say("interrupted", "bold yellow")
            raise typer.Exit(130) from None


@contextmanager
def _print_warnings() -> Iterator[None]:
    said: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = write_flags(str(message))
        if text not in said:
            said.add(text)
            say("warning", "bold yellow", text)

    with warnings.catch_warnings():
        warnings.simplefilter("always", TerraMindWarning)
        warnings.showwarning = show
        yield
