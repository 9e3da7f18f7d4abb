"""Dead letters: list them, show one, replay them, purge them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, TypeAlias

import typer

from rabbit import ConfigurationError, RabbitError
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.dead_letters.letters import DeadLetters, Tell
from rabbit.logs import logger
from rabbit.message import Message
from rabbit.operations.management import ControlSettings, Management
from rabbit.terminal import counted
from rabbit.topology import Edge

from .cli import Format, Formats, console, one_line_errors, spinner
from .filters import Filter
from .letters import Overview, shown, to_json
from .outcome import Outcome, no_such

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
Ids = Annotated[
    list[str] | None, typer.Option("--id", help="Those with this message id; may be repeated.")
]
Reason = Annotated[str | None, typer.Option(help="Those with this reason, such as ValueError.")]
Queue = Annotated[str | None, typer.Option(help="Those that came from this queue.")]

#: What is done to the dead letters of one queue.
Work: TypeAlias = Callable[[str, Tell], None]


class _Session:
    """What these commands work with."""

    def __init__(self, settings: ControlSettings, dead_letters: DeadLetters) -> None:
        self.management = Management(settings)
        self.dead_letters = dead_letters

    def each_queue(self, chosen: Filter, doing: str, work: Work) -> None:
        """Do it to one queue after the other, and show how far it is."""
        with spinner(doing) as tell:
            for queue in chosen.queues(self.management.dead_letter_queues()):
                work(queue, partial(_tell, tell, f"{doing} {Edge(queue).dead}"))


def _tell(tell: Callable[[str], None], doing: str, seen: int, total: int) -> None:
    tell(f"{doing}: {seen} of {total}")


@contextmanager
def _session() -> Iterator[_Session]:
    with one_line_errors():
        settings = ControlSettings.load()
        log = logger(settings, stage="control")
        with DeadLetters(settings, log, settings.halt_timeout) as dead_letters:
            yield _Session(settings, dead_letters)


@app.command("list")
def list_(
    queue: Queue = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many of the newest.")] = 50,
    form: Formats = Format.TABLE,
) -> None:
    """Count the dead letters by queue and reason, and show the newest. All of them stay."""
    chosen = Filter(queue=queue, reason=reason)
    overview = Overview(chosen, limit)
    with _session() as session:
        session.each_queue(
            chosen,
            "looking through",
            lambda name, tell: session.dead_letters.look(name, overview.add, tell),
        )
    if form is Format.JSON:
        typer.echo(overview.as_json())
    else:
        overview.show(console())


@app.command()
def show(
    message_id: Annotated[str, typer.Argument(metavar="ID")],
    queue: Queue = None,
    form: Formats = Format.TABLE,
) -> None:
    """Show all of one dead letter: properties, headers and body. It stays."""
    chosen = Filter(ids=[message_id], queue=queue)
    found: list[tuple[DeadLetter, Message]] = []

    def keep(letter: DeadLetter, message: Message) -> None:
        if chosen.matches(letter):
            found.append((letter, message))

    with _session() as session:
        session.each_queue(
            chosen,
            "looking through",
            lambda name, tell: session.dead_letters.look(name, keep, tell),
        )
        if not found:
            raise RabbitError(no_such([message_id]))
    if form is Format.JSON:
        typer.echo(to_json(found))
    else:
        typer.echo("\n\n".join(shown(*each) for each in found))


@app.command()
def replay(
    *,
    everything: Everything = False,
    ids: Ids = None,
    reason: Reason = None,
    queue: Queue = None,
    form: Formats = Format.TABLE,
) -> None:
    """Publish dead letters again, to the queue they came from, each of them once."""
    chosen = Filter(everything, frozenset(ids or ()), reason, queue)
    outcome = Outcome(chosen, "replayed", "message", form)

    with _session() as session:
        chosen.require("replay")

        def work(name: str, tell: Tell) -> None:
            if not session.management.is_bound(Edge(name).back):
                session.dead_letters.look(
                    name,
                    lambda letter, _: outcome.stays.update(
                        [(name, _NO_WAY)] * outcome.selects(letter)
                    ),
                    tell,
                )
                return
            done = session.dead_letters.replay(name, outcome.selects, tell)
            outcome.done[name] += done.count
            outcome.stays.update({(name, why): number for why, number in done.stays.items()})

        with outcome.told_if_cut_short():
            session.each_queue(chosen, "replaying", work)
    outcome.tell()


@app.command()
def purge(
    *,
    everything: Everything = False,
    ids: Ids = None,
    reason: Reason = None,
    queue: Queue = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    form: Formats = Format.TABLE,
) -> None:
    """Delete dead letters for good. It asks first."""
    chosen = Filter(everything, frozenset(ids or ()), reason, queue)
    outcome = Outcome(chosen, "deleted", "dead letter", form)

    with _session() as session:
        chosen.require("purge")
        if not yes:
            _ask(session, chosen)

        def work(name: str, tell: Tell) -> None:
            outcome.done[name] += session.dead_letters.purge(name, outcome.selects, tell)

        with outcome.told_if_cut_short():
            session.each_queue(chosen, "purging", work)
    outcome.tell()


_NO_WAY = (
    "there is no way back: no queue is bound to the exchange QUEUE.back. Start a stage that reads "
    "the queue, it makes one. Letters of a broadcast edge have none: the queue they came from "
    "belonged to one replica"
)


def _ask(session: _Session, chosen: Filter) -> None:
    """Ask for a confirmation, with the number of letters in it."""
    if not sys.stdin.isatty():
        msg = "purge deletes for good, and there is no terminal to ask at: add --yes"
        raise ConfigurationError(msg)
    overview = Overview(chosen, limit=0)
    session.each_queue(
        chosen,
        "counting",
        lambda name, tell: session.dead_letters.look(name, overview.add, tell),
    )
    typer.confirm(f"Delete {counted(overview.counts.total(), 'dead letter')} for good?", abort=True)
