"""Dead letters, counted and leafed through."""

from collections import Counter
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
    MOST_QUEUES,
    MOST_REASONS,
    OTHER,
    PAGE,
    SHOW_SECONDS,
    Letters,
    Meant,
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
        letters.show("q", "id-99", "ada:secret")

    assert "dead-letters show --queue q id-99" in str(error.value)
    assert queue.shown == SHOW_SECONDS + 1
    assert not letters.are_gone_through


def test_a_letter_that_comes_before_it_is_found(slow: tuple[Letters, _Queue]) -> None:
    """And the rest is not gone through."""
    letters, queue = slow

    found = letters.show("q", "id-3", "ada:secret")

    assert found is not None
    assert found["id"] == "id-3"
    assert queue.shown == 4


class _Letters:
    """A queue of dead letters, and how many of them another one hides."""

    def __init__(self, *letters: DeadLetter, all_seen: bool = True) -> None:
        """Hold these, oldest first."""
        self.there = list(letters)
        self.all_seen = all_seen

    def __enter__(self) -> Self:
        """Be open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Be closed."""

    def look(self, *_: object) -> None:
        """Show none."""

    def purge(self, _queue: str, selects: Callable[[DeadLetter], bool], _tell: object) -> int:
        """Delete what is meant."""
        before = len(self.there)
        self.there = [each for each in self.there if not selects(each)]
        return before - len(self.there)


def _purged(
    monkeypatch: pytest.MonkeyPatch, there: _Letters, meant: Meant
) -> tuple[str, bool, list[str]]:
    """Purge; return what is said, whether that is all, and the ids that stay."""
    monkeypatch.setattr(Letters, "_dead_letters", lambda *_: there)
    monkeypatch.setattr(Letters, "look", lambda *_: ("", True))
    letters = Letters(ControlSettings.load(), structlog.get_logger())
    said, ok = letters.work("purge", meant)(lambda _line: None)
    return said, ok, [each.id for each in there.there]


def _all_of(letters: list[DeadLetter], reason: str = "ValueError") -> Meant:
    """Return what the page asks for with Purge all, after a look at these."""
    overview = Overview(at=1.0)
    for each in letters:
        overview.add(each)
    row = next(each for each in overview.summary()["rows"] if each["reason"] == reason)
    return Meant("q", reason, row["count"], row["newest"])


@pytest.mark.parametrize("later", [[5, 6], [0, 1]], ids=["later", "by a clock that is behind"])
def test_all_are_those_that_were_seen(monkeypatch: pytest.MonkeyPatch, later: list[int]) -> None:
    """What is given up while the question is open stays."""
    seen = [_letter(number) for number in range(5)]
    came = [
        DeadLetter(f"new-{n}", "q", "ValueError", "", "s", "r", 4, _letter(n).failed_at, 10)
        for n in later
    ]

    said, ok, left = _purged(monkeypatch, _Letters(*seen, *came), _all_of(seen))

    assert (said, ok) == ("deleted 5 dead letters", True)
    assert left == [each.id for each in came]


def test_what_came_since_does_not_take_the_place_of_what_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody has taken two of five, and two others have come."""
    seen = [_letter(number) for number in range(5)]

    said, ok, left = _purged(
        monkeypatch, _Letters(*seen[2:], _letter(5), _letter(6)), _all_of(seen)
    )

    assert said == "deleted 3 dead letters; 2 were not found: not there any more"
    assert not ok
    assert left == ["id-5", "id-6"]


def test_one_that_was_chosen_takes_no_other_of_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id may come again; when it was given up tells them apart, and how many were chosen."""
    twins = [
        DeadLetter("1", "q", "ValueError", "", "s", "r", 4, f"2026-11-26T01:00:0{n}+00:00", 10)
        for n in (0, 1, 1, 2)
    ]
    meant = Meant("q", chosen=Counter([("1", twins[1].failed_at)]))

    there = _Letters(*twins)
    said, ok, _ = _purged(monkeypatch, there, meant)

    assert (said, ok) == ("deleted 1 dead letter", True)
    assert there.there == [twins[0], twins[2], twins[3]]


@pytest.mark.parametrize(
    ("all_seen", "why"), [(True, "not there any more"), (False, "somebody else goes through them")]
)
def test_less_than_was_asked_for_is_not_done(
    monkeypatch: pytest.MonkeyPatch, *, all_seen: bool, why: str
) -> None:
    """It is said how many are missing, and why."""
    seen = [_letter(number) for number in range(3)]

    there = _Letters(seen[0], all_seen=all_seen)
    said, ok, _ = _purged(monkeypatch, there, _all_of(seen))

    assert said.startswith("deleted 1 dead letter; 2 were not found: ")
    assert why in said
    assert not ok


def test_the_rest_of_the_reasons_is_not_acted_on_at_once() -> None:
    """The page is told which row that is: one cannot say in a word which letters are meant."""
    overview = Overview()
    for number in range(MOST_REASONS + 5):
        overview.add(_letter(number, f"Error{number}"))

    rows = overview.summary()["rows"]
    assert [row["reason"] for row in rows if row["is_rest"]] == [OTHER]


def test_when_the_newest_was_given_up() -> None:
    """By the moments that can be read, in whatever order they come."""
    overview = Overview()
    for moment in ("2026-11-26T01:00:00+00:00", "2026-11-26T00:00:00", "tomorrow", ""):
        overview.add(DeadLetter("1", "q", "E", "", "s", "r", 4, moment, 10))

    (row,) = overview.summary()["rows"]
    assert row["newest"] == overview.page("q", "E", 0)["newest"] == 1795654800.0


def test_what_is_kept_of_many_queues_is_bounded() -> None:
    """Of the others letters are counted."""
    overview = Overview()
    for number in range(3 * MOST_QUEUES):
        overview.add(_letter(number, queue=f"q{number}"))

    assert overview.page("", "", 0)["kept"] == MOST_QUEUES
    assert overview.counts.total() == 3 * MOST_QUEUES
