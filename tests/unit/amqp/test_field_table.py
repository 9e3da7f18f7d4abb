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

from rabbit.amqp.field_table import DEEPEST, decode_table
from rabbit.amqp.pika_types import Properties, decode_properties
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


def packed(kind: str, form: str, given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give values of a type of fixed length: as they stand in a table, and what they are."""
    return given.map(lambda value: (kind.encode() + struct.pack(f">{form}", value), value))


def sized(kind: str, content: bytes) -> bytes:
    """Return what begins with its length."""
    return kind.encode() + len(content).to_bytes(4, "big") + content


def in_table(fields: dict[str, tuple[bytes, Any]]) -> bytes:
    """Return the fields of a table, without its length."""
    encoded = [(name.encode(), value) for name, (value, _) in fields.items()]
    return b"".join(bytes([len(name)]) + name + value for name, value in encoded)


def whole(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    """Give whole numbers of so many bits."""
    return (
        st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if signed
        else st.integers(0, 2**bits - 1)
    )


#: Each type that RabbitMQ sends, as it stands in a table and as it is read; pika cannot send all.
fields: st.SearchStrategy[tuple[bytes, Any]] = st.recursive(
    packed("t", "?", st.booleans())
    | packed("b", "b", whole(8, signed=True))
    | packed("B", "B", whole(8, signed=False))
    | packed("s", "h", whole(16, signed=True))
    | packed("u", "H", whole(16, signed=False))
    | packed("I", "i", whole(32, signed=True))
    | packed("i", "I", whole(32, signed=False))
    | packed("l", "q", whole(64, signed=True))
    | packed("L", "q", whole(64, signed=True))
    | packed("f", "f", st.floats(width=32, allow_nan=False))
    | packed("d", "d", st.floats(allow_nan=False))
    | st.just((b"V", None))
    | names.map(lambda text: (sized("S", text.encode()), text))
    | st.binary(max_size=9).map(lambda data: (sized("x", data), data))
    | st.integers(0, 10**10).map(
        lambda at: (b"T" + struct.pack(">Q", at), datetime.fromtimestamp(at, UTC))
    )
    | st.tuples(st.integers(0, 9), whole(32, signed=True)).map(
        lambda of: (b"D" + struct.pack(">Bi", *of), Decimal(of[1]).scaleb(-of[0]))
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(
            lambda items: (
                sized("A", b"".join(raw for raw, _ in items)),
                [each for _, each in items],
            )
        )
        | st.dictionaries(names, inner, max_size=3).map(
            lambda items: (
                sized("F", in_table(items)),
                {name: each[1] for name, each in items.items()},
            )
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(names, fields, max_size=4))
def test_each_type_within_each_other(given: dict[str, tuple[bytes, Any]]) -> None:
    """Floats and small numbers too, which pika has no way to send."""
    assert decode_table(in_table(given)) == {name: value for name, (_, value) in given.items()}


@given(st.dictionaries(names, values, max_size=4))
def test_what_pika_encodes_is_decoded(headers: dict[str, Any]) -> None:
    """All types, within each other too; the other properties are there as well."""
    given = Properties(content_type="text/plain", headers=headers, message_id="m", app_id="a")

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
