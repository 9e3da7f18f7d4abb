"""Lines that dead letters are exported to, and come back from."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from rabbit.amqp.field_table import encode_table
from rabbit.amqp.pika_types import Properties, encode_properties
from rabbit.amqp.properties import decode_headers, drop_headers
from rabbit.dead_letters.archive import from_line, to_line
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.message import Message


def exported(body: bytes = b"text", **given: Any) -> str:
    """Return the line of a letter with these properties."""
    properties = encode_properties(Properties(**given))  # type: ignore[no-untyped-call]
    message = Message(body, properties, redelivered=True, routing_key="key")
    return to_line(DeadLetter.of("one", message), message)


def headed(headers: dict[str, Any]) -> bytes:
    """Return properties that are headers only; pika has no floats."""
    table = encode_table(headers)
    return b"\x20\0" + len(table).to_bytes(4, "big") + table


def test_what_a_delivery_has_added_is_left_out() -> None:
    """And what is left is as it was before: without a table if there was none."""
    counted = {"x-delivery-count": 3, "x-acquired-count": 4}

    for headers in ({}, {"theirs": 1}):
        line = exported(headers=headers | counted, message_id="m")
        bare = encode_properties(Properties(headers=headers or None, message_id="m"))  # type: ignore[no-untyped-call]
        assert from_line(line).output.properties == bare


def test_what_the_broker_acts_upon_becomes_a_header() -> None:
    """It would drop the letter, or refuse it."""
    _, output = from_line(exported(expiration="1000", user_id="somebody"))

    assert decode_headers(output.properties) == {
        "x-original-expiration": "1000",
        "x-original-user-id": "somebody",
    }


def test_a_line_can_be_read_by_others() -> None:
    """It is JSON, whatever the headers hold."""
    headers = {
        "a": [float("nan"), b"\xff"],
        "b": datetime(2026, 1, 1, tzinfo=UTC),
        "c": {"d": None},
    }
    message = Message(b"", headed(headers), redelivered=False, routing_key="")

    line = to_line(DeadLetter.of("one", message), message)

    told = json.loads(line, parse_constant=pytest.fail)
    assert told["headers"] == {
        "a": ["nan", "/w=="],
        "b": "2026-01-01T00:00:00+00:00",
        "c": {"d": None},
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"queue": ""},
        {"queue": 7},
        {"body": None},
        {"body_encoding": "base64", "body": "?"},
        {"raw_properties": "AA"},
        {"raw_properties": base64.b64encode(b"\x20\0\0\0\0\3\1aQ").decode()},
    ],
)
def test_what_is_no_such_line(changed: dict[str, Any]) -> None:
    """It is said, and nothing of it is sent."""
    with pytest.raises(ValueError, match=r"."):
        from_line(json.dumps(json.loads(exported()) | changed))


@pytest.mark.parametrize("line", ["", "7", "[]", "null", "{}"])
def test_what_is_no_letter_at_all(line: str) -> None:
    """Likewise, in words that say where lines come from."""
    with pytest.raises(ValueError, match="dead-letters export has written"):
        from_line(line)


def test_headers_that_stay_stay_as_they_are() -> None:
    """Byte for byte, with the properties around them."""
    properties = headed({"a": 1, "b": 2.5})

    assert drop_headers(properties, lambda _name: False) is properties
    assert drop_headers(properties, "a".__eq__) == headed({"b": 2.5})
