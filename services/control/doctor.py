"""The doctor, and what it goes by: what the stages declare, and what the broker has."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from rabbit.operations.compose import stages
from rabbit.operations.definitions import definitions
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.topology_diff import Finding, differences
from rabbit.terminal import counted, escape

from .cli import Format, Formats, console, one_line_errors, piped_in


def doctor(form: Formats = Format.TABLE) -> None:
    """Compare the broker with what the stages declare; standard input says which stages.

    docker compose config --format json | docker compose run --rm -T control doctor

    Exit code 0: no difference. 1: some. 2: a stage's settings are wrong.
    """
    with one_line_errors():
        declared = stages(piped_in("doctor"))
        found = differences(declared, Management(ControlSettings.load()))
    if form is Format.JSON:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
    elif found:
        console().print(_table(found))
    else:
        typer.echo(f"no difference: {counted(len(declared), 'stage')}, all as declared")
    raise typer.Exit(1 if found else 0)


def show_definitions(
    *,
    users: Annotated[bool, typer.Option(help="Users, as yet without passwords.")] = True,
) -> None:
    """Print what a broker has to be given where stages have TOPOLOGY=given and a user each.

    docker compose config --format json | docker compose run --rm -T control definitions

    For `rabbitmqctl import_definitions`. Nobody can log in as one of these users before he is
    given a password: `rabbitmqctl change_password USER`. Users that are there already would lose
    theirs; with --no-users they keep it.
    """
    with one_line_errors():
        made = definitions(stages(piped_in("definitions")))
        typer.echo(json.dumps(made if users else {**made, "users": []}, indent=2))


def _table(found: list[Finding]) -> Table:
    table = Table("problem", "what", title=counted(len(found), "difference"))
    for name in ("name", "detail", "stages"):
        table.add_column(name, overflow="fold")
    for each in found:
        row = (each.problem, each.what, each.name, each.detail, ", ".join(each.stages))
        table.add_row(*map(escape, row))
    return table
