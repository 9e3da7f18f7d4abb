"""Run a command: `python -m services.control halt`, `drain`, `status` or `dead-letters list`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from rabbit.logs import logger
from rabbit.roll_call import RollCall
from rabbit.text import visible

from . import dead_letters
from .containers import Containers
from .doctor import doctor
from .drain import Drain
from .halt import Halt
from .management import ControlSettings, Management
from .replicas import Replica, Replicas
from .room import Format, Formats, console, one_line_errors
from .status import Status, fold

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
app.add_typer(dead_letters.app, name="dead-letters")
app.command()(doctor)
Timeout = Annotated[float | None, typer.Option(help="Seconds; default: HALT_TIMEOUT, or else 60.")]
Told = Annotated[
    str | None,
    typer.Option(envvar="CONTAINERS", hidden=True, help="What deploy/bin/containers prints."),
]


class _Room:
    """What every command works with."""

    def __init__(
        self, settings: ControlSettings, roll_call: RollCall, containers: Containers
    ) -> None:
        self.settings = settings
        self.roll_call = roll_call
        self.management = Management(settings)
        self.replicas = Replicas(roll_call, self.management, containers)
        self.console = console()


@contextmanager
def _room(containers: str | None = None) -> Iterator[_Room]:
    """Connect; a failure that a person can mend ends in one line."""
    with one_line_errors():
        settings = ControlSettings.load()
        known = Containers.read(containers)
        log = logger(settings, stage="control")
        with RollCall(settings, log, settings.halt_timeout) as roll_call:
            yield _Room(settings, roll_call, known)


@app.command()
def halt(
    target: Annotated[
        str | None, typer.Argument(help="A stage, or stage/replica; default: all.")
    ] = None,
    timeout: Timeout = None,
    containers: Told = None,
) -> None:
    """Stop every replica now, and prove it. Queued messages stay queued."""
    with _room(containers) as room:
        attempt = Halt(room.roll_call, room.replicas, (target,) if target else ())
        with room.console.status("halting") as spinner:
            proved = attempt.run(timeout or room.settings.halt_timeout, spinner.update)
        for line in attempt.forgotten:
            room.console.print(f"forgotten: {visible(line)}", soft_wrap=True)
        halted = attempt.halted
        room.console.print(f"halted {len(halted)}/{len(attempt.concerned)}", _names(halted))
        if not proved:
            for line in attempt.missing:
                room.console.print(f"not proved halted: {visible(line)}", soft_wrap=True)
            raise typer.Exit(1)


@app.command()
def forget(
    names: Annotated[list[str], typer.Argument(help="stage/replica, as told.")],
    *,
    missing_ok: Annotated[bool, typer.Option(help="Say nothing of those there are not.")] = False,
) -> None:
    """Let go of replicas that are cut off and will not come back; nobody waits for them then."""
    with _room() as room:
        for name in names:
            if room.replicas.forget(name, missing_ok=missing_ok):
                room.console.print(f"forgotten: {visible(name)}")


@app.command()
def drain(timeout: Timeout = None, containers: Told = None) -> None:
    """Stop the pipeline in flow order: each stage finishes its whole queue first.

    It takes as long as it takes; it gives up when it gets no further for the time-out.
    """
    with _room(containers) as room:
        work = Drain(room.roll_call, room.management, room.replicas)
        with room.console.status("draining") as spinner:
            stages = work.run(timeout or room.settings.halt_timeout, spinner.update)
        room.console.print(f"drained {len(stages)} stages:", " → ".join(stages))


@app.command()
def status(
    form: Formats = Format.TABLE,
    *,
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
    containers: Told = None,
) -> None:
    """Show who is there, in which state, and how many messages each queue holds."""
    with _room(containers) as room:
        room.replicas.call()
        there = room.replicas.weighed()
        shown = Status(room.replicas, there, fold(room.management.messages()))
        if as_json or form is Format.JSON:
            typer.echo(shown.as_json())
        else:
            shown.show(room.console)


def _names(replicas: list[Replica]) -> str:
    return ", ".join(visible(each.name) for each in replicas)


app()
