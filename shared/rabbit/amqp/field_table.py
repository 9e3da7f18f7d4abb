"""Header tables of AMQP 0-9-1 (section 4.2.5.5), with the types as RabbitMQ reads them.

pika 1.4.4 makes whole numbers of floats, and fails on those that are not finite. Pure: bytes and
values, in and out.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import NoneType, UnionType
from typing import Any

#: Tables and arrays within each other.
DEEPEST = 32

_FIXED = {
    kind: struct.Struct(f">{form}")
    for kind, form in zip(b"tbBsUuIilLfd", "?bBhhHiIqqfd", strict=True)
}
_DECIMAL = struct.Struct(">Bi")
_SECONDS = struct.Struct(">Q")
_LENGTH = struct.Struct(">I")
_LONGEST_NAME_BYTES = 255


def decode_table(data: bytes) -> dict[str, Any]:
    """Return what stands in a table, given without its length.

    A text that is not UTF-8 is returned as bytes.

    Raises:
        ValueError: it is cut short, too deep, has a type that nobody knows, or a time that no
            calendar has.
    """
    try:
        return dict(_table(data, 0, len(data), DEEPEST))
    except (struct.error, IndexError):
        msg = "a header is cut short"
        raise ValueError(msg) from None
    except (OverflowError, OSError) as error:  # of a time
        msg = f"a header cannot be decoded: {error}"
        raise ValueError(msg) from None


def _table(data: bytes, at: int, end: int, depth: int) -> Iterator[tuple[str, Any]]:
    while at < end:
        begin = at + 1
        at = begin + data[at]
        name = data[begin:at].decode(errors="replace")
        value, at = _value(data, at, end, depth)
        yield name, value


def _array(data: bytes, at: int, end: int, depth: int) -> Iterator[Any]:
    while at < end:
        value, at = _value(data, at, end, depth)
        yield value


def _value(data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    """Return a value, which begins with its type, and where it ends: not after `end`."""
    kind, at = data[at], at + 1
    if kind in _FIXED:
        value, after = _FIXED[kind].unpack_from(data, at)[0], at + _FIXED[kind].size
    elif kind == ord("V"):
        value, after = None, at
    elif kind == ord("T"):
        value, after = datetime.fromtimestamp(_SECONDS.unpack_from(data, at)[0], UTC), at + 8
    elif kind == ord("D"):
        scale, number = _DECIMAL.unpack_from(data, at)
        value, after = Decimal(number).scaleb(-scale), at + 5
    elif kind in b"SxAF":
        at += 4
        after = at + _LENGTH.unpack_from(data, at - 4)[0]
        value = None if after > end else _long(kind, data, at, after, depth)
    else:
        msg = f"a header has a value of unknown type {bytes([kind])!r}"
        raise ValueError(msg)
    if after > end:
        msg = "a header is cut short"
        raise ValueError(msg)
    return value, after


def _long(kind: int, data: bytes, at: int, end: int, depth: int) -> Any:  # noqa: ANN401
    """Return a value that has a length."""
    if kind in b"AF" and not depth:
        msg = f"headers are more than {DEEPEST} tables deep"
        raise ValueError(msg)
    if kind == ord("A"):
        return list(_array(data, at, end, depth - 1))
    if kind == ord("F"):
        return dict(_table(data, at, end, depth - 1))
    raw = data[at:end]
    if kind == ord("x"):
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def encode_table(values: Mapping[str, Any]) -> bytes:
    """Return a table, without its length.

    Args:
        values: texts, bytes, whole numbers of 64 bits, floats, True and False, None, times with a
            time zone (kept to the second), decimals, lists and dicts of these.

    Raises:
        TypeError: a name is no text, or a value is of another type.
        ValueError: a name has more than 255 bytes or none, a number is too large, a time is before
            1970 or has no time zone, or the values are too deep.
    """
    return _encoded_table(values, DEEPEST)


def _encoded_table(values: Mapping[str, Any], depth: int) -> bytes:
    return b"".join([_name(name) + _encoded(name, value, depth) for name, value in values.items()])


def _name(name: object) -> bytes:
    if not isinstance(name, str):
        msg = f"header {name!r}: a name is a text, not {type(name).__name__}"
        raise TypeError(msg)
    raw = name.encode()
    if not 1 <= len(raw) <= _LONGEST_NAME_BYTES:
        msg = f"header {name[:20]!r}: a name of {len(raw)} bytes; 1 to {_LONGEST_NAME_BYTES} fit"
        raise ValueError(msg)
    return bytes([len(raw)]) + raw


def _encoded(name: str, value: object, depth: int) -> bytes:
    """Return a value, which begins with its type."""
    if isinstance(value, Mapping | list | tuple):
        return _nested(name, value, depth)
    for kind, encode in _ENCODERS:
        if isinstance(value, kind):
            try:
                return encode(value)
            except (struct.error, OverflowError):
                msg = f"header {name!r}: {value!r} is out of range"
                raise ValueError(msg) from None
    msg = f"header {name!r}: {type(value).__name__} is nothing that AMQP can carry"
    raise TypeError(msg)


def _nested(name: str, value: Mapping[str, Any] | list[Any] | tuple[Any, ...], depth: int) -> bytes:
    if not depth:
        msg = f"header {name!r} is more than {DEEPEST} tables deep"
        raise ValueError(msg)
    if isinstance(value, Mapping):
        return b"F" + _with_length(_encoded_table(value, depth - 1))
    return b"A" + _with_length(b"".join([_encoded(name, each, depth - 1) for each in value]))


def _with_length(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _timestamp(value: datetime) -> int:
    if value.tzinfo is None:
        msg = f"{value} has no time zone: say datetime.now(UTC)"
        raise ValueError(msg)
    return int(value.timestamp())


def _scaled(value: Decimal) -> tuple[int, int]:
    """Return the number of decimals, and the digits as a whole number."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise OverflowError  # not finite
    scale = max(0, -exponent)
    return scale, int(value.scaleb(scale))


_ENCODERS: list[tuple[type | UnionType, Callable[[Any], bytes]]] = [
    (str, lambda value: b"S" + _with_length(str.encode(value))),
    (bool, lambda value: b"t\1" if value else b"t\0"),
    (int, lambda value: b"l" + value.to_bytes(8, "big", signed=True)),
    (float, lambda value: b"d" + _FIXED[ord("d")].pack(value)),
    (NoneType, lambda _: b"V"),
    (bytes | bytearray | memoryview, lambda value: b"x" + _with_length(bytes(value))),
    (datetime, lambda value: b"T" + _SECONDS.pack(_timestamp(value))),
    (Decimal, lambda value: b"D" + _DECIMAL.pack(*_scaled(value))),
]
