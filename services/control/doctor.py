"""The doctor, and what it goes by: what the stages declare, and what the broker has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from rabbit import ConfigurationError, RabbitError
from rabbit.control.client import ControlClient
from rabbit.logs import logger
from rabbit.operations.compose import Containers, DeclaredStage, stages
from rabbit.operations.definitions import definitions
from rabbit.operations.graph import graph
from rabbit.operations.management import ControlSettings, Management, fold
from rabbit.operations.repair import Repair, described
from rabbit.operations.repair_plan import Plan
from rabbit.operations.topology_diff import Finding, differences
from rabbit.terminal import counted, escape, visible

from .cli import Format, Formats, console, one_line_errors, piped_in, spinner

_Fix = Annotated[
    bool,
    typer.Option(
        "--fix", help="Create what is missing, delete empty orphans, move queues that differ."
    ),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what --fix would do.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_Graph = Annotated[bool, typer.Option("--graph", help="Draw the pipeline instead, as Mermaid.")]
_Told = Annotated[
    str | None,
    typer.Option(envvar="CONTAINERS", hidden=True, help="What deploy/bin/containers prints."),
]


def doctor(
    *,
    fix: _Fix = False,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    draw: _Graph = False,
    containers: _Told = None,
    form: Formats = Format.TABLE,
) -> None:
    """Compare the broker with what the stages declare; standard input says which stages.

    docker compose config --format json | docker compose run --rm -T control doctor

    Exit code 0: no difference, or none left. 1: some. 2: a stage's settings are wrong.
    """
    with one_line_errors():
        declared = stages(piped_in("doctor"))
        settings = ControlSettings.load()
        management = Management(settings)
        if draw:
            typer.echo(graph(declared, fold(management.messages()), management.consumers()))
            return
        if fix or dry_run:
            with _repair(declared, settings, management, containers) as repair:
                is_left = _fix(repair, declared, management, form, ask=not yes, dry_run=dry_run)
        else:
            found = differences(declared, management)
            is_left = bool(found)
            _show(found, len(declared), form)
    raise typer.Exit(1 if is_left else 0)


@contextmanager
def _repair(
    declared: list[DeclaredStage],
    settings: ControlSettings,
    management: Management,
    containers: str | None,
) -> Iterator[Repair]:
    log = logger(settings, stage="control")
    with ControlClient(settings, log, settings.halt_timeout) as client:
        known = Containers.read(containers)
        yield Repair(declared, settings, client, management, known, log)


def _fix(
    repair: Repair,
    declared: list[DeclaredStage],
    management: Management,
    form: Format,
    *,
    ask: bool,
    dry_run: bool,
) -> bool:
    """Do what can be done; return whether something is left to do."""
    is_table = form is Format.TABLE
    plan = repair.plan(patiently=dry_run)
    steps = described(plan)
    if dry_run:
        if is_table:
            _show_plan(steps, plan, len(declared))
        else:
            typer.echo(json.dumps({"would": steps, "left": _plain(plan.left)}, indent=2))
        return not plan.is_empty or bool(plan.left)
    if ask and (plan.delete or plan.move):
        _ask(steps)
    try:
        with spinner("repairing") as tell:
            repair.run(plan, tell)
    finally:  # also of one that has ended early
        for line in repair.done if is_table else ():
            typer.echo(visible(line))
    left = [
        each
        for each in differences(declared, management)
        if each.problem != "unconsumed" or not set(each.stages) & set(repair.halted)
    ]
    if is_table:
        if repair.halted:
            typer.echo(
                f"halted: {', '.join(map(escape, repair.halted))}; make up starts what is to run"
            )
        _show(left, len(declared), form)
    else:
        told = {"done": repair.done, "halted": repair.halted, "left": _plain(left)}
        typer.echo(json.dumps(told, indent=2))
    return bool(left)


def _ask(steps: list[str]) -> None:
    """Ask at the terminal; standard input says which stages there are."""
    try:
        with open("/dev/tty", encoding="utf-8") as given, open("/dev/tty", "w") as terminal:  # noqa: PTH123
            terminal.writelines(f"{visible(step)}\n" for step in steps)
            terminal.write("Do this? [y/N]: ")
            terminal.flush()
            answer = given.readline()
    except OSError:
        msg = "--fix deletes or moves queues, and there is no terminal to ask at: add --yes"
        raise ConfigurationError(msg) from None
    if answer.strip().lower() not in {"y", "yes"}:
        raise RabbitError("nothing is done")


def _show_plan(steps: list[str], plan: Plan, number: int) -> None:
    for step in steps:
        typer.echo(visible(step))
    if steps and not plan.left:
        return
    _show(plan.left, number, Format.TABLE)


def _show(found: list[Finding], number: int, form: Format) -> None:
    if form is Format.JSON:
        typer.echo(json.dumps(_plain(found), indent=2))
    elif found:
        console().print(_table(found))
    else:
        typer.echo(f"no difference: {counted(number, 'stage')}, all as declared")


def _plain(found: list[Finding]) -> list[dict[str, object]]:
    return [asdict(each) for each in found]


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
