"""Dead letters: list them, show one, replay, purge, export and import them."""

import sys
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, TypeAlias

import typer

from rabbit import ConfigurationError, RabbitError
from rabbit.dead_letters.archive import Archived, from_line, to_line
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.dead_letters.letters import DeadLetters, Tell
from rabbit.logs import logger
from rabbit.message import Message
from rabbit.operations.management import ControlSettings, Management
from rabbit.terminal import counted, escape
from rabbit.topology import Edge

from .cli import Format, Formats, console, one_line_errors, spinner
from .filters import Filter, older_than, rate
from .letters import Overview, shown, to_json
from .outcome import Outcome, no_such, tell_imported

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
Ids = Annotated[
    list[str] | None, typer.Option("--id", help="Those with this message id; may be repeated.")
]
Reason = Annotated[str | None, typer.Option(help="Those with this reason, such as ValueError.")]
Queue = Annotated[str | None, typer.Option(help="Those that came from this queue.")]
OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than",
        metavar="AGE",
        help="Those given up so long ago or longer: 90s, 30m, 2h, 7d.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many, and do nothing.")]

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
    older: OlderThan = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many of the newest.")] = 50,
    form: Formats = Format.TABLE,
) -> None:
    """Count the dead letters by queue and reason, and show the newest. All of them stay."""
    with _session() as session:
        chosen = Filter(queue=queue, reason=reason, before=older_than(older))
        overview = Overview(chosen, limit)
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
def replay(  # noqa: PLR0913 - options of a command
    *,
    everything: Everything = False,
    ids: Ids = None,
    reason: Reason = None,
    queue: Queue = None,
    older: OlderThan = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many, the oldest first.")] = None,
    per: Annotated[
        str | None, typer.Option("--rate", metavar="N/s", help="No faster: 20/s, 30/m, 100/h.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="QUEUE", help="Copy them to another queue; the letters stay."),
    ] = None,
    dry_run: DryRun = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Also where it comes out of order, to an ordered edge.")
    ] = False,
    form: Formats = Format.TABLE,
) -> None:
    """Publish dead letters again, to the queue they came from, each of them once."""
    with _session() as session:
        chosen = Filter(everything, frozenset(ids or ()), reason, queue, older_than(older))
        chosen.require("replay")
        per_second = rate(per)
        outcome = Outcome(chosen, _verb(to, dry_run=dry_run), "message", form, limit)
        if to is not None and not session.management.is_bound(Edge(to).back):
            there = _ways_back(session.management)
            raise ConfigurationError(f"--to: no stage reads a queue {to!r}; {there}")
        if to is not None:
            told = f"copies go to {escape(to)}: the letters stay among the dead letters"
            typer.echo(f"control: {told}", err=True)

        def work(name: str, tell: Tell) -> None:
            if outcome.is_enough:
                return
            partitions = 0 if to is not None else session.management.partitions(name)
            why_not = None
            if partitions and not yes:
                why_not = _OUT_OF_ORDER
            elif to is None and not (partitions or session.management.is_bound(Edge(name).back)):
                why_not = _NO_WAY
            if dry_run or why_not:
                count = partial(outcome.count, why_not=why_not)
                session.dead_letters.look(name, count, tell)
                return
            done = session.dead_letters.replay(
                name,
                outcome.selects,
                tell,
                to=to,
                limit=outcome.left,
                per_second=per_second,
                partitions=partitions,
            )
            outcome.add(name, done.count, done.stays)

        with outcome.told_if_cut_short():
            session.each_queue(chosen, "replaying", work)
    outcome.tell()


def _verb(to: str | None, *, dry_run: bool) -> str:
    """Say what is done, or would be; to another queue it is a copy."""
    verb = "replayed" if to is None else "copied"
    return f"would have {verb}" if dry_run else verb


def _ways_back(management: Management) -> str:
    """Say which queues something can be replayed to."""
    there = [
        each for each in management.dead_letter_queues() if management.is_bound(f"{each}.back")
    ]
    return f"stages read {', '.join(map(escape, there))}" if there else "no stage has run here"


@app.command()
def purge(
    *,
    everything: Everything = False,
    ids: Ids = None,
    reason: Reason = None,
    queue: Queue = None,
    older: OlderThan = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    form: Formats = Format.TABLE,
) -> None:
    """Delete dead letters for good. It asks first."""
    with _session() as session:
        chosen = Filter(everything, frozenset(ids or ()), reason, queue, older_than(older))
        chosen.require("purge")
        verb = "would have deleted" if dry_run else "deleted"
        outcome = Outcome(chosen, verb, "dead letter", form)
        if not (yes or dry_run):
            _ask(session, chosen)

        def work(name: str, tell: Tell) -> None:
            if dry_run:
                session.dead_letters.look(name, outcome.count, tell)
            else:
                outcome.add(name, session.dead_letters.purge(name, outcome.selects, tell))

        with outcome.told_if_cut_short():
            session.each_queue(chosen, "purging", work)
    outcome.tell()


@app.command()
def export(
    *,
    ids: Ids = None,
    reason: Reason = None,
    queue: Queue = None,
    older: OlderThan = None,
) -> None:
    """Print dead letters, one line of JSON each, from which `import` brings them back.

    All of them stay.
    """
    unseen: list[str] = []
    with _session() as session:
        chosen = Filter(False, frozenset(ids or ()), reason, queue, older_than(older))

        def put(letter: DeadLetter, message: Message) -> None:
            if chosen.matches(letter):
                sys.stdout.write(f"{to_line(letter, message)}\n")

        def work(name: str, tell: Tell) -> None:
            session.dead_letters.look(name, put, tell)
            if not session.dead_letters.all_seen:
                unseen.append(name)

        session.each_queue(chosen, "exporting", work)
    if unseen:
        names = ", ".join(map(escape, unseen))
        why = "as somebody else reads them too: export them again before you delete any"
        typer.echo(f"control: not all dead letters of {names} are exported, {why}", err=True)
        raise typer.Exit(1)


@app.command("import")
def import_(form: Formats = Format.TABLE) -> None:
    """Bring the lines that `export` has printed back among the dead letters, from standard input.

    Byte for byte, with the same ids. A line that is imported twice is there twice.
    """
    with _session() as session:
        if sys.stdin.isatty():
            raise ConfigurationError("standard input: the lines that dead-letters export prints")
        known = set(session.management.dead_letter_queues())
        with spinner("importing"):
            restore = session.dead_letters.restore(_lines(sys.stdin, known))
    tell_imported(restore.done, restore.refused, form)


def _lines(lines: Iterable[str], known: Container[str]) -> Iterator[Archived]:
    """Yield the letters; raise ConfigurationError for a line that is none, or has no queue here."""
    for number, line in enumerate(lines, start=1):
        try:
            archived = from_line(line)
        except ValueError as error:
            raise ConfigurationError(f"line {number}: {error}") from None
        if archived.queue not in known:
            dead = Edge(archived.queue).dead
            msg = f"line {number}: there is no {dead!r} here: start a stage that reads the queue"
            raise ConfigurationError(msg)
        yield archived


_OUT_OF_ORDER = (
    "its edge is ordered, and what was published after it with the same key has been handled: it "
    "comes out of order. Add --yes if that does no harm"
)
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
