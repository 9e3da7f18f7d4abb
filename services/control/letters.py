"""Dead letters as tables for people and as JSON for programs."""

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from rabbit.dead_letters.archive import details, plain
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.message import Message
from rabbit.terminal import counted, escape

from .filters import Filter
from .text import cut

#: How much of an error's message a table shows, and of a name, in characters.
MESSAGE_LENGTH = 60
NAME_LENGTH = 40


class Overview:
    """How many dead letters there are, by queue and reason, and the newest of them.

    It holds no more than it shows, however many there are.
    """

    def __init__(self, chosen: Filter, limit: int) -> None:
        """Count what is selected; keep `limit` letters."""
        self.counts: Counter[tuple[str, str]] = Counter()
        self._filter = chosen
        self._limit = limit
        self._newest: dict[str, deque[DeadLetter]] = {}

    def add(self, letter: DeadLetter, _message: object) -> None:
        """Take a letter into account; those of one queue come oldest first."""
        if self._filter.matches(letter):
            self.counts[letter.queue, letter.reason] += 1
            self._newest.setdefault(letter.queue, deque(maxlen=self._limit)).append(letter)

    @property
    def letters(self) -> list[DeadLetter]:
        """The newest letters, newest last; those of which no time is known come first."""
        kept = [letter for queue in self._newest.values() for letter in queue]
        kept.sort(key=lambda letter: _instant(letter.failed_at))
        return kept[-self._limit :] if self._limit else []

    @property
    def more(self) -> int:
        """How many letters there are beside these."""
        return self.counts.total() - len(self.letters)

    def show(self, console: Console) -> None:
        """Print two tables: how many, and which."""
        if not self.counts:
            console.print("no dead letters")
            return
        console.print(self._count_table())
        console.print(_letter_table(self.letters))
        if self.more:
            older = "dead letter is older" if self.more == 1 else "dead letters are older"
            console.print(f"{self.more} more {older}: --limit {self.counts.total()} shows all")

    def as_json(self) -> str:
        """Return the same for programs."""
        counts = [
            {"queue": queue, "reason": reason, "count": number}
            for (queue, reason), number in sorted(self.counts.items())
        ]
        letters = [asdict(letter) for letter in self.letters]
        return json.dumps({"counts": counts, "letters": letters, "more": self.more}, indent=2)

    def _count_table(self) -> Table:
        table = Table("queue", "reason", title="Dead letters")
        table.add_column("count", justify="right")
        for (queue, reason), number in sorted(self.counts.items()):
            table.add_row(cut(queue, NAME_LENGTH), cut(reason, NAME_LENGTH), str(number))
        return table


def _instant(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _letter_table(letters: list[DeadLetter]) -> Table:
    table = Table(title="Letters")
    table.add_column("id", overflow="fold", min_width=36)
    for name in ("queue", "reason", "message", "stage"):
        table.add_column(name, overflow="fold")
    table.add_column("attempts", justify="right")
    table.add_column("failed at")
    for letter in letters:
        table.add_row(
            escape(letter.id),
            cut(letter.queue, NAME_LENGTH),
            cut(letter.reason, NAME_LENGTH),
            cut(letter.message, MESSAGE_LENGTH),
            cut(letter.stage, NAME_LENGTH),
            "" if letter.attempts is None else str(letter.attempts),
            cut(letter.failed_at[:19], NAME_LENGTH),
        )
    return table


def shown(letter: DeadLetter, message: Message) -> str:
    """Return all that a letter consists of, a line for each part of it."""
    parts = details(letter, message)
    body, encoding = parts.pop("body"), parts.pop("body_encoding")
    lines = list(_lines(parts))
    size = counted(letter.size, "byte")
    if encoding == "base64":
        return "\n".join([*lines, f"body: {size}, not UTF-8, in base64:", body])
    return "\n".join([*lines, f"body: {size}:", escape(body)])


def _lines(parts: dict[str, Any]) -> Iterator[str]:
    for name, value in parts.items():
        title = name.replace("_", " ")
        if isinstance(value, dict):
            yield f"{title}:"
            for key, each in value.items():
                text = each if isinstance(each, str) else json.dumps(plain(each))
                yield f"  {escape(key)}: {escape(text)}"
        else:
            yield f"{title}: {escape('' if value is None else str(value))}"


def to_json(found: list[tuple[DeadLetter, Message]]) -> str:
    """Return letters with all that they consist of."""
    return json.dumps([plain(details(*each)) for each in found], indent=2)
