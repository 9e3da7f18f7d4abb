"""The doctor: differences between what the stages declare and what the broker has."""

import json
import sys
from dataclasses import asdict
from time import monotonic, sleep

import typer
from rich.table import Table

from rabbit import ConfigurationError
from rabbit.terminal import escape

from .compose import DeclaredStage, stages
from .examination import Examination, Finding
from .existing import Existing
from .management import ControlSettings, Management
from .room import Format, Formats, console, one_line_errors
from .text import count

#: What the management API tells of consumers lags behind by so much, in seconds.
LAG_SECONDS = 5.0
POLL_SECONDS = 0.5


def doctor(form: Formats = Format.TABLE) -> None:
    """Compare the broker with what the stages declare; standard input says which stages.

    docker compose config --format json | docker compose run --rm -T control doctor

    Exit code 0: no difference. 1: some. 2: a stage's settings are wrong.
    """
    with one_line_errors():
        if sys.stdin.isatty():
            msg = "pipe in what docker compose config --format json prints, or use make doctor"
            raise ConfigurationError(msg)
        declared = stages(sys.stdin.read())
        found = _examine(declared, Management(ControlSettings.load()))
    if form is Format.JSON:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
    elif found:
        console().print(_table(found))
    else:
        typer.echo(f"no difference: {count(len(declared), 'stage')}, all as declared")
    raise typer.Exit(1 if found else 0)


def _examine(declared: list[DeclaredStage], management: Management) -> list[Finding]:
    """Compare; look again for a while when somebody seems not to consume."""
    deadline = monotonic() + LAG_SECONDS
    while True:
        found = Examination(declared, Existing.of(management)).findings()
        lagging = any(each.problem == "unconsumed" for each in found)
        if not lagging or monotonic() > deadline:
            return found
        sleep(POLL_SECONDS)


def _table(found: list[Finding]) -> Table:
    table = Table("problem", "what", title=count(len(found), "difference"))
    for name in ("name", "detail", "stages"):
        table.add_column(name, overflow="fold")
    for each in found:
        row = (each.problem, each.what, each.name, each.detail, ", ".join(each.stages))
        table.add_row(*map(escape, row))
    return table
