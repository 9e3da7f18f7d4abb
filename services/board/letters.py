"""Dead letters on the board: why there are some, which they are, and bringing them back."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any

from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.dead_letters.letters import DeadLetters
from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.message import Message
from rabbit.operations.management import ControlSettings, Management
from rabbit.terminal import counted, visible
from rabbit.topology import Edge

from .body import shown, told
from .jobs import Tell, Work

#: So many letters of a queue are kept to leaf through, the newest; all are counted.
MOST_KEPT = 10_000
PAGE = 50

#: Of so many queues they are kept; of the others they are counted.
MOST_QUEUES = 20

#: Reasons come from messages: so many kinds of them are told apart.
MOST_REASONS = 200
OTHER = "(other reasons)"

#: How long the error of a letter may be, in characters.
MOST_MESSAGE = 300

_NOT_ALL = "not all were seen, somebody else goes through them: look again afterwards"

#: A look at so many letters is done without being asked for.
FEW = 2000

#: How long one letter is looked for, and how long connecting for that may take, in seconds.
SHOW_SECONDS = 20.0
QUICK_SECONDS = 10.0


@dataclass
class Meant:
    """Which letters of a queue are to be replayed or purged: those that somebody has seen.

    Attributes:
        queue: the queue they came from.
        reason: why they are there.
        count: how many there were of it; of those with the reason, the oldest are taken.
        until: when the newest of these was given up, in seconds since 1970; later ones stay.
        chosen: id and time, as the page has them, of letters that were chosen one by one; if
            there are some, they are all, whatever the reason, and each is taken once.
    """

    queue: str
    reason: str = ""
    count: int = 0
    until: float = 0.0
    chosen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Count those that were chosen."""
        if self.chosen:
            self.count = self.chosen.total()

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is one of them; asked of each letter once, oldest first."""
        key = letter.id, _short(letter.failed_at)
        if self.chosen:
            self.chosen[key] -= 1
            return self.chosen[key] >= 0
        is_meant = (
            self.count > 0
            and _short(letter.reason) == self.reason
            and _instant(letter.failed_at) <= self.until
        )
        self.count -= is_meant
        return is_meant


class FoundError(Exception):
    """What was looked for is found: the rest need not be gone through."""


@dataclass
class Overview:
    """What one look has found.

    Attributes:
        at: when, in seconds since 1970; 0: never.
        counts: how many, by queue and reason.
        examples: of each the newest.
        newest: when the newest of each was given up, in seconds since 1970; 0: not known.
        kept: the newest of each queue.
        ordered: the queues whose edge is ordered.
    """

    at: float = 0.0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], DeadLetter] = field(default_factory=dict)
    newest: dict[tuple[str, str], float] = field(default_factory=dict)
    kept: dict[str, deque[DeadLetter]] = field(default_factory=dict)
    ordered: set[str] = field(default_factory=set)

    def add(self, letter: DeadLetter) -> None:
        """Take a letter into account; those of one queue come oldest first."""
        reason = _short(letter.reason)
        key = letter.queue, reason
        if key not in self.counts and len(self.counts) >= MOST_REASONS:
            key = letter.queue, OTHER
        short = replace(
            letter,
            reason=key[1],
            message=_short(letter.message),
            stage=_short(letter.stage),
            replica=_short(letter.replica),
            failed_at=_short(letter.failed_at),
        )
        self.counts[key] += 1
        self.examples[key] = short
        self.newest[key] = max(self.newest.get(key, 0.0), _instant(short.failed_at))
        if letter.queue in self.kept or len(self.kept) < MOST_QUEUES:
            self.kept.setdefault(letter.queue, deque(maxlen=MOST_KEPT)).append(short)

    def summary(self) -> dict[str, Any]:
        """Return what the page shows first."""
        rows = [
            {
                "queue": queue,
                "reason": reason,
                "count": number,
                "newest": self.newest[queue, reason],
                "is_ordered": queue in self.ordered,
                "is_rest": reason == OTHER,
                **_example(self.examples, queue, reason),
            }
            for (queue, reason), number in self.counts.most_common()
        ]
        return {"at": self.at, "total": self.counts.total(), "rows": rows}

    def page(self, queue: str, reason: str, number: int) -> dict[str, Any]:
        """Return one page of letters, newest first.

        Args:
            queue: where they came from; "": anywhere.
            reason: why; "": any.
            number: of the page, from 0.
        """
        meant = [
            letter
            for name, letters in self.kept.items()
            for letter in letters
            if queue in {"", name} and reason in {"", letter.reason}
        ]
        meant.sort(key=lambda letter: letter.failed_at, reverse=True)
        total = sum(
            count
            for (name, why), count in self.counts.items()
            if queue in {"", name} and reason in {"", why}
        )
        rows = [asdict(each) for each in meant[number * PAGE : (number + 1) * PAGE]]
        return {
            "letters": rows,
            "page": number,
            "pages": -(-len(meant) // PAGE),
            "total": total,
            "kept": len(meant),
            "newest": max(
                (
                    newest
                    for (name, why), newest in self.newest.items()
                    if queue in {"", name} and reason in {"", why}
                ),
                default=0.0,
            ),
            "is_ordered": queue in self.ordered,
        }


def _short(text: str) -> str:
    return told(text)[:MOST_MESSAGE]


def _instant(moment: str) -> float:
    """Return seconds since 1970; 0: it is no moment."""
    try:
        at = datetime.fromisoformat(moment)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _example(
    examples: dict[tuple[str, str], DeadLetter], queue: str, reason: str
) -> dict[str, str]:
    example = examples[queue, reason]
    return {"message": example.message, "stage": example.stage, "last": example.failed_at}


class Letters:
    """Looks at dead letters and brings them back, each time on connections of its own."""

    def __init__(self, settings: ControlSettings, log: Logger) -> None:
        """Connect when there is something to do.

        Args:
            settings: which brokers there are.
            log: told when none can be reached.
        """
        self._settings = settings
        self._log = log
        self._overview = Overview()
        self._going_through = threading.Lock()

    def summary(self) -> dict[str, Any]:
        """Return what the last look has found."""
        return self._overview.summary()

    def page(self, queue: str, reason: str, number: int) -> dict[str, Any]:
        """Return one page of what the last look has found."""
        return self._overview.page(queue, reason, number)

    def look(self, tell: Tell) -> tuple[str, bool]:
        """Go through all dead letters once; all of them stay."""
        overview = Overview(at=time())
        patience = self._settings.halt_timeout
        with self._alone(patience), self._dead_letters(patience) as letters:
            management = Management(self._settings)
            are_seen = True
            for queue in management.dead_letter_queues():
                letters.look(queue, lambda letter, _: overview.add(letter), _progress(tell, queue))
                are_seen = are_seen and letters.all_seen
                if management.partitions(queue):
                    overview.ordered.add(queue)
            self._overview = overview
        said = f"looked at {counted(overview.counts.total(), 'dead letter')}"
        return (said, True) if are_seen else (f"{said}; {_NOT_ALL}", False)

    def show(self, queue: str, message_id: str, login: str) -> dict[str, Any] | None:
        """Return all of one letter; None: it is not there any more.

        Args:
            queue: the queue it came from.
            message_id: its id.
            login: `user:password` of who wants to see it, as whom it is read.

        Raises:
            BrokerUnavailableError: no connection, or it was lost.
            RabbitError: there are too many letters before it, something else is at them, or this
                user may not read them.
        """
        found: list[dict[str, Any]] = []

        def keep(letter: DeadLetter, message: Message) -> None:
            if letter.id == message_id:
                found.append(shown(letter, message))
                raise FoundError
            if monotonic() > until:
                raise RabbitError(_not_found(queue, message_id))

        with (
            self._alone(SHOW_SECONDS),
            self._dead_letters(QUICK_SECONDS, login) as letters,
            suppress(FoundError),
        ):
            until = monotonic() + SHOW_SECONDS
            letters.look(queue, keep, lambda _seen, _total: None)
        return found[0] if found else None

    @property
    def are_gone_through(self) -> bool:
        """Whether somebody does so now: who comes next has to wait."""
        return self._going_through.locked()

    def _dead_letters(self, patience_seconds: float, login: str | None = None) -> DeadLetters:
        settings = self._settings
        if login is not None:
            user, _, password = login.partition(":")
            settings = settings.as_user(user, password)
        return DeadLetters(settings, self._log, patience_seconds)

    @contextmanager
    def _alone(self, seconds: float) -> Iterator[None]:
        """Wait so long to be alone: what one goes through, another does not see meanwhile."""
        if not self._going_through.acquire(timeout=seconds):
            raise RabbitError("somebody goes through the dead letters now: try again afterwards")
        try:
            yield
        finally:
            self._going_through.release()

    def work(self, verb: str, meant: Meant) -> Work:
        """Return what replays or purges letters of one queue.

        Args:
            verb: `replay` or `purge`.
            meant: which.

        Raises:
            ValueError: there is no such verb.
        """
        if verb not in {"replay", "purge"}:
            raise ValueError(verb)

        def work(tell: Tell) -> tuple[str, bool]:
            patience = self._settings.halt_timeout
            try:
                with self._alone(patience), self._dead_letters(patience) as letters:
                    return (self._purge if verb == "purge" else self._replay)(letters, meant, tell)
            finally:
                if self._overview.counts.total() <= FEW:  # else it takes long: who wants it asks
                    self.look(tell)

        return work

    def _purge(self, letters: DeadLetters, meant: Meant, tell: Tell) -> tuple[str, bool]:
        count = meant.count
        number = letters.purge(meant.queue, meant.takes, _progress(tell, meant.queue))
        missing = _missing(count - number, letters)
        return "; ".join([f"deleted {counted(number, 'dead letter')}", *missing]), not missing

    def _replay(self, letters: DeadLetters, meant: Meant, tell: Tell) -> tuple[str, bool]:
        queue, count = meant.queue, meant.count
        management = Management(self._settings)
        partitions = management.partitions(queue)
        if not (partitions or management.is_bound(Edge(queue).back)):
            said = (
                f"nothing replayed: no queue is bound to {Edge(queue).back}. Start a stage that "
                f"reads {visible(queue)}, it makes one; those of a broadcast edge have no way back"
            )
            return said, False
        progress = _progress(tell, queue)
        done = letters.replay(queue, meant.takes, progress, partitions=partitions)
        said = f"replayed {counted(done.count, 'message')} to {visible(queue)}"
        stays = [f"{number} stay: {visible(why)}" for why, number in done.stays.items()]
        missing = _missing(count - done.count - done.stays.total(), letters)
        return "; ".join([said, *stays, *missing]), not (stays or missing)


def _missing(number: int, letters: DeadLetters) -> list[str]:
    """Say that some of those that were meant were not there, and why."""
    if number <= 0:
        return []
    why = "not there any more" if letters.all_seen else _NOT_ALL
    return [f"{number} {'was' if number == 1 else 'were'} not found: {why}"]


def _not_found(queue: str, message_id: str) -> str:
    command = f"dead-letters show --queue {visible(queue)} {visible(message_id)}"
    why = f"not found within {SHOW_SECONDS:g} s: so many others come before it"
    return f"{why}. In a terminal, docker compose run --rm control {command}"


def _progress(tell: Tell, queue: str) -> Callable[[int, int], None]:
    return lambda seen, total: tell(f"{visible(queue)}.dead: {seen} of {total}")
