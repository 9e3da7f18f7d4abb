"""What a handler holds: one message as it came, and what it hands on to its outputs."""

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

from rabbit.amqp.properties import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    EXPIRATION,
    PRIORITY,
    REPLY_TO,
    TIMESTAMP,
    decode_headers,
    drop_headers,
    headers_table,
    is_simple,
    read_ids,
    read_property,
    short_string,
    without_headers,
)
from rabbit.amqp.sent_properties import Origin, split_sent
from rabbit.errors import UndecodableError

#: Namespace of the message ids that are derived from an input's id (RFC 9562, version 5).
OUTPUT_NAMESPACE = uuid.UUID("4a3c9c7e-6d0f-5a55-9a39-0b6f2f1f6f0e")

_NAMESPACE = OUTPUT_NAMESPACE.bytes

#: How many times a handler has failed with a message: a header, so that all replicas know.
ATTEMPTS_HEADER = "x-attempts"
MOST_ATTEMPTS = 1_000_000

#: What RFC 9562 makes of the digit that carries the variant: its two highest bits are 10.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_DEATH = ("exchange", "queue", "reason")
#: What the broker adds to a message that it delivers again or dead-letters, or acts upon, and what
#: we add: no part of what was published. Others that merely begin like these are the sender's.
ADDED_HEADERS = frozenset(
    {
        "x-death",
        *(f"x-{which}-death-{of}" for which in ("first", "last") for of in _DEATH),
        "x-delivery-count",
        "x-acquired-count",
        ATTEMPTS_HEADER,
        "x-error-type",
        "x-error-message",
        "x-failed-stage",
        "x-failed-replica",
        "x-failed-at",
    }
)
#: What a quorum queue adds to each delivery: how often it has delivered that message.
COUNTED_HEADERS = frozenset({"x-delivery-count", "x-acquired-count"})
#: The broker sends a message to these routing keys, too (sender-selected distribution), and we keep
#: here what a message that waits cannot have: neither is for what is made of it.
NOT_HANDED_ON = ADDED_HEADERS | {"CC", "BCC", "x-original-expiration", "x-original-user-id"}
_NOT_HANDED_ON_INITIALS = bytes({ord(name[0]) for name in NOT_HANDED_ON})

_NO_HEADERS: Mapping[str, Any] = MappingProxyType({})


def new_id() -> str:
    """Return a message id for a message that comes from nowhere: at the source."""
    return str(uuid.uuid4())


def derived_id(input_id: str, stage: str, index: int) -> str:
    """Return the id of a stage's output number `index` for the input `input_id`.

    It is `uuid5(OUTPUT_NAMESPACE, "input_id/stage/index")`: a redelivered input gives the same ids.
    `derived_output` gives an output this id; who wants to know an id beforehand can ask here.
    """
    return derived_id_bytes(input_id.encode(), stage, index).decode()


def derived_id_bytes(input_id: bytes, stage: str, index: int) -> bytes:
    """Return what `derived_id` does, of bytes and as bytes, in a third of the time."""
    name = _NAMESPACE + input_id + _place(stage, index)
    text = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    variant = _VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}".encode()


@lru_cache(maxsize=1000)
def _place(stage: str, index: int) -> bytes:
    return f"/{stage}/{index}".encode()


class Message:
    """One delivery, as its handler sees it.

    Attributes:
        body: the bytes as they came.
        properties: the properties as they came, flags first (AMQP 0-9-1, section 4.2.6.1).
        redelivered: True when the broker has delivered this message before, here or elsewhere.
        routing_key: what it was published with.
    """

    #: Whether a count of attempts in its headers is ours, and not made up by its sender.
    is_counted: ClassVar[bool] = True

    __slots__ = (
        "_headers",
        "_ids",
        "_origin",
        "body",
        "properties",
        "redelivered",
        "routing_key",
    )

    def __init__(
        self, body: bytes, properties: bytes, *, redelivered: bool, routing_key: str
    ) -> None:
        """Wrap what basic.deliver brought; nothing is decoded before somebody asks."""
        self.body = body
        self.properties = properties
        self.redelivered = redelivered
        self.routing_key = routing_key
        self._ids: tuple[str, str] | None = None
        self._headers: Mapping[str, Any] | None = None
        self._origin: Origin | None = None

    @property
    def text(self) -> str:
        """The body as text. Raises UnicodeDecodeError when it is not UTF-8."""
        return self.body.decode()

    @property
    def id(self) -> str:
        """The message id; one that came without gets a new one, and keeps it when it fails."""
        return self.ids[0]

    @property
    def correlation_id(self) -> str:
        """The id in common with all messages that come from the same source message."""
        return self.ids[1]

    @property
    def ids(self) -> tuple[str, str]:
        """The message id and the correlation id; what cannot be read counts as none."""
        if self._ids is None:
            try:
                message_id, correlation_id = read_ids(self.properties)
            except ValueError:  # its failure has to be told of by some id
                message_id = correlation_id = None
            message_id = message_id or new_id()
            self._ids = message_id, correlation_id or message_id
        return self._ids

    @property
    def origin(self) -> Origin:
        """What it hands on to its outputs: its ids, and the headers that its sender has given it.

        Raises:
            UndecodableError: its headers cannot be decoded.
        """
        origin = self._origin
        if origin is None:
            origin = split_sent(self.properties) or self._foreign_origin()
            if origin[2]:
                origin = self._handed_on(*origin)
            self._origin = origin
        return origin

    def _foreign_origin(self) -> Origin:
        """Return the same, with all headers, of a message that no stage of ours has sent."""
        try:
            message_id, correlation_id = self.ids
            table = headers_table(self.properties)
        except ValueError as error:
            raise _undecodable(error) from error
        return message_id.encode(), short_string(correlation_id), table, None

    def _handed_on(
        self, message_id: bytes, correlation_id: bytes, headers: bytes, begin: bytes | None
    ) -> Origin:
        """Leave out the headers that do not go on to every output."""
        if is_simple(headers, _NOT_HANDED_ON_INITIALS):
            return message_id, correlation_id, headers, begin
        _ = self.headers  # or raise
        kept = without_headers(headers, NOT_HANDED_ON.__contains__)
        return message_id, correlation_id, kept, begin if kept == headers else None

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers it was published with, and those that the broker has added.

        Raises:
            UndecodableError: they cannot be decoded. `work` never sees such a message.
        """
        if self._headers is None:
            try:
                self._headers = decode_headers(self.properties) or _NO_HEADERS
            except ValueError as error:
                raise _undecodable(error) from error
        return self._headers

    @property
    def content_type(self) -> str | None:
        """What its sender says the body is, such as application/json."""
        return self._text(CONTENT_TYPE)

    @property
    def content_encoding(self) -> str | None:
        """How its sender says the body is packed (gzip, deflate), or which characters it has."""
        return self._text(CONTENT_ENCODING)

    @property
    def reply_to(self) -> str | None:
        """The queue that an answer is expected in; see `rabbit.MessageQueue`."""
        return self._text(REPLY_TO)

    @property
    def priority(self) -> int | None:
        """What it was published with, 0 to 255; none goes on to outputs."""
        value = read_property(self.properties, PRIORITY)
        return value if isinstance(value, int) else None

    @property
    def expiration(self) -> float | None:
        """How long it might have waited in its queue, in seconds; none goes on to outputs.

        None after a failed attempt, too: what is tried again does not expire.
        """
        value = self._text(EXPIRATION)
        return int(value) / 1000 if value and value.isdecimal() else None

    @property
    def timestamp(self) -> datetime | None:
        """When its sender says it was made; None, too, if no calendar has that time."""
        value = read_property(self.properties, TIMESTAMP)
        try:
            return None if value is None else datetime.fromtimestamp(int(value), UTC)
        except (ValueError, OverflowError, OSError):
            return None

    def _text(self, flag: int) -> str | None:
        value = read_property(self.properties, flag)
        return value if isinstance(value, str) else None

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1.

        Counted are handlers that failed, on any replica (`x-attempts`), and the failures that the
        broker knows of since the last of these (`x-delivery-count`, quorum queues): a message that
        was given back unstarted has used up none.
        """
        again = _count(self.headers, "x-delivery-count") if self.redelivered else 0
        return self.failures + again + 1

    @property
    def failures(self) -> int:
        """How many times a handler has failed with this message before, on any replica.

        It stands in a header, which counts only where a stage has written it: in what comes back
        from a retry queue.
        """
        return _count(self.headers, ATTEMPTS_HEADER) if self.is_counted else 0


def delivered_in_vain(message: Message) -> int:
    """Return how often the broker counts a message as delivered in vain; 0 if it cannot be read.

    It is given up by its queue when that is more than the delivery limit.
    """
    try:
        return _count(message.headers, "x-delivery-count")
    except UndecodableError:
        return 0


def _undecodable(error: ValueError) -> UndecodableError:
    return UndecodableError(f"properties that cannot be decoded: {error!r}")


def as_stored(properties: bytes) -> bytes:
    """Return properties as they stand in the queue: without what the delivery has added.

    Args:
        properties: as they came, flags first. What cannot be read stays as it is.
    """
    try:
        return drop_headers(properties, COUNTED_HEADERS.__contains__)
    except ValueError:
        return properties


def is_added(header: str) -> bool:
    """Tell whether a header is not the sender's, but was added on the way (`ADDED_HEADERS`)."""
    return header in ADDED_HEADERS


def _count(headers: Mapping[str, Any], name: str) -> int:
    """Return a header that counts something; what somebody else has put there may be no number."""
    value = headers.get(name)
    return min(value, MOST_ATTEMPTS) if isinstance(value, int) and value > 0 else 0
