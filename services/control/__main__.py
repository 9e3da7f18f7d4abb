"""Run a command: `python -m services.control halt`, `drain`, `status` or `dead-letters list`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

from rabbit.logs import logger
from rabbit.roll_call import RollCall

from . import dead_letters
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


class _Room:
    """What every command works with."""

    def __init__(self, settings: ControlSettings, roll_call: RollCall) -> None:
        self.settings = settings
        self.roll_call = roll_call
        self.management = Management(settings)
        self.replicas = Replicas(roll_call, self.management)
        self.console = console()


@contextmanager
def _room() -> Iterator[_Room]:
    """Connect; a failure that a person can mend ends in one line."""
    with one_line_errors():
        settings = ControlSettings.load()
        log = logger(settings, stage="control")
        with RollCall(settings, log, settings.halt_timeout) as roll_call:
            yield _Room(settings, roll_call)


@app.command()
def halt(
    target: Annotated[
        str | None, typer.Argument(help="A stage, or stage/replica; default: all.")
    ] = None,
    timeout: Timeout = None,
) -> None:
    """Stop every replica now, and prove it. Queued messages stay queued."""
    with _room() as room:
        attempt = Halt(room.roll_call, room.replicas, target)
        with room.console.status("halting") as spinner:
            proved = attempt.run(timeout or room.settings.halt_timeout, spinner.update)
        missing = [] if proved else attempt.missing
        halted = [each for each in attempt.concerned if each not in missing]
        room.console.print(f"halted {len(halted)}/{len(attempt.concerned)}", _names(halted))
        if not proved:
            _give_up(room, missing)


@app.command()
def drain(timeout: Timeout = None) -> None:
    """Stop the pipeline in flow order: each stage finishes its whole queue first.

    It takes as long as it takes; it gives up when it gets no further for the time-out.
    """
    with _room() as room:
        work = Drain(room.roll_call, room.management, room.replicas)
        with room.console.status("draining") as spinner:
            stages = work.run(timeout or room.settings.halt_timeout, spinner.update)
        room.console.print(f"drained {len(stages)} stages:", " → ".join(stages))


@app.command()
def status(
    form: Formats = Format.TABLE,
    *,
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
) -> None:
    """Show who is there, in which state, and how many messages each queue holds."""
    with _room() as room:
        room.replicas.call()
        shown = Status(room.replicas, room.replicas, fold(room.management.messages()))
        if as_json or form is Format.JSON:
            typer.echo(shown.as_json())
        else:
            shown.show(room.console)


def _names(replicas: list[Replica]) -> str:
    return ", ".join(each.name for each in replicas)


def _give_up(room: _Room, missing: list[Replica]) -> NoReturn:
    for each in missing:
        room.console.print(f"not proved halted: {each.name}: {room.replicas.explain(each)}")
    if missing:
        room.console.print("The command waits for them: they halt when they come back.")
    else:
        room.console.print("A replica still answers, or still consumes: run it again.")
    raise typer.Exit(1)


app()
