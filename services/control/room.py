"""What the commands have in common: where they print, and how they end when something is wrong."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from rabbit import RabbitError

#: How wide tables are that nobody looks at now.
PIPE_WIDTH = 160


class Format(StrEnum):
    """For whom to print."""

    TABLE = "table"
    JSON = "json"


Formats = Annotated[Format, typer.Option("--format", help="For people, or for programs.")]


def console() -> Console:
    """Return where a command prints its result."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal that something is going on; give a function that says what."""
    with Console(stderr=True).status(text) as status:
        yield lambda said: status.update(Text(said))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End in one line, and with the error's exit code, when a person can mend what went wrong."""
    try:
        yield
    except RabbitError as error:
        for line in str(error).splitlines():
            typer.echo(f"control: {line}", err=True)
        raise typer.Exit(error.exit_code) from None
