"""Run a command: `python -m services.control halt`, `drain`, `status` or `dead-letters list`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from rabbit.control.client import ControlClient
from rabbit.logs import logger
from rabbit.terminal import visible

from . import dead_letters
from .containers import Containers
from .doctor import doctor
from .drain import Drain
from .halt import Halt
from .management import ControlSettings, Management
from .replicas import Replica, Replicas
from .room import Format, Formats, console, one_line_errors, spinner
from .status import Status, fold
from .text import count

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
app.add_typer(dead_letters.app, name="dead-letters")
app.command()(doctor)
Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TARGET]...", help="A stage, or stage/replica; default: all."),
]
Timeout = Annotated[float | None, typer.Option(help="Seconds; default: HALT_TIMEOUT, or else 60.")]
Told = Annotated[
    str | None,
    typer.Option(envvar="CONTAINERS", hidden=True, help="What deploy/bin/containers prints."),
]


class _Room:
    """What every command works with."""

    def __init__(
        self, settings: ControlSettings, roll_call: ControlClient, containers: Containers
    ) -> None:
        self.settings = settings
        self.roll_call = roll_call
        self.management = Management(settings)
        self.replicas = Replicas(roll_call, self.management, containers)
        self.console = console()


@contextmanager
def _room(containers: str | None = None, timeout: float | None = None) -> Iterator[_Room]:
    """Connect, within the time-out; a failure that a person can mend ends in one line."""
    with one_line_errors():
        settings = ControlSettings.load()
        known = Containers.read(containers)
        log = logger(settings, stage="control")
        with ControlClient(settings, log, timeout or settings.halt_timeout) as roll_call:
            yield _Room(settings, roll_call, known)


@app.command()
def halt(
    targets: Targets = None,
    timeout: Timeout = None,
    containers: Told = None,
    form: Formats = Format.TABLE,
) -> None:
    """Stop every replica now, and prove it. Queued messages stay queued."""
    with _room(containers, timeout) as room:
        attempt = Halt(room.roll_call, room.replicas, targets or ())
        with spinner("halting") as tell:
            proved = attempt.run(timeout or room.settings.halt_timeout, tell)
        missing = [] if proved else attempt.missing
        if form is Format.JSON:
            halted = [each.name for each in attempt.halted]
            told = {"proved": proved, "halted": halted, "missing": missing}
            typer.echo(json.dumps({**told, "forgotten": attempt.forgotten}, indent=2))
        else:
            _show_halt(room, attempt, missing)
        if not proved:
            raise typer.Exit(1)


@app.command()
def forget(
    names: Annotated[list[str], typer.Argument(help="stage/replica, as told.")],
    *,
    missing_ok: Annotated[bool, typer.Option(help="Say nothing of those there are not.")] = False,
    form: Formats = Format.TABLE,
) -> None:
    """Let go of replicas that are cut off and will not come back; nobody waits for them then."""
    with _room() as room:
        gone = []
        for name in names:
            if room.replicas.forget(name, missing_ok=missing_ok):
                gone.append(name)
                if form is Format.TABLE:
                    room.console.print(f"forgotten: {visible(name)}")
        if form is Format.JSON:
            typer.echo(json.dumps({"forgotten": gone}, indent=2))


@app.command()
def drain(
    targets: Targets = None,
    timeout: Timeout = None,
    containers: Told = None,
    form: Formats = Format.TABLE,
) -> None:
    """Stop the pipeline in flow order: each stage finishes its whole queue first.

    It takes as long as it takes; it gives up when it gets no further for the time-out.
    """
    with _room(containers, timeout) as room:
        work = Drain(room.roll_call, room.management, room.replicas)
        with spinner("draining") as tell:
            stages = work.run(targets or (), timeout or room.settings.halt_timeout, tell)
        if form is Format.JSON:
            typer.echo(json.dumps({"drained": stages}, indent=2))
        else:
            names = " → ".join(map(visible, stages))
            room.console.print(f"drained {count(len(stages), 'stage')}:", names)


@app.command()
def status(
    targets: Targets = None,
    form: Formats = Format.TABLE,
    *,
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
    containers: Told = None,
) -> None:
    """Show who is there, in which state, and how many messages each queue holds."""
    with _room(containers) as room:
        room.replicas.call()
        there = room.replicas.weighed()
        if targets:
            room.replicas.require(targets, "show")
        depths = fold(room.management.messages())
        shown = Status(room.replicas, there, targets or (), depths)
        if as_json or form is Format.JSON:
            typer.echo(shown.as_json())
        else:
            shown.show(room.console)


def _show_halt(room: _Room, attempt: Halt, missing: list[str]) -> None:
    for line in attempt.forgotten:
        room.console.print(f"forgotten: {visible(line)}", soft_wrap=True)
    halted = attempt.halted
    room.console.print(f"halted {len(halted)}/{len(attempt.concerned)}", _names(halted))
    for line in missing:
        room.console.print(f"not proved halted: {visible(line)}", soft_wrap=True)
    if room.replicas.strange:
        room.console.print(room.replicas.strange, soft_wrap=True)


def _names(replicas: list[Replica]) -> str:
    return ", ".join(visible(each.name) for each in replicas)


app()
