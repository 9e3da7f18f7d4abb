"""A hostile message, as a page shows it."""

import json
from datetime import UTC, datetime
from typing import Any

from pika.spec import BasicProperties

from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.message import Message
from services.board.body import MOST_BYTES, MOST_CHARACTERS, hex_dump, shown, text, told


def _shown(body: bytes, **headers: object) -> dict[str, Any]:
    properties = BasicProperties(message_id="id-1", headers=headers)  # type: ignore[no-untyped-call]
    raw = b"".join(properties.encode())  # type: ignore[no-untyped-call]
    message = Message(body, raw, redelivered=False, routing_key="q")
    return shown(DeadLetter.of("q", message), message)


def test_what_is_not_printable_is_shown_as_an_escape() -> None:
    """Lines and tabs stay; what would turn the text around, or ring a bell, does not."""
    assert text("one\n\ttwo \x07 \u202eback\r".encode()) == "one\n\ttwo \\x07 \\u202eback\\r"


def test_what_is_no_utf_8_has_no_text() -> None:
    """Its bytes are there all the same."""
    found = _shown(b"\xff\xfe<script>")

    assert found["text"] is None
    assert found["json"] is None
    assert str(found["hex"]).startswith("000000  ff fe 3c 73 63 72 69 70 74 3e")


def test_a_long_one_is_cut_even_within_a_character() -> None:
    """So much of it is shown as fits, and how much that is, is said."""
    found = _shown(b"x" + "ä".encode() * MOST_BYTES)

    assert found["shown"] == MOST_BYTES
    assert str(found["text"]).startswith("xä")
    assert found["json"] is None


def test_json_is_indented_and_too_deep_a_nest_is_not_read() -> None:
    """Neither costs the service its stack."""
    assert json.loads(_shown(b'{"a":[1,2]}')["json"]) == {"a": [1, 2]}
    assert _shown(b"[" * 60_000)["json"] is None


def test_headers_are_lines_that_end() -> None:
    """Whatever type they have, and however long they are."""
    found = _shown(
        b"", **{"when": datetime(2026, 1, 2, tzinfo=UTC), "long": "y" * 9999, "x\n": [1]}
    )

    assert isinstance(found["headers"], dict)
    assert len(found["headers"]["long"]) == MOST_CHARACTERS + 2
    assert found["headers"]["x\\n"] == "[1]"
    assert found["headers"]["when"].startswith("2026-01-02")


def test_the_broker_s_own_history_is_a_table() -> None:
    """Of what has another form, nothing is taken."""
    deaths = [{"queue": "q", "reason": "delivery_limit", "count": 21}, "nonsense"]

    assert _shown(b"", **{"x-death": deaths})["deaths"] == [
        {"queue": "q", "reason": "delivery_limit", "count": "21", "time": ""}
    ]
    assert _shown(b"", **{"x-death": "nonsense"})["deaths"] == []


def test_a_dump_has_bytes_and_their_letters() -> None:
    """As in any hex editor."""
    assert hex_dump(b"0123456789abcdef\x00") == (
        "000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n"
        "000010  00                                               ."
    )
    assert told(None) == ""
