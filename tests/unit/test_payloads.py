"""What `work` takes: read from a body, by its annotation; and what `write` makes of values."""

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Annotated, Any, NewType

import pytest
from annotated_types import MinLen
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from rabbit import ConfigurationError, TooLargeError, Worker
from rabbit.amqp.pika_types import Properties, encode_properties
from rabbit.amqp.sent_properties import JSON, OCTETS, TEXT
from rabbit.errors import InvalidPayloadError, UndecodableError
from rabbit.message import Message
from rabbit.payloads import Payload, encoded
from rabbit.testing import harness

MOST_BYTES = 1000


def zipped(body: bytes) -> bytes:
    """Compress it, the same each time: without the time of day."""
    return gzip.compress(body, mtime=0)


class Item(BaseModel):
    """A part of an order."""

    name: str
    price: float = Field(ge=0, alias="unit-price")


class Order(BaseModel):
    """What a shop sends."""

    id: int
    items: list[Item] = []
    notes: dict[str, int] = {}

    @field_validator("id")
    @classmethod
    def _is_not_secret(cls, value: int) -> int:
        if value == 13:
            msg = f"{value} is secret"
            raise ValueError(msg)
        return value


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: int = 0


class Pair(TypedDict):
    """A dict of a known shape."""

    a: int


Name = NewType("Name", str)
Short = Annotated[str, MinLen(2)]


def message(body: bytes, **properties: Any) -> Message:
    """Return a message as a delivery brings it."""
    raw = encode_properties(Properties(**properties))  # type: ignore[no-untyped-call]
    return Message(body, raw, redelivered=False, routing_key="")


@pytest.mark.parametrize(
    ("annotation", "body", "expected"),
    [
        (str, b'"a"', '"a"'),
        (Any, "ü".encode(), "ü"),
        (Name, b"a", "a"),
        (Short, b"ab", "ab"),
        (bytes, b"\xff", b"\xff"),
        (Order, b'{"id": 1}', Order(id=1)),
        (Point, b'{"x": 1}', Point(1)),
        (Pair, b'{"a": 1}', {"a": 1}),
        (dict, b'{"b": [null]}', {"b": [None]}),
        (dict[str, Any], b"{}", {}),
        (list[Point], b'[{"x": 1, "y": 2}]', [Point(1, 2)]),
        (Order | None, b"null", None),
        (int, b"7", 7),
    ],
)
def test_the_annotation_is_the_schema(annotation: Any, body: bytes, expected: object) -> None:
    """Text and bytes as they are; anything else is JSON, as a value of that type."""
    assert Payload(annotation).read(message(body), MOST_BYTES) == expected


@pytest.mark.parametrize(
    ("annotation", "body", "told"),
    [
        (Order, b"", "no JSON: EOF while parsing a value at line 1 column 0"),
        (Order, b"\xff", "no JSON"),
        (Order, b"{}", "Order: id: missing"),
        (Order, b'{"id": "top secret"}', "Order: id: int_parsing"),
        (Order, b'{"id": 13}', "Order: id: value_error"),
        (Order, b'{"id": 1, "items": [{"name": "a", "unit-price": -1}]}', "items.0.unit-price: gr"),
        (Order, b'{"id": 1, "notes": {"secret": "x"}}', "Order: notes.*: int_parsing"),
        (Point, b'{"x": "secret"}', "Point: x: int_parsing"),
        (list[int], json.dumps(["secret"] * 30).encode(), "9: int_parsing; 20 more"),
        (Short, b"s", "too_short"),
    ],
)
def test_what_is_something_else_names_the_fields_and_no_values(
    annotation: Any, body: bytes, told: str
) -> None:
    """Nor the keys of a dict, which are the sender's, nor what a validator of one's own says."""
    with pytest.raises(InvalidPayloadError) as raised:
        Payload(annotation).read(message(body), MOST_BYTES)

    assert told in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", zipped(b"ab")),
        ("GZIP", zipped(b"a") + zipped(b"b")),
        ("deflate", zlib.compress(b"ab")),
        ("deflate", zlib.compress(b"ab")[2:-4]),
        ("utf-8", b"ab"),
        ("", b"ab"),
        (None, b"ab"),
    ],
)
def test_packed_bodies_are_unpacked(encoding: str | None, body: bytes) -> None:
    """Bytes are left as they came: who takes these, reads the content encoding himself."""
    given = message(body, content_encoding=encoding)

    assert Payload(str).read(given, MOST_BYTES) == "ab"
    assert Payload(bytes).read(given, MOST_BYTES) == body


@pytest.mark.parametrize(
    ("encoding", "body", "error", "told"),
    [
        ("gzip", b"ab", UndecodableError, "cannot be unpacked"),
        ("gzip", zipped(b"ab")[:-3], UndecodableError, "cut short"),
        ("br", b"ab", UndecodableError, "gzip and deflate"),
        ("gzip", zipped(b"\xff"), InvalidPayloadError, "not UTF-8"),
        ("gzip", zipped(b"a" * (MOST_BYTES + 1)), TooLargeError, "MAX_MESSAGE_BYTES"),
        ("deflate", zlib.compress(b"a" * 10**8), TooLargeError, "more than 1000 bytes"),
        ("gzip", zipped(b"a" * 600) * 2, TooLargeError, "more than 1000 bytes"),
    ],
)
def test_what_cannot_be_unpacked_is_told(
    encoding: str, body: bytes, error: type[Exception], told: str
) -> None:
    """Nor does it take more memory than is allowed."""
    with pytest.raises(error, match=told):
        Payload(str).read(message(body, content_encoding=encoding), MOST_BYTES)


@pytest.mark.parametrize(
    ("value", "body", "content"),
    [
        ("ü", "ü".encode(), TEXT),
        (b"\xff", b"\xff", OCTETS),
        (bytearray(b"a"), b"a", OCTETS),
        (Order(id=1), b'{"id":1,"items":[],"notes":{}}', JSON),
        (Point(1), b'{"x":1,"y":0}', JSON),
        ({"a": [Point(1)]}, b'{"a":[{"x":1,"y":0}]}', JSON),
        ([Order(id=1), None], b'[{"id":1,"items":[],"notes":{}},null]', JSON),
    ],
)
def test_values_are_written(value: object, body: bytes, content: object) -> None:
    """A text as text/plain, bytes as octets, everything else as JSON."""
    assert encoded(value) == (body, content)


@pytest.mark.parametrize("value", [None, 7, 1.5, True, Point, object(), {"a": object()}, {1, 2}])
def test_what_cannot_be_written_is_told(value: object) -> None:
    """None that was written by mistake among them."""
    with pytest.raises(TypeError, match=r"a message is a text, not|cannot be written as JSON"):
        encoded(value)


class Price(Worker):
    """Takes a model and writes another."""

    def work(self, order: Order) -> None:
        """Write two kinds; no cast is needed."""
        self.write(Point(order.id))
        self.write(order.items)


def test_a_stage_of_models() -> None:
    """The harness takes and gives what live messages have."""
    price = harness(Price)

    sent = price.send(Order(id=1, items=[]))
    assert (sent.settled, sent.outputs) == ("acked", [Point(1), []])
    assert [each.body for each in sent.messages] == [b'{"x":1,"y":0}', b"[]"]
    sent = price.send("{}")
    assert (sent.settled, type(sent.error)) == ("dead-lettered", InvalidPayloadError)


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        ("Ordre", "cannot be found"),
        (Message, "no message can be read into"),
        (5, "no message can be read into"),
        (list["Ordre"], "cannot be found"),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_a_wrong_annotation_ends_the_stage_when_it_is_built(annotation: Any, told: str) -> None:
    """One line that says what may stand there."""

    class Wrong(Worker):
        def work(self, order: Any) -> None:
            pass

        work.__annotations__["order"] = annotation

    with pytest.raises(ConfigurationError, match=told):
        harness(Wrong)
