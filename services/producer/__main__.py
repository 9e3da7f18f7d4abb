"""Run the stage: `python -m services.producer`, or with `--file -` for the lines of stdin."""

import sys
from pathlib import Path
from time import monotonic
from typing import Annotated, BinaryIO

import typer

from rabbit import RabbitError
from rabbit.terminal import visible

from . import Producer


def main(
    file: Annotated[
        str | None, typer.Option(help="Publish each line of this file; - is standard input.")
    ] = None,
) -> None:
    """Publish MESSAGES, or MESSAGE, or the lines of a file; end when all are confirmed."""
    try:
        producer = Producer(_lines(file))
        began = monotonic()
        producer.start()
    except (RabbitError, OSError) as error:
        typer.echo(f"producer: {visible(str(error))}", err=True)
        raise typer.Exit(getattr(error, "exit_code", 1)) from None
    seconds = monotonic() - began
    count = producer.confirmed
    noun = "message" if count == 1 else "messages"
    typer.echo(f"published {count} {noun} in {seconds:.1f} s ({count / seconds:,.0f}/s)", err=True)


def _lines(file: str | None) -> BinaryIO | None:
    if file is None:
        return None
    return sys.stdin.buffer if file == "-" else Path(file).open("rb")


typer.run(main)
