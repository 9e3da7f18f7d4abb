"""Header tables, held against pika's encoder, which does right by what its decoder does not."""

# mypy: disable-error-code="no-untyped-call"

import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from rabbit.amqp.connection import decode_properties
from rabbit.amqp.field_table import DEEPEST, decode_table
from rabbit.errors import UndecodableError
from rabbit.message import Message
from tests.unit.texts import texts

names = texts("abx-ü")
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | names
    | st.binary(max_size=9)
    | st.decimals(-1000, 1000, places=3)
    | st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1)).map(  # noqa: DTZ001 - made UTC here
        lambda time: time.replace(microsecond=0, tzinfo=UTC)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, values, max_size=4))
def test_what_pika_encodes_is_decoded(headers: dict[str, Any]) -> None:
    """All types, within each other too; the other properties are there as well."""
    given = BasicProperties(content_type="text/plain", headers=headers, message_id="m", app_id="a")

    decoded = decode_properties(b"".join(given.encode()))

    assert decoded == given


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"t\x01", True),
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xfe", -2),
        (b"U\xff\xfe", -2),
        (b"u\xff\xfe", 65534),
        (b"I" + b"\xff" * 4, -1),
        (b"i" + b"\xff" * 4, 2**32 - 1),
        (b"l" + b"\xff" * 8, -1),
        (b"f" + struct.pack(">f", 1.5), 1.5),
        (b"d" + struct.pack(">d", 1e300), 1e300),
        (b"D\x02" + struct.pack(">i", -125), Decimal("-1.25")),
        (b"V", None),
        (b"T" + struct.pack(">Q", 0), datetime(1970, 1, 1, tzinfo=UTC)),
        (b"S\x00\x00\x00\x01\xff", b"\xff"),
        (b"x\x00\x00\x00\x01a", b"a"),
        (b"A\x00\x00\x00\x03VVV", [None, None, None]),
        (b"F\x00\x00\x00\x03\x01aV", {"a": None}),
    ],
)
def test_each_type(encoded: bytes, value: object) -> None:
    """As RabbitMQ reads it."""
    assert decode_table(b"\x01n" + encoded) == {"n": value}


def test_not_a_number_is_a_float() -> None:
    """And no reason not to handle the message."""
    [value] = decode_table(b"\x01nd" + struct.pack(">d", math.nan)).values()

    assert math.isnan(value)


@pytest.mark.parametrize(
    "encoded",
    [
        b"T" + struct.pack(">Q", 2**62),
        b"?",
        b"",
        b"d\x00",
        b"S\x00\x00\x00\x05abc",
        b"A\x00\x00\x00\x02b",
        b"F\x00\x00\x00\x02\x05a",
        b"F\xff\xff\xff\xff",
    ],
)
def test_what_cannot_be_decoded_is_an_error(encoded: bytes) -> None:
    """And never anything else."""
    with pytest.raises(ValueError, match="header"):
        decode_table(b"\x01n" + encoded)


def test_depth_is_bounded() -> None:
    """So that nobody's message ends in a RecursionError."""
    encoded = b"V"
    for _ in range(DEEPEST + 1):
        encoded = b"A" + len(encoded).to_bytes(4, "big") + encoded

    with pytest.raises(ValueError, match="deep"):
        decode_table(b"\x01n" + encoded)
    assert decode_table(b"\x01n" + encoded[5:])


@given(st.binary(max_size=60))
def test_anything_is_a_table_or_an_error(data: bytes) -> None:
    """Whatever stands there, and however long it says it is."""
    try:
        decode_properties(b"\x20\x00" + len(data).to_bytes(4, "big") + data)
    except UndecodableError:
        return


@given(st.floats(allow_nan=False))
def test_a_handler_sees_floats(value: float) -> None:
    """As they were sent."""
    table = b"\x05priced" + struct.pack(">d", value)
    raw = b"\x20\x00" + len(table).to_bytes(4, "big") + table
    message = Message(b"a", raw, redelivered=False, routing_key="")

    assert message.headers == {"price": value}
