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
from rabbit.operations.certificates import troubles
from rabbit.operations.cluster import Cluster
from rabbit.operations.compose import Containers, DeclaredStage, stages
from rabbit.operations.definitions import definitions
from rabbit.operations.graph import graph
from rabbit.operations.limits_diff import unlimited
from rabbit.operations.management import ControlSettings, Management, fold
from rabbit.operations.repair import Repair, described
from rabbit.operations.repair_plan import Plan
from rabbit.operations.topology_diff import Finding, differences
from rabbit.terminal import counted, escape, visible

from .cli import Format, Formats, Told, console, here, one_line_errors, piped_in, spinner

_Fix = Annotated[
    bool,
    typer.Option(
        "--fix", help="Create what is missing, delete empty orphans, move queues that differ."
    ),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what --fix would do.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_Graph = Annotated[bool, typer.Option("--graph", help="Draw the pipeline instead, as Mermaid.")]


def doctor(
    *,
    fix: _Fix = False,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    draw: _Graph = False,
    containers: Told = None,
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
                plan = repair.plan(patiently=dry_run)
                if dry_run:
                    is_left = _show_plan(plan, declared, Cluster.of(management, here()), form)
                else:
                    if not yes and (plan.delete or plan.move):
                        _ask(described(plan))
                    _mend(repair, plan, form)
                    is_left = _show_left(repair, declared, management, form)
        else:
            cluster = Cluster.of(management, here())
            found = [*differences(declared, management), *unlimited(declared, management)]
            found += cluster.findings()
            found += [
                Finding(each.problem, "certificate", broker, each.detail)
                for broker, each in troubles(settings).items()
            ]
            is_left = bool(found)
            _show(found, declared, cluster, form)
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
        known = Containers.read(containers, here())
        yield Repair(declared, settings, client, management, known, log)


def _show_plan(plan: Plan, declared: list[DeclaredStage], cluster: Cluster, form: Format) -> bool:
    """Say what would be done; return whether there is something to do, or for a person to do."""
    steps, left = described(plan), [*plan.left, *cluster.findings()]
    if form is Format.JSON:
        typer.echo(json.dumps({"would": steps, "left": _plain(left)}, indent=2))
        return bool(steps or left)
    for step in steps:
        typer.echo(visible(step))
    if left or not steps:
        _show(left, declared, cluster, form)
    return bool(steps or left)


def _mend(repair: Repair, plan: Plan, form: Format) -> None:
    """Do it; of what ends early it is said, too, how far it has come."""
    try:
        with spinner("repairing") as tell:
            repair.run(plan, tell)
    finally:
        for line in repair.done if form is Format.TABLE else ():
            typer.echo(visible(line))


def _show_left(
    repair: Repair, declared: list[DeclaredStage], management: Management, form: Format
) -> bool:
    """Compare again, and say what is left; who was halted does not consume, of course."""
    halted, cluster = set(repair.halted), Cluster.of(management, here())
    left = [
        each
        for each in [*differences(declared, management), *cluster.findings()]
        if each.problem != "unconsumed" or not halted & set(each.stages)
    ]
    if form is Format.JSON:
        told = {"done": repair.done, "halted": repair.halted, "left": _plain(left)}
        typer.echo(json.dumps(told, indent=2))
        return bool(left)
    if halted:
        names = ", ".join(map(escape, repair.halted))
        typer.echo(f"halted: {names}; make up starts what is to run")
    _show(left, declared, cluster, form)
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


def _show(
    found: list[Finding], declared: list[DeclaredStage], cluster: Cluster, form: Format
) -> None:
    if form is Format.JSON:
        typer.echo(json.dumps(_plain(found), indent=2))
    elif found:
        console().print(_table(found))
    else:
        nodes = f", on {cluster.size} nodes" if cluster.size > 1 else ""
        number = counted(len(declared), "stage")
        typer.echo(f"no difference: {number}, all as declared{nodes}")


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
