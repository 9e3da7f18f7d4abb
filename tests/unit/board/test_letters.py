"""Dead letters, counted and leafed through."""

from rabbit.dead_letters.dead_letter import DeadLetter
from services.board.letters import MOST_KEPT, MOST_REASONS, OTHER, PAGE, Overview


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
