"""Run a command: `python -m services.control halt`, `drain`, `status` or `dead-letters list`."""

import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import sleep
from typing import Annotated, Literal

import typer

from rabbit import ConfigurationError
from rabbit.control.client import ControlClient
from rabbit.logs import logger
from rabbit.operations.ages import Ages
from rabbit.operations.certificates import troubles
from rabbit.operations.compose import Containers
from rabbit.operations.drain import Drain
from rabbit.operations.halt import Halt
from rabbit.operations.looks import Looks
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.pause import Pause
from rabbit.operations.repartition import repartition
from rabbit.operations.replicas import Replica, Replicas
from rabbit.terminal import counted, visible

from . import dead_letters
from .cli import Format, Formats, Told, console, here, one_line_errors, spinner
from .doctor import doctor, show_definitions
from .sbom import sbom
from .secure import secure
from .status import Status
from .watch import INTERVAL_SECONDS, watch

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
app.add_typer(dead_letters.app, name="dead-letters")
app.command()(doctor)
app.command("definitions")(show_definitions)
app.command()(secure)
app.command(hidden=True)(sbom)
Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TARGET]...", help="A stage, or stage/replica; default: all."),
]
Timeout = Annotated[float | None, typer.Option(help="Seconds; default: HALT_TIMEOUT, or else 60.")]
Scaled = Annotated[
    bool,
    typer.Option(
        "--scaled",
        hidden=True,
        help="Print `scale STAGE...` for who starts again what has halted: scale it to 0.",
    ),
]


class _Session:
    """What every command works with."""

    def __init__(
        self, settings: ControlSettings, client: ControlClient, containers: Containers
    ) -> None:
        self.settings = settings
        self.client = client
        self.management = Management(settings)
        self.replicas = Replicas(client, self.management, containers)
        self.console = console()


@contextmanager
def _session(containers: str | None = None, timeout: float | None = None) -> Iterator[_Session]:
    """Connect, within the time-out; a failure that a person can mend ends in one line."""
    with one_line_errors():
        settings = ControlSettings.load()
        known = Containers.read(containers, here())
        log = logger(settings, stage="control")
        with ControlClient(settings, log, timeout or settings.halt_timeout) as client:
            yield _Session(settings, client, known)


@app.command()
def halt(
    targets: Targets = None,
    timeout: Timeout = None,
    containers: Told = None,
    form: Formats = Format.TABLE,
    *,
    scaled: Scaled = False,
) -> None:
    """Stop every replica now, and prove it. Queued messages stay queued."""
    with _session(containers, timeout) as session:
        on_commanded = _scaling(scaled=scaled, targets=targets)
        attempt = Halt(session.client, session.replicas, targets or (), on_commanded)
        with spinner("halting") as tell:
            proved = attempt.run(timeout or session.settings.halt_timeout, tell)
        missing = [] if proved else attempt.missing
        if form is Format.JSON:
            halted = [each.name for each in attempt.halted]
            told = {"proved": proved, "halted": halted, "missing": missing}
            typer.echo(json.dumps({**told, "forgotten": attempt.forgotten}, indent=2))
        else:
            _show_halt(session, attempt, missing)
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
    with _session() as session:
        gone = []
        for name in names:
            if session.replicas.forget(name, missing_ok=missing_ok):
                gone.append(name)
                if form is Format.TABLE:
                    session.console.print(f"forgotten: {visible(name)}")
        if form is Format.JSON:
            typer.echo(json.dumps({"forgotten": gone}, indent=2))


@app.command("repartition")
def remove_partitions(
    edge: Annotated[str, typer.Argument(help="The name of an ordered edge.")],
    form: Formats = Format.TABLE,
) -> None:
    """Remove the partitions of an ordered edge, once it is drained: for another PARTITIONS."""
    with _session() as session:
        count = repartition(edge, session.client, session.management, session.replicas)
        if form is Format.JSON:
            typer.echo(json.dumps({"edge": edge, "removed": count}, indent=2))
        else:
            given = session.settings.topology == "given"
            note = f"echo {visible(shlex.quote(edge))} >>secrets/repartitioned"
            then = f"set PARTITIONS, {note}, make secure, make up" if given else "make up"
            told = f"{visible(edge)}: {counted(count, 'partition')} removed; {then}"
            session.console.print(told, soft_wrap=True)


@app.command()
def drain(
    targets: Targets = None,
    timeout: Timeout = None,
    containers: Told = None,
    form: Formats = Format.TABLE,
    *,
    scaled: Scaled = False,
) -> None:
    """Stop the pipeline in flow order: each stage finishes its whole queue first.

    It takes as long as it takes; it gives up when it gets no further for the time-out.
    """
    with _session(containers, timeout) as session:
        on_commanded = _scaling(scaled=scaled, targets=targets)
        work = Drain(session.client, session.management, session.replicas, on_commanded)
        with spinner("draining") as tell:
            stages = work.run(targets or (), timeout or session.settings.halt_timeout, tell)
        if form is Format.JSON:
            typer.echo(json.dumps({"drained": stages}, indent=2))
        else:
            names = " → ".join(map(visible, stages))
            session.console.print(f"drained {counted(len(stages), 'stage')}:", names)


@app.command()
def status(
    targets: Targets = None,
    form: Formats = Format.TABLE,
    *,
    each_replica: Annotated[
        bool, typer.Option("--replicas", help="A row for each replica, not for each stage.")
    ] = False,
    live: Annotated[bool, typer.Option("--watch", help="Again each second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
    containers: Told = None,
) -> None:
    """Show the stages and the queues in flow order, with rates: it looks twice, a second apart."""
    with _session(containers) as session:
        looks = Looks(session.client, session.management, session.replicas)
        take = partial(looks.take, targets or ())
        if live:
            watch(take, session.console, each_replica=each_replica)
            return
        before, ages = take(), Ages()
        ages.take(before)
        sleep(INTERVAL_SECONDS)
        told, now = troubles(session.settings), take()
        old = ages.take(now)
        certificates = {broker: each.detail for broker, each in told.items()}
        shown = Status(now, before, ages=old, each_replica=each_replica, certificates=certificates)
        if as_json or form is Format.JSON:
            typer.echo(shown.as_json())
        else:
            shown.show(session.console)


@app.command()
def pause(
    targets: Targets = None,
    timeout: Timeout = None,
    containers: Told = None,
    form: Formats = Format.TABLE,
) -> None:
    """Have stages take no messages until they are resumed, and prove it; so do those that come."""
    _steer("pause", "paused", targets, timeout, containers, form)


@app.command()
def resume(
    targets: Targets = None,
    timeout: Timeout = None,
    containers: Told = None,
    form: Formats = Format.TABLE,
) -> None:
    """Have stages go on that were paused, and prove it."""
    _steer("resume", "resumed", targets, timeout, containers, form)


def _steer(
    command: Literal["pause", "resume"],
    verb: str,
    targets: list[str] | None,
    timeout: float | None,
    containers: str | None,
    form: Format,
) -> None:
    with _session(containers, timeout) as session:
        attempt = Pause(
            session.client, session.management, session.replicas, command, targets or ()
        )
        with spinner(command) as tell:
            proved = attempt.run(timeout or session.settings.halt_timeout, tell)
        missing = [] if proved else attempt.missing
        if form is Format.JSON:
            names = [each.name for each in attempt.done]
            told = {"proved": proved, verb: names, "missing": missing, "stages": attempt.stages}
            typer.echo(json.dumps(told, indent=2))
        else:
            count = f"{verb} {len(attempt.done)}/{len(attempt.concerned)}"
            session.console.print(count, _names(attempt.done))
            if not attempt.concerned:
                session.console.print(f"no replica is there; {_coming(command, attempt.stages)}")
            for line in missing:
                session.console.print(f"not proved {verb}: {visible(line)}", soft_wrap=True)
        if not proved:
            raise typer.Exit(1)


def _coming(command: str, stages: list[str]) -> str:
    """Say what becomes of replicas that come later."""
    names = ", ".join(map(visible, stages))
    return f"who comes is {'paused' if command == 'pause' else 'not paused'}: {names}"


def _scaling(*, scaled: bool, targets: list[str] | None) -> Callable[[Sequence[str]], None] | None:
    """Return what is to be done once a halt is commanded; None: nothing.

    A Deployment of Kubernetes starts again what has ended, whatever its exit code. Whoever may tell
    it not to reads our standard output.
    """
    if not scaled:
        if "KUBERNETES_SERVICE_HOST" in os.environ:  # Kubernetes sets it in each container
            typer.echo(
                "control: Kubernetes starts again what has halted: it will not last. It does with "
                "make halt TARGET=kubernetes, which scales it to 0 too",
                err=True,
            )
        return None
    replica = next((each for each in targets or () if "/" in each), None)
    if replica:
        raise ConfigurationError(
            f"{replica}: Kubernetes replaces a replica that has halted; halt the stage "
            f"{replica.partition('/')[0]}, or scale it"
        )
    return lambda stages: typer.echo(" ".join(["scale", *stages]))


def _show_halt(session: _Session, attempt: Halt, missing: list[str]) -> None:
    for line in attempt.forgotten:
        session.console.print(f"forgotten: {visible(line)}", soft_wrap=True)
    halted = attempt.halted
    session.console.print(f"halted {len(halted)}/{len(attempt.concerned)}", _names(halted))
    for line in missing:
        session.console.print(f"not proved halted: {visible(line)}", soft_wrap=True)
    if session.replicas.strange:
        session.console.print(session.replicas.strange, soft_wrap=True)


def _names(replicas: list[Replica]) -> str:
    return ", ".join(visible(each.name) for each in replicas)


if __name__ == "__main__":
    app()
