"""Header tables of AMQP 0-9-1 (section 4.2.5.5), with the types as RabbitMQ reads them.

pika 1.4.4 makes whole numbers of floats, and fails on those that are not finite. Pure: bytes in,
values out.
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
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
