"""Run the stage: `python -m services.producer`, or with `--file -` for the lines of stdin."""

import sys
from pathlib import Path
from time import monotonic
from typing import Annotated, BinaryIO

import typer

from rabbit import IncompleteError, RabbitError
from rabbit.terminal import say, visible

from . import Producer


def main(
    file: Annotated[
        str | None, typer.Option(help="Publish each line of this file; - is standard input.")
    ] = None,
) -> None:
    """Publish MESSAGES, or MESSAGE, or the lines of a file; end when all are confirmed."""
    producer: Producer | None = None
    try:
        producer = Producer(_lines(file))
        began = monotonic()
        producer.start()
    except (RabbitError, OSError) as error:
        say(f"producer: {visible(str(error))}")
        raise typer.Exit(_exit_code(error, producer)) from None
    seconds = monotonic() - began
    count = producer.confirmed
    noun = "message" if count == 1 else "messages"
    say(f"published {count} {noun} in {seconds:.1f} s ({count / seconds:,.0f}/s)")


def _exit_code(error: Exception, producer: Producer | None) -> int:
    """Return 0 for a stage that a broadcast halt has reached: it stays down, as any other."""
    is_halted = isinstance(error, IncompleteError) and error.by_broadcast
    if is_halted and producer and not producer.has_somebody_waiting:
        return 0
    return int(getattr(error, "exit_code", 1))


def _lines(file: str | None) -> BinaryIO | None:
    if file is None:
        return None
    return sys.stdin.buffer if file == "-" else Path(file).open("rb")


typer.run(main)
