"""Message properties as they stand in a content header: flags first, then the values.

AMQP 0-9-1, sections 4.2.6.1 and 4.2.5, and the basic class. What our own stages write is in
`rabbit.amqp.sent_properties`. Who shows a message as pika would has the rest from
`rabbit.amqp.pika_types`. Pure: bytes in, bytes and values out.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rabbit.amqp.field_table import decode_table

# Which properties are there, as bits; they follow in this order.
CONTENT_TYPE = 1 << 15
CONTENT_ENCODING = 1 << 14
HEADERS = 1 << 13
DELIVERY_MODE = 1 << 12
PRIORITY = 1 << 11
CORRELATION_ID = 1 << 10
REPLY_TO = 1 << 9
EXPIRATION = 1 << 8
MESSAGE_ID = 1 << 7
TIMESTAMP = 1 << 6
USER_ID = 1 << 4
#: The bit in the first byte that says that there are headers.
HEADERS_BIT = HEADERS >> 8
#: Likewise that there is a content encoding.
ENCODING_BIT = CONTENT_ENCODING >> 8

_BEFORE_HEADERS = (CONTENT_TYPE, CONTENT_ENCODING)
_OCTETS = {DELIVERY_MODE, PRIORITY}
_UP_TO_THE_ID = [1 << bit for bit in range(15, 6, -1)]
_ALL = [1 << bit for bit in range(15, 1, -1)]
#: The broker drops a message that has expired, and refuses one with another user's id.
_ACTED_UPON = {EXPIRATION: "x-original-expiration", USER_ID: "x-original-user-id"}

#: How many bytes a header's value takes, by its type; the others begin with their length.
_VALUE_BYTES = dict(
    zip(b"tbBsuUIifDlLdTV", (1, 1, 1, 2, 2, 2, 4, 4, 4, 5, 8, 8, 8, 8, 0), strict=True)
)
_WITH_LENGTH = b"SxFA"
_TEXT = ord("S")
#: How many bytes a number takes, with its type; of a time or a decimal not each can be decoded.
_SIMPLE_BYTES = {kind: 1 + _VALUE_BYTES[kind] for kind in b"tbBsuUIilLfdV"}
_SIGNED = b"bsIl"
_NUMBERS = _SIGNED + b"Bui"


def short_string(text: str) -> bytes:
    """Return a text of up to 255 bytes as it stands in a frame (section 4.2.5.3)."""
    raw = text.encode()
    return bytes([len(raw)]) + raw


def read_ids(properties: bytes) -> tuple[str | None, str | None]:
    """Return the message id and the correlation id that stand in a content header.

    Args:
        properties: as they came, flags first.

    Raises:
        ValueError: they are cut short.
    """
    flags, at = int.from_bytes(properties[:2], "big"), 2
    found: dict[int, str] = {}
    for flag in _UP_TO_THE_ID:
        if not flags & flag:
            continue
        if flag == HEADERS:
            _, at = _long_string(properties, at)
        elif flag in _OCTETS:
            at += 1
        else:
            found[flag], at = _short_string(properties, at)
    return found.get(MESSAGE_ID), found.get(CORRELATION_ID)


def read_property(properties: bytes, flag: int) -> str | int | None:
    """Return one property, which is not the headers: a text or a number; None: there is none.

    Args:
        properties: flags first.
        flag: which one, such as `REPLY_TO`.

    Raises:
        ValueError: there is something that cannot be read.
    """
    flags = int.from_bytes(properties[:2], "big")
    for each, begin, end in _spans(properties, flags) if flags & flag else ():
        if each == flag:
            if flag in _OCTETS or flag == TIMESTAMP:
                return int.from_bytes(properties[begin:end], "big")
            return _short_string(properties, begin)[0]
    return None


def read_headers(properties: bytes) -> dict[str, str | int]:
    """Return those headers that are texts or whole numbers; the others are passed over.

    Unlike `decode_headers`, which decodes all of them or fails.

    Args:
        properties: flags first.

    Raises:
        ValueError: there is something that cannot be read.
    """
    table = _cut(properties)[1]
    found: dict[str, str | int] = {}
    for name, entry in _entries(table):
        at = 1 + entry[0]
        kind, value = entry[at : at + 1], entry[at + 1 :]
        if kind == b"S":
            found[name] = value[4:].decode(errors="replace")
        elif kind in _NUMBERS:
            found[name] = int.from_bytes(value, "big", signed=kind in _SIGNED)
    return found


def decode_headers(properties: bytes) -> dict[str, Any]:
    """Return the headers of a message, as they were published and added to; none: nothing.

    Args:
        properties: flags first.

    Raises:
        ValueError: there is something that cannot be read.
    """
    return decode_table(_cut(properties)[1]) if properties[0] & HEADERS_BIT else {}


def headers_table(properties: bytes) -> bytes:
    """Return the headers as they stand there, without their length; none: nothing.

    Args:
        properties: flags first.

    Raises:
        ValueError: there is something that cannot be read.
    """
    return _cut(properties)[1] if properties[0] & HEADERS_BIT else b""


def is_simple(table: bytes, others: bytes) -> bool:
    """Tell whether all headers can be decoded, and none is one of others: quicker than doing so.

    Args:
        table: the headers, without their length. Those that are texts and numbers are looked at.
        others: the first letters of the names of others.
    """
    at, size = 0, len(table)
    try:
        while at < size:
            if table[at + 1] in others:
                return False
            at += 1 + table[at]
            kind = table[at]
            if kind == _TEXT:
                at += 5 + int.from_bytes(table[at + 1 : at + 5], "big")
            else:
                at += _SIMPLE_BYTES[kind]
    except (IndexError, KeyError):
        return False
    return at == size


def without_headers(table: bytes, is_left_out: Callable[[str], bool]) -> bytes:
    """Return headers without some of them; the others stay as they are, byte for byte.

    Args:
        table: the headers, without their length.
        is_left_out: tells it by a header's name.

    Raises:
        ValueError: there is something that cannot be read.
    """
    return b"".join([entry for name, entry in _entries(table) if not is_left_out(name)])


def split_headers(properties: bytes) -> tuple[bytes, bytes]:
    """Return the properties without headers, and the table of these: see `decode_table`.

    Args:
        properties: flags first.

    Raises:
        ValueError: there is something that cannot be read.
    """
    before, table, after = _cut(properties)
    flags = int.from_bytes(properties[:2], "big") & ~HEADERS
    return flags.to_bytes(2, "big") + before + after, table


def set_aside(properties: bytes) -> tuple[bytes, dict[str, str]]:
    """Return properties without `expiration` and `user_id`, and these two as headers.

    The broker acts upon them: a message that somebody else publishes again, or keeps, cannot have
    them (TTL guide; validated user-id guide). All else stays as it is, byte for byte.

    Args:
        properties: flags first.

    Raises:
        ValueError: there is something that cannot be read.
    """
    flags = int.from_bytes(properties[:2], "big")
    aside: dict[str, str] = {}
    kept = []
    for flag, begin, end in _spans(properties, flags):
        if flag in _ACTED_UPON:
            flags &= ~flag
            aside[_ACTED_UPON[flag]] = _short_string(properties, begin)[0]
        else:
            kept.append(properties[begin:end])
    return (b"".join([flags.to_bytes(2, "big"), *kept]) if aside else properties), aside


def with_message_id(properties: bytes, message_id: str) -> bytes:
    """Return properties with a message id, unless they have one; all else stays as it is.

    Args:
        properties: flags first.
        message_id: at most 255 bytes.

    Raises:
        ValueError: there is something that cannot be read.
    """
    flags = int.from_bytes(properties[:2], "big")
    values = {flag: properties[at:end] for flag, at, end in _spans(properties, flags)}
    if values.get(MESSAGE_ID, b"\0") != b"\0":
        return properties
    values[MESSAGE_ID] = short_string(message_id)
    ordered = (values[flag] for flag in _ALL if flag in values)
    return b"".join([(flags | MESSAGE_ID).to_bytes(2, "big"), *ordered])


def _spans(properties: bytes, flags: int) -> Iterator[tuple[int, int, int]]:
    """Yield for each property that is there its flag, where it begins and where it ends."""
    at = 2
    for flag in _ALL:
        if not flags & flag:
            continue
        begin = at
        if flag == HEADERS:
            _, at = _long_string(properties, at)
        elif flag in _OCTETS:
            at += 1
        elif flag == TIMESTAMP:
            at += 8
        else:
            _, at = _short_string(properties, at)
        yield flag, begin, at


def with_headers(
    properties: bytes, headers: Mapping[str, str | int], without: Callable[[str], bool]
) -> bytes:
    """Return properties with other headers; all else stays as it is, byte for byte.

    Args:
        properties: flags first.
        headers: to be set.
        without: tells by its name whether a header is to be left out.

    Raises:
        ValueError: there is something that cannot be read.
    """
    before, old, after = _cut(properties)
    kept = without_headers(old, lambda name: name in headers or without(name))
    new = b"".join([kept, *(_entry(name, value) for name, value in headers.items())])
    table = len(new).to_bytes(4, "big") + new
    flags = int.from_bytes(properties[:2], "big") | HEADERS
    return flags.to_bytes(2, "big") + before + table + after


def drop_headers(properties: bytes, is_left_out: Callable[[str], bool]) -> bytes:
    """Return properties without some of the headers; all else stays as it is, byte for byte.

    Args:
        properties: flags first. When no header is left, there is no table either.
        is_left_out: tells it by a header's name.

    Raises:
        ValueError: there is something that cannot be read.
    """
    before, table, after = _cut(properties)
    kept = without_headers(table, is_left_out)
    if kept == table:
        return properties
    flags = int.from_bytes(properties[:2], "big")
    if not kept:
        return (flags & ~HEADERS).to_bytes(2, "big") + before + after
    return properties[:2] + before + len(kept).to_bytes(4, "big") + kept + after


def _cut(properties: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what stands before the headers (without the flags), their table, and what follows."""
    flags, begin = int.from_bytes(properties[:2], "big"), 2
    for flag in _BEFORE_HEADERS:
        if flags & flag:
            begin = _short_string(properties, begin)[1]
    table, end = _long_string(properties, begin) if flags & HEADERS else (b"", begin)
    return properties[2:begin], table, properties[end:]


def _entries(table: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield each header's name, and all of its bytes; the values are not looked at."""
    at = 0
    while at < len(table):
        begin = at
        name, at = _short_string(table, at)
        kind, at = table[at : at + 1], at + 1
        if kind and kind in _WITH_LENGTH:
            _, at = _long_string(table, at)
        elif kind and kind[0] in _VALUE_BYTES:
            at += _VALUE_BYTES[kind[0]]
        else:
            msg = f"header {name!r} has a value of unknown type {kind!r}"
            raise ValueError(msg)
        if at > len(table):
            msg = f"header {name!r} is cut short"
            raise ValueError(msg)
        yield name, table[begin:at]


def _entry(name: str, value: str | int) -> bytes:
    """Encode a header: a long string or a 64-bit number (section 4.2.5.5)."""
    key = name.encode()
    if isinstance(value, int):
        return b"%c%bl%b" % (len(key), key, value.to_bytes(8, "big", signed=True))
    text = value.encode()
    return b"%c%bS%b%b" % (len(key), key, len(text).to_bytes(4, "big"), text)


def _long_string(data: bytes, at: int) -> tuple[bytes, int]:
    """Return a long string, or what else begins with its length, and where it ends."""
    end = at + 4 + int.from_bytes(data[at : at + 4], "big")
    if at + 4 > len(data) or end > len(data):
        msg = f"message properties are cut short: {data!r}"
        raise ValueError(msg)
    return data[at + 4 : end], end


def _short_string(properties: bytes, at: int) -> tuple[str, int]:
    """Return a short string and where it ends; if it is not UTF-8, it gets readable, not longer."""
    if at >= len(properties) or at + 1 + properties[at] > len(properties):
        msg = f"message properties are cut short: {properties!r}"
        raise ValueError(msg)
    end = at + 1 + properties[at]
    raw = properties[at + 1 : end]
    try:
        return raw.decode(), end
    except UnicodeDecodeError:
        return raw.decode("ascii", "replace").replace("\ufffd", "?"), end
