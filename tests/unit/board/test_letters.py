"""Dead letters, counted and leafed through."""

from collections.abc import Callable
from typing import Self

import pytest
import structlog

from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.errors import RabbitError
from rabbit.message import Message
from rabbit.operations.management import ControlSettings
from services.board.letters import (
    MOST_KEPT,
    MOST_REASONS,
    OTHER,
    PAGE,
    SHOW_SECONDS,
    Letters,
    Overview,
)


def _letter(number: int, reason: str = "ValueError", queue: str = "q") -> DeadLetter:
    moment = f"2026-11-26T01:{number // 60 % 60:02}:{number % 60:02}+00:00"
    return DeadLetter(f"id-{number}", queue, reason, f"said {number}", "stage", "r", 4, moment, 10)


def test_why_there_are_some() -> None:
    """How many by queue and reason, the most first, with what the newest of them says."""
    overview = Overview(at=1.0)
    for number in range(3):
        overview.add(_letter(number))
    overview.add(_letter(3, "Reject"))

    told = overview.summary()

    assert told["total"] == 4
    assert [(row["reason"], row["count"], row["message"]) for row in told["rows"]] == [
        ("ValueError", 3, "said 2"),
        ("Reject", 1, "said 3"),
    ]


def test_pages_begin_with_the_newest() -> None:
    """Of one queue and one reason, if that is asked for."""
    overview = Overview()
    for number in range(PAGE + 5):
        overview.add(_letter(number))
        overview.add(_letter(number, "Reject", "other"))

    first, second = (overview.page("q", "ValueError", number) for number in (0, 1))

    assert [each["id"] for each in first["letters"]][:2] == ["id-54", "id-53"]
    assert len(first["letters"]) == PAGE
    assert [each["id"] for each in second["letters"]][-1] == "id-0"
    assert (first["pages"], first["total"]) == (2, PAGE + 5)
    assert overview.page("q", "", 99)["letters"] == []


def test_a_hundred_thousand_are_counted_and_the_newest_kept() -> None:
    """What is held is bounded, also where each letter has a reason of its own."""
    overview = Overview()
    for number in range(100_000):
        overview.add(_letter(number, f"Error{number % 1000}"))

    assert overview.counts.total() == 100_000
    assert len(overview.counts) == MOST_REASONS + 1
    assert overview.counts["q", OTHER] == 100_000 - 100 * MOST_REASONS
    page = overview.page("q", "", 0)
    assert (page["total"], page["kept"]) == (100_000, MOST_KEPT)


def test_what_a_message_says_is_one_line_that_ends() -> None:
    """It is shown in a table."""
    overview = Overview()
    overview.add(DeadLetter("id", "q", "A\nB", "\x1b[31m" + "x" * 9999, "s", "r", 1, "", 0))

    (row,) = overview.summary()["rows"]
    assert row["reason"] == "A\\nB"
    assert row["message"].startswith("\\x1b[31mxxx")
    assert len(row["message"]) <= 300


class _Queue:
    """A queue of dead letters that is long, and slow: each takes a second."""

    def __init__(self, clock: list[float]) -> None:
        """Tell the time by `clock`."""
        self._clock = clock
        self.shown = 0

    def __enter__(self) -> Self:
        """Be open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Be closed."""

    def look(self, queue: str, show: Callable[[DeadLetter, Message], None], tell: object) -> None:
        """Show a hundred."""
        del queue, tell
        for number in range(100):
            self._clock[0] += 1.0
            self.shown += 1
            show(_letter(number), Message(b"", b"\0\0", redelivered=False, routing_key=""))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[Letters, _Queue]:
    """Return letters of such a queue."""
    clock = [0.0]
    queue = _Queue(clock)
    monkeypatch.setattr("services.board.letters.monotonic", lambda: clock[0])
    monkeypatch.setattr(Letters, "_dead_letters", lambda *_: queue)
    return Letters(ControlSettings.load(), structlog.get_logger()), queue


def test_a_letter_is_looked_for_until_its_deadline(slow: tuple[Letters, _Queue]) -> None:
    """Whoever asked is told then, and with which command it is found; others get their turn."""
    letters, queue = slow

    with pytest.raises(RabbitError, match="not found within 20 s: so many others") as error:
        letters.show("q", "id-99")

    assert "dead-letters show --queue q id-99" in str(error.value)
    assert queue.shown == SHOW_SECONDS + 1
    assert not letters.are_gone_through


def test_a_letter_that_comes_before_it_is_found(slow: tuple[Letters, _Queue]) -> None:
    """And the rest is not gone through."""
    letters, queue = slow

    found = letters.show("q", "id-3")

    assert found is not None
    assert found["id"] == "id-3"
    assert queue.shown == 4
