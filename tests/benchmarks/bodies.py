"""Numbered message bodies of an exact size, and the check that each of them has arrived."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Literal, TypeAlias

import pika

from tests.support.wire import marshal

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: The number stands at the front; a handler that did not do its work leaves a small letter behind.
_UPPER = re.compile(rb"(\d{9})=[A-Z]")
_LOWER = re.compile(rb"(\d{9})=[a-z]")
#: What has to differ from message to message beside the number.
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}"
_NUMBER_DIGITS = 8

Carries: TypeAlias = Literal["text", "headers", "json"]
#: As a message has them that is traced.
_HEADERS = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "baggage": "userId=alice",
    "tenant": "acme",
}


def body(number: int, size: int) -> str:
    """Return a text of `size` bytes that begins with its number."""
    head = f"{number:09}="
    room = size - len(head)
    return head + (_LETTERS * (room // len(_LETTERS) + 1))[:room]


def bodies(count: int, size: int) -> Iterator[str]:
    """Yield `count` of them."""
    return (body(number, size) for number in range(count))


class Template:
    """One real message that is replicated: each copy has a number and ids of its own.

    Replacing bytes by as many others keeps every length in the frames right, whatever envelope a
    framework has put around the text.
    """

    def __init__(self, properties: pika.BasicProperties, payload: bytes, size: int) -> None:
        """Take a message whose payload contains `body(0, size)`."""
        text = re.escape(body(0, size)[:10])
        pattern = f"({text}|{_ID})".encode()
        self._parts = re.split(pattern, marshal(properties, payload))

    def messages(self, count: int, first: int = 0) -> Iterator[bytes]:
        """Yield `count` messages, ready to be sent; their numbers begin with `first`."""
        for number in range(first, first + count):
            parts = list(self._parts)
            for place in range(1, len(parts), 2):
                if parts[place].endswith(b"="):
                    parts[place] = b"%09d=" % number
                else:
                    parts[place] = b"%08x" % number + parts[place][_NUMBER_DIGITS:]
            yield b"".join(parts)


def template(size: int, carries: Carries = "text") -> Template:
    """Return the template of what the producer publishes.

    Args:
        size: bytes in a body.
        carries: texts, texts with three headers, or JSON with the text in it.
    """
    key = str(uuid.uuid4())
    is_json = carries == "json"
    properties = pika.BasicProperties(
        content_type="application/json" if is_json else "text/plain",
        content_encoding=None if is_json else "utf-8",
        headers=dict(_HEADERS) if carries == "headers" else None,
        delivery_mode=2,
        message_id=key,
        correlation_id=key,
    )
    payload = _json(size) if is_json else body(0, size)
    return Template(properties, payload.encode(), size)


def _json(size: int) -> str:
    frame: dict[str, object] = {"customer": 4711, "weight": 1.5, "tags": ["a", "b"], "text": ""}
    text = body(0, size - len(json.dumps(frame)))
    return json.dumps(frame | {"text": text})


class Tally:
    """Counts what has arrived."""

    def __init__(self, count: int, *, upper: bool = True) -> None:
        """Expect the numbers below `count`, with their letters in upper case or not."""
        self._missing = bytearray(b"\1" * count)
        self._pattern = _UPPER if upper else _LOWER
        self.duplicates = 0
        self.spoilt = 0

    def add(self, payload: bytes) -> None:
        """Note one message, whatever envelope it has."""
        found = self._pattern.search(payload)
        if found is None:
            self.spoilt += 1
            return
        number = int(found[1])
        if self._missing[number]:
            self._missing[number] = 0
        else:
            self.duplicates += 1

    @property
    def lost(self) -> int:
        """How many have not arrived."""
        return sum(self._missing)

    @property
    def errors(self) -> list[str]:
        """What is wrong, in words; duplicates are allowed by at-least-once."""
        found = []
        if self.lost:
            found.append(f"lost {self.lost} of {len(self._missing)} messages")
        if self.spoilt:
            found.append(f"{self.spoilt} messages did not come out as they should")
        return found
