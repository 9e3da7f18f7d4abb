"""What is known of a dead letter, which are selected, and how they are shown."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from rabbit import ConfigurationError
from rabbit.amqp.pika_types import Properties, encode_properties
from rabbit.amqp.properties import read_headers
from rabbit.dead_letters.archive import details
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.message import Message
from services.control.filters import Filter, older_than, rate
from services.control.letters import Overview, shown
from services.control.text import cut


def dead(body: bytes = b"text", **given: Any) -> Message:
    """Return a message with these properties."""
    properties = encode_properties(Properties(**given))  # type: ignore[no-untyped-call]
    return Message(body, properties, redelivered=False, routing_key="key")


def letter(number: int = 0, queue: str = "one", reason: str = "ValueError") -> DeadLetter:
    """Return a letter that failed in second `number`."""
    failed_at = f"2026-11-24T10:00:{number:02}+00:00"
    return DeadLetter(f"{queue}-{number}", queue, reason, "", "", "", 4, failed_at, 0)


FAILURE: dict[str, Any] = {
    "x-error-type": "KeyError",
    "x-error-message": "no",
    "x-failed-stage": "stage",
    "x-failed-replica": "r1",
    "x-attempts": 4,
    "x-failed-at": "2026-11-24T10:00:00+00:00",
}


def test_a_letter_knows_what_its_failure_has_left() -> None:
    """From the headers that the stage has added, and the size of the body."""
    known = DeadLetter.of("one", dead(message_id="m", headers=FAILURE))

    assert known == DeadLetter(
        "m", "one", "KeyError", "no", "stage", "r1", 4, FAILURE["x-failed-at"], 4
    )


def test_the_brokers_reason_counts_where_there_is_no_error() -> None:
    """A delivery limit leaves x-first-death-reason, and the time in x-death."""
    time = datetime(2026, 11, 24, 10, tzinfo=UTC)
    headers = {"x-first-death-reason": "delivery_limit", "x-death": [{"time": time}]}

    known = DeadLetter.of("one", dead(headers=headers))

    assert (known.id, known.reason, known.attempts) == ("", "delivery_limit", None)
    assert known.failed_at == "2026-11-24T10:00:00+00:00"


@pytest.mark.parametrize("properties", [b"", b"\x20\x00", b"\x20\x00\x00\x00\x00\x03\x01aQ"])
def test_what_cannot_be_read_is_a_letter_all_the_same(properties: bytes) -> None:
    """Of an unknown reason; it can be listed, and purged."""
    message = Message(b"", properties, redelivered=False, routing_key="")

    assert DeadLetter.of("one", message).reason == "unknown"


def test_headers_are_read_one_by_one() -> None:
    """Texts and whole numbers, whatever else there is beside them."""
    headers = {"a": "text", "b": -7, "c": 2**40, "d": True, "e": [1], "f": None, "g": {"h": "i"}}

    properties = dead(headers=headers, content_type="x", message_id="m").properties

    assert read_headers(properties) == {"a": "text", "b": -7, "c": 2**40}
    assert read_headers(dead().properties) == {}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Filter(everything=True), True),
        (Filter(reason="ValueError"), True),
        (Filter(reason="KeyError"), False),
        (Filter(ids=["one-0", "x"]), True),
        (Filter(ids=["x"]), False),
        (Filter(ids=["one-0"], reason="KeyError"), False),
    ],
)
def test_a_letter_has_to_fit_all_that_was_asked_for(selection: Filter, *, expected: bool) -> None:
    """One of the ids, and the reason."""
    assert selection.matches(letter()) == expected


def test_something_has_to_be_asked_for() -> None:
    """An empty selection is refused, in words that say what to give; an empty reason is one."""
    with pytest.raises(ConfigurationError, match="say what to replay: --id"):
        Filter().require("replay")
    Filter(reason="").require("replay")


def test_a_queue_is_named_with_or_without_dead() -> None:
    """An unknown one is told together with those there are."""
    assert Filter(queue="one").queues(["one", "two"]) == ["one"]
    assert Filter(queue="one.dead").queues(["one", "two"]) == ["one"]
    assert Filter().queues(["one", "two"]) == ["one", "two"]
    with pytest.raises(ConfigurationError, match=r"'three' has no dead-letter queue.*one, two"):
        Filter(queue="three").queues(["one", "two"])


def test_an_overview_keeps_the_newest_of_all_queues() -> None:
    """Newest last, and it counts those that it does not keep."""
    overview = Overview(Filter(), limit=3)
    for queue, numbers in {"one": [1, 3, 5, 7], "two": [2, 4, 6]}.items():
        for number in numbers:
            overview.add(letter(number, queue), None)

    assert [each.id for each in overview.letters] == ["one-5", "two-6", "one-7"]
    assert overview.more == 4
    assert json.loads(overview.as_json())["counts"][0] == {
        "queue": "one",
        "reason": "ValueError",
        "count": 4,
    }


def test_what_is_shown_cannot_drive_a_terminal() -> None:
    """Neither from the body, nor from a header, nor from an error."""
    bad = "\x1b]0;x\x07\x9b\r\n"
    message = dead(bad.encode(), headers={bad: bad, "x-error-message": bad}, app_id=bad)

    text = shown(DeadLetter.of("one", message), message)

    assert all(line.isprintable() for line in text.splitlines())
    assert cut("abcdef", 4) == "abc…"


def test_properties_that_cannot_be_decoded_are_shown_in_base64() -> None:
    """As is a body that is no text."""
    properties = b"\x20\x00\x00\x00\x00\x03\x01aQ"  # a header of a type that there is not

    told = details(letter(), Message(b"\xff", properties, redelivered=False, routing_key=""))

    assert told["properties"] == {"not readable, in base64": "IAAAAAADAWFR"}
    assert (told["body"], told["body_encoding"]) == ("/w==", "base64")


@pytest.mark.parametrize(
    ("asked", "per_second"), [("20/s", 20), ("20", 20), ("30/m", 0.5), ("36/h", 0.01)]
)
def test_a_rate_has_a_unit(asked: str, per_second: float) -> None:
    """Of time: a second, a minute, an hour."""
    assert rate(asked) == per_second


@pytest.mark.parametrize("asked", ["", "0/s", "fast", "-1/s", "1/d"])
def test_what_is_no_rate_is_said(asked: str) -> None:
    """With what is one."""
    with pytest.raises(ConfigurationError, match="is not such as 20/s, 30/m or 100/h"):
        rate(asked)


@pytest.mark.parametrize("asked", ["", "2", "2 h", "1w", "999999999d"])
def test_what_is_no_age_is_said(asked: str) -> None:
    """Likewise."""
    with pytest.raises(ConfigurationError, match="--older-than: "):
        older_than(asked)


def test_the_old_are_told_by_the_time_of_their_failure() -> None:
    """Of no time zone, it is UTC."""
    old = Filter(before=datetime(2026, 11, 24, 10, 0, 5, tzinfo=UTC))

    assert old.matches(letter(5))
    assert not old.matches(letter(6))
    assert not old.matches(DeadLetter("", "one", "", "", "", "", None, "", 0))
