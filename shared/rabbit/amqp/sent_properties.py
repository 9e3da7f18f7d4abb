"""The properties of what our stages send: made, and found again, in one go.

A content type, headers, the delivery mode (persistent), the correlation id and the message id, in
the order of AMQP 0-9-1 (section 4.2.6.1). What else can be asked for takes the longer way. Pure.
"""

from typing import NamedTuple, TypeAlias

from rabbit.amqp.properties import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CORRELATION_ID,
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    MESSAGE_ID,
    PRIORITY,
    REPLY_TO,
    USER_ID,
    short_string,
)

_LENGTHS = [bytes([length]) for length in range(256)]
_PERSISTENT = b"\x02"
_ALWAYS = DELIVERY_MODE | CORRELATION_ID | MESSAGE_ID


class Content(NamedTuple):
    """What a body is.

    Attributes:
        plain: how the properties begin, up to the correlation id, where there are no headers.
        headed: how they begin, up to the headers, where there are some.
        flags: which of the properties there are, without headers.
        values: what stands before the headers.
    """

    plain: bytes
    headed: bytes
    flags: int
    values: bytes


def _content(kind: str, encoding: str | None = None) -> Content:
    flags = _ALWAYS | CONTENT_TYPE | (CONTENT_ENCODING if encoding else 0)
    values = short_string(kind) + (short_string(encoding) if encoding else b"")
    return Content(
        flags.to_bytes(2, "big") + values + _PERSISTENT,
        (flags | HEADERS).to_bytes(2, "big") + values,
        flags,
        values,
    )


#: What `write` makes of a text, of what is sent as JSON, and of bytes.
TEXT = _content("text/plain", "utf-8")
JSON = _content("application/json")
OCTETS = _content("application/octet-stream")

#: How the properties of a text begin, without headers (most messages) and with some.
PLAIN_TEXT, HEADED_TEXT = TEXT.plain, TEXT.headed
_PLAIN_TEXT_BYTES, _HEADED_TEXT_BYTES = len(PLAIN_TEXT), len(HEADED_TEXT)

#: What a message hands on to its outputs: its message id, from which theirs are derived; its
#: correlation id, as a short string; its headers, as a table without its length; and of a text of
#: ours how the properties of another one begin, up to the length of the message id.
Origin: TypeAlias = tuple[bytes, bytes, bytes, bytes | None]


def sent_properties(
    content: Content, correlation_id: bytes, message_id: bytes, headers: bytes = b""
) -> bytes:
    """Return the properties of a persistent message, flags first.

    Args:
        content: what its body is.
        correlation_id: as a short string, with its length.
        message_id: up to 255 bytes.
        headers: a table, without its length; empty: none.
    """
    end = correlation_id + _LENGTHS[len(message_id)] + message_id
    if not headers:
        return content.plain + end
    return content.headed + len(headers).to_bytes(4, "big") + headers + _PERSISTENT + end


def sent_properties_with(
    content: Content,
    correlation_id: bytes,
    message_id: bytes,
    headers: bytes = b"",
    *,
    priority: int | None = None,
    reply_to: str | None = None,
    expiration: str | None = None,
    user_id: str | None = None,
) -> bytes:
    """Return `sent_properties` with more of them, where these are given.

    Args:
        content: what its body is.
        correlation_id: as a short string, with its length.
        message_id: up to 255 bytes.
        headers: a table, without its length; empty: none.
        priority: 0 to 255.
        reply_to: where an answer is expected.
        expiration: milliseconds, as a text.
        user_id: who the connection is logged in as; the broker refuses another one.
    """
    flags, values = content.flags, [content.values]
    if headers:
        flags |= HEADERS
        values += [len(headers).to_bytes(4, "big"), headers]
    values.append(_PERSISTENT)
    if priority is not None:
        flags |= PRIORITY
        values.append(_LENGTHS[priority])
    values.append(correlation_id)
    if reply_to is not None:
        flags |= REPLY_TO
        values.append(short_string(reply_to))
    if expiration is not None:
        flags |= EXPIRATION
        values.append(short_string(expiration))
    values += [_LENGTHS[len(message_id)], message_id]
    if user_id is not None:
        flags |= USER_ID
        values.append(short_string(user_id))
    return flags.to_bytes(2, "big") + b"".join(values)


def split_sent(properties: bytes) -> Origin | None:
    """Return what a message that our stages have sent hands on to its outputs.

    Args:
        properties: as they came, flags first.

    Returns:
        None if it is another message, if an id is empty, or if one is not ASCII.
    """
    is_text = True
    if properties.startswith(PLAIN_TEXT):
        headers, at = b"", _PLAIN_TEXT_BYTES
    elif properties.startswith(HEADED_TEXT):
        headers, at = _split_headers(properties, _HEADED_TEXT_BYTES)
    else:
        is_text = False
        headers, at = _split_others(properties)
    try:
        end = at + 1 + properties[at]
        message_id = properties[end + 1 :]
        is_whole = properties[end] == len(message_id)
    except IndexError:
        return None
    is_known = end > at + 1 and message_id and is_whole and properties[at:].isascii()
    if not is_known:
        return None
    return message_id, properties[at:end], headers, properties[:end] if is_text else None


def _split_others(properties: bytes) -> tuple[bytes, int]:
    """Return the headers of a message of ours, and where its correlation id begins."""
    for content in (JSON, OCTETS):
        if properties.startswith(content.plain):
            return b"", len(content.plain)
        if properties.startswith(content.headed):
            return _split_headers(properties, len(content.headed))
    return b"", len(properties)  # of another message


def _split_headers(properties: bytes, at: int) -> tuple[bytes, int]:
    begin = at + 4
    end = begin + int.from_bytes(properties[at:begin], "big")
    if properties[end : end + 1] == _PERSISTENT:
        return properties[begin:end], end + 1
    return b"", len(properties)
