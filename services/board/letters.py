"""Dead letters on the board: why there are some, which they are, and bringing them back."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from time import monotonic, time
from typing import Any

from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.dead_letters.letters import DeadLetters, Selects
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

#: Reasons come from messages: so many kinds of them are told apart.
MOST_REASONS = 200
OTHER = "(other reasons)"

#: How long the error of a letter may be, in characters.
MOST_MESSAGE = 300

#: A look at so many letters is done without being asked for.
FEW = 2000

#: How long one letter is looked for, and how long connecting for that may take, in seconds.
SHOW_SECONDS = 20.0
QUICK_SECONDS = 10.0


class FoundError(Exception):
    """What was looked for is found: the rest need not be gone through."""


@dataclass
class Overview:
    """What one look has found.

    Attributes:
        at: when, in seconds since 1970; 0: never.
        counts: how many, by queue and reason.
        examples: of each the newest.
        kept: the newest of each queue.
    """

    at: float = 0.0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], DeadLetter] = field(default_factory=dict)
    kept: dict[str, deque[DeadLetter]] = field(default_factory=dict)

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
        self.kept.setdefault(letter.queue, deque(maxlen=MOST_KEPT)).append(short)

    def summary(self) -> dict[str, Any]:
        """Return what the page shows first."""
        rows = [
            {
                "queue": queue,
                "reason": reason,
                "count": number,
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
        }


def _short(text: str) -> str:
    return told(text)[:MOST_MESSAGE]


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
            for queue in Management(self._settings).dead_letter_queues():
                letters.look(queue, lambda letter, _: overview.add(letter), _progress(tell, queue))
            self._overview = overview
        return f"looked at {counted(overview.counts.total(), 'dead letter')}", True

    def show(self, queue: str, message_id: str) -> dict[str, Any] | None:
        """Return all of one letter; None: it is not there any more.

        Raises:
            BrokerUnavailableError: no connection, or it was lost.
            RabbitError: there are too many letters before it, or something else is at them.
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
            self._dead_letters(QUICK_SECONDS) as letters,
            suppress(FoundError),
        ):
            until = monotonic() + SHOW_SECONDS
            letters.look(queue, keep, lambda _seen, _total: None)
        return found[0] if found else None

    @property
    def are_gone_through(self) -> bool:
        """Whether somebody does so now: who comes next has to wait."""
        return self._going_through.locked()

    def _dead_letters(self, patience_seconds: float) -> DeadLetters:
        return DeadLetters(self._settings, self._log, patience_seconds)

    @contextmanager
    def _alone(self, seconds: float) -> Iterator[None]:
        """Wait so long to be alone: what one goes through, another does not see meanwhile."""
        if not self._going_through.acquire(timeout=seconds):
            raise RabbitError("somebody goes through the dead letters now: try again afterwards")
        try:
            yield
        finally:
            self._going_through.release()

    def work(self, verb: str, queue: str, reason: str, ids: Collection[str]) -> Work:
        """Return what replays or purges letters of one queue.

        Args:
            verb: `replay` or `purge`.
            queue: the queue they came from.
            reason: why they are there; "": any.
            ids: which of those; none: all.

        Raises:
            ValueError: there is no such verb.
        """

        def selects(letter: DeadLetter) -> bool:
            fits = reason in {"", _short(letter.reason)}
            return fits and (not ids or letter.id in ids)

        if verb not in {"replay", "purge"}:
            raise ValueError(verb)

        def work(tell: Tell) -> tuple[str, bool]:
            patience = self._settings.halt_timeout
            try:
                with self._alone(patience), self._dead_letters(patience) as letters:
                    if verb == "purge":
                        number = letters.purge(queue, selects, _progress(tell, queue))
                        return f"deleted {counted(number, 'dead letter')}", True
                    return self._replay(letters, queue, selects, tell)
            finally:
                if self._overview.counts.total() <= FEW:  # else it takes long: who wants it asks
                    self.look(tell)

        return work

    def _replay(
        self,
        letters: DeadLetters,
        queue: str,
        selects: Selects,
        tell: Tell,
    ) -> tuple[str, bool]:
        if not Management(self._settings).is_bound(Edge(queue).back):
            said = (
                f"nothing replayed: no queue is bound to {Edge(queue).back}. Start a stage that "
                f"reads {visible(queue)}, it makes one; those of a broadcast edge have no way back"
            )
            return said, False
        done = letters.replay(queue, selects, _progress(tell, queue))
        said = f"replayed {counted(done.count, 'message')} to {visible(queue)}"
        stays = [f"{number} stay: {visible(why)}" for why, number in done.stays.items()]
        return "; ".join([said, *stays]), not stays


def _not_found(queue: str, message_id: str) -> str:
    command = f"dead-letters show --queue {visible(queue)} {visible(message_id)}"
    why = f"not found within {SHOW_SECONDS:g} s: so many others come before it"
    return f"{why}. In a terminal, docker compose run --rm control {command}"


def _progress(tell: Tell, queue: str) -> Callable[[int, int], None]:
    return lambda seen, total: tell(f"{visible(queue)}.dead: {seen} of {total}")
