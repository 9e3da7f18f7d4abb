"""The doctor: differences between what the stages declare and what the broker has."""

import json
import sys
from dataclasses import asdict

import typer
from rich.table import Table

from rabbit import ConfigurationError
from rabbit.operations.compose import stages
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.topology_diff import Finding, differences
from rabbit.terminal import counted, escape

from .cli import Format, Formats, console, one_line_errors


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
        found = differences(declared, Management(ControlSettings.load()))
    if form is Format.JSON:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
    elif found:
        console().print(_table(found))
    else:
        typer.echo(f"no difference: {counted(len(declared), 'stage')}, all as declared")
    raise typer.Exit(1 if found else 0)


def _table(found: list[Finding]) -> Table:
    table = Table("problem", "what", title=counted(len(found), "difference"))
    for name in ("name", "detail", "stages"):
        table.add_column(name, overflow="fold")
    for each in found:
        row = (each.problem, each.what, each.name, each.detail, ", ".join(each.stages))
        table.add_row(*map(escape, row))
    return table
