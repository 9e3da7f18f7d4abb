"""What a handler gives: one message to publish, and what it is given on its way."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rabbit import topology
from rabbit.amqp.field_table import encode_table
from rabbit.amqp.properties import read_ids, short_string, without_headers
from rabbit.amqp.sent_properties import (
    TEXT,
    Content,
    sent_properties,
    sent_properties_with,
)
from rabbit.message import NOT_HANDED_ON, Message, derived_id_bytes, new_id

_HIGHEST_PRIORITY = 255
#: Before an id as a short string: the length of `derived_id_bytes`, 36.
_ID_LENGTH = b"$"
#: The broker takes 32 bits of milliseconds.
_LONGEST_EXPIRATION_SECONDS = 4294967


def check_key(key: str | None) -> str | None:
    """Return a routing key that AMQP can carry: a short string. Raises ValueError otherwise."""
    return None if key is None else topology.check_key(key)


@dataclass(slots=True)  # not frozen, which would make it slower to make
class Output:
    """One message to publish.

    Attributes:
        body: the bytes to send.
        properties: to send with it, flags first, as in a content header.
        key: the routing key that was asked for; None for a work queue.
        exchange: another one than that of the publisher's edge; `key` is taken as it is then.
    """

    body: bytes
    properties: bytes
    key: str | None = None
    exchange: str | None = None

    @property
    def id(self) -> str:
        """The message id that stands in the properties; "" if there is none."""
        return read_ids(self.properties)[0] or ""


class Extras(NamedTuple):
    """What an output is given beside its body, as it is sent.

    Attributes:
        headers: a table, without its length.
        replaced: the names of the input's headers that do not go on.
        priority: 0 to 255.
        expiration: milliseconds, as a text.
        message_id: in place of the one that it would get.
    """

    headers: bytes
    replaced: Collection[str]
    priority: int | None
    expiration: str | None
    message_id: bytes | None


def make_extras(
    headers: Mapping[str, Any] | None,
    priority: int | None,
    expiration: float | None,
    message_id: str | None,
) -> Extras | None:
    """Return what an output is given beside its body; None: nothing.

    Args:
        headers: by name; see `encode_table` for the values. A value of None: the header that the
            input has does not go on.
        priority: 0 to 255, for a queue that has priorities.
        expiration: seconds after which the message leaves its queue if nobody has taken it, 0 to
            4294967.
        message_id: 1 to 255 bytes.

    Raises:
        TypeError, ValueError: one of them is none; the error says which, and what is allowed.
    """
    if headers is None and priority is None and expiration is None and message_id is None:
        return None
    return Extras(
        _encoded_headers(headers or {}),
        frozenset(headers or ()),
        None if priority is None else _checked_priority(priority),
        None if expiration is None else _milliseconds(expiration),
        None if message_id is None else check_id(message_id).encode(),
    )


def _encoded_headers(headers: Mapping[str, Any]) -> bytes:
    if not isinstance(headers, Mapping):
        msg = f"headers: a dict of names and values, not {type(headers).__name__}"
        raise TypeError(msg)
    for name in headers:
        if name in NOT_HANDED_ON:
            msg = f"header {name!r} is written by the broker or this library: choose another name"
            raise ValueError(msg)
    return encode_table({name: value for name, value in headers.items() if value is not None})


def _checked_priority(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        msg = f"priority: {priority!r} is not a whole number"
        raise TypeError(msg)
    if not 0 <= priority <= _HIGHEST_PRIORITY:
        msg = f"priority: {priority} is not 0 to {_HIGHEST_PRIORITY}"
        raise ValueError(msg)
    return priority


def _milliseconds(expiration: object) -> str:
    if isinstance(expiration, bool) or not isinstance(expiration, int | float):
        msg = f"expiration: {expiration!r} is not a number of seconds"
        raise TypeError(msg)
    if not 0 <= expiration <= _LONGEST_EXPIRATION_SECONDS:
        msg = f"expiration: {expiration!r} s is not 0 to {_LONGEST_EXPIRATION_SECONDS}"
        raise ValueError(msg)
    return str(round(expiration * 1000))


def check_id(message_id: str) -> str:
    """Return a message id that AMQP can carry. Raises TypeError or ValueError otherwise."""
    if not isinstance(message_id, str):
        msg = f"message_id: {message_id!r} is not a text"
        raise TypeError(msg)
    size = len(message_id.encode())
    if not 1 <= size <= topology.LONGEST_SHORT_STRING_BYTES:
        msg = f"message_id: {size} bytes; 1 to {topology.LONGEST_SHORT_STRING_BYTES} are allowed"
        raise ValueError(msg)
    return message_id


def new_output(
    body: bytes,
    message_id: str,
    correlation_id: str,
    key: str | None = None,
    content: Content = TEXT,
    extras: Extras | None = None,
    reply_to: str | None = None,
) -> Output:
    """Return an output that comes from no input; it is persistent. Commands are made here, too.

    Args:
        body: the bytes to send.
        message_id: its id, unless the extras have one.
        correlation_id: the id that is carried through from here on.
        key: the routing key that was asked for; None for a work queue.
        content: what the body is.
        extras: what it is given beside its body.
        reply_to: where an answer is expected; only commands have it.
    """
    correlation, own_id = short_string(correlation_id), message_id.encode()
    if extras is None and reply_to is None:
        return Output(body, sent_properties(content, correlation, own_id), key)
    if extras is None:
        properties = sent_properties_with(content, correlation, own_id, reply_to=reply_to)
        return Output(body, properties, key)
    return Output(body, _with_extras(content, correlation, own_id, b"", extras), key)


def first_output(
    body: bytes,
    key: str | None = None,
    content: Content = TEXT,
    extras: Extras | None = None,
) -> Output:
    """Return an output that others descend from: its message id is its correlation id, too.

    Args:
        body: the bytes to send.
        key: the routing key that was asked for; None for a work queue.
        content: what the body is.
        extras: what it is given beside its body; a message id of its own may be among it.
    """
    own = extras.message_id if extras else None
    message_id = own.decode() if own else new_id()
    return new_output(body, message_id, message_id, key, content, extras)


def derived_output(
    message: Message,
    stage: str,
    index: int,
    body: bytes,
    key: str | None = None,
    content: Content = TEXT,
    extras: Extras | None = None,
) -> Output:
    """Return a stage's output number `index` for an input; it is persistent.

    Its id is that of `derived_id`; the correlation id and the sender's headers are carried through.

    Args:
        message: the input.
        stage: the stage's name.
        index: how many outputs of this input there are before it.
        body: the bytes to send.
        key: the routing key that was asked for; None for a work queue.
        content: what the body is.
        extras: what it is given beside its body.

    Raises:
        UndecodableError: the input's headers cannot be decoded.
    """
    input_id, correlation_id, headers, begin = message.origin
    output_id = derived_id_bytes(input_id, stage, index)
    if extras is None:
        if content is TEXT and begin is not None:  # nearly always: its properties but for the id
            return Output(body, begin + _ID_LENGTH + output_id, key)
        return Output(body, sent_properties(content, correlation_id, output_id, headers), key)
    return Output(body, _with_extras(content, correlation_id, output_id, headers, extras), key)


def _with_extras(
    content: Content, correlation_id: bytes, message_id: bytes, headers: bytes, extras: Extras
) -> bytes:
    kept = without_headers(headers, extras.replaced.__contains__) if extras.replaced else headers
    return sent_properties_with(
        content,
        correlation_id,
        extras.message_id or message_id,
        kept + extras.headers,
        priority=extras.priority,
        expiration=extras.expiration,
    )
