"""What the commands have in common: where they print, and how they end when something is wrong."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from rabbit import ConfigurationError, RabbitError
from rabbit.operations.engine import Engine
from rabbit.terminal import say, visible

#: How wide tables are that nobody looks at now.
PIPE_WIDTH = 160


class Format(StrEnum):
    """For whom to print."""

    TABLE = "table"
    JSON = "json"


def _contents(name: str) -> str:
    """Return what is in a file that make has written."""
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}") from None


Formats = Annotated[Format, typer.Option("--format", help="For people, or for programs.")]
#: A file's contents: a variable, or an argument, can be no longer than 128 KiB, 1,300 replicas.
Told = Annotated[
    str | None,
    typer.Option(
        envvar="CONTAINERS_FILE",
        parser=_contents,
        hidden=True,
        help="A file with what deploy/bin/containers prints.",
    ),
]


def here() -> Engine:
    """Return what the pipeline runs on, by the TARGET that make was called with."""
    return Engine.of(os.environ.get("TARGET"))


def console() -> Console:
    """Return where a command prints its result."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal that something is going on; give a function that says what."""
    with Console(stderr=True).status(text) as status:
        yield lambda said: status.update(Text(visible(said)))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End in one line, and with the error's exit code, when a person can mend what went wrong."""
    try:
        yield
    except RabbitError as error:
        # Only what is said of settings has several lines; a line break of the broker's makes none.
        several = isinstance(error, ConfigurationError)
        for line in str(error).splitlines() if several else [str(error)]:
            say(f"control: {visible(line)}")
        raise typer.Exit(error.exit_code) from None


def piped_in(command: str) -> str:
    """Return what Compose has printed, from standard input."""
    if sys.stdin.isatty():
        msg = f"docker compose config --format json | docker compose run --rm -T control {command}"
        raise ConfigurationError(f"standard input says which stages there are: {msg}")
    return sys.stdin.read()
