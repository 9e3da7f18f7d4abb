"""What a handler holds, and what it gives: messages in, outputs out."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

from rabbit import topology
from rabbit.amqp.properties import (
    decode_headers,
    read_ids,
    split_text,
    text_begin,
    text_properties,
    with_id,
)
from rabbit.errors import UndecodableError

#: Namespace of the message ids that are derived from an input's id (RFC 9562, version 5).
OUTPUT_NAMESPACE = uuid.UUID("4a3c9c7e-6d0f-5a55-9a39-0b6f2f1f6f0e")

_NAMESPACE = OUTPUT_NAMESPACE.bytes

#: How many times a handler has failed with a message: a header, so that all replicas know.
ATTEMPTS_HEADER = "x-attempts"
MOST_ATTEMPTS = 1_000_000

#: What RFC 9562 makes of the digit that carries the variant: its two highest bits are 10.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_NO_HEADERS: Mapping[str, Any] = MappingProxyType({})


def new_id() -> str:
    """Return a message id for a message that comes from nowhere: at the source."""
    return str(uuid.uuid4())


def derived_id(input_id: str, stage: str, index: int) -> str:
    """Return the id of a stage's output number `index` for the input `input_id`.

    It is `uuid5(OUTPUT_NAMESPACE, "input_id/stage/index")`: a redelivered input gives the same ids.
    `derived_output` gives an output this id; who wants to know an id beforehand can ask here.
    """
    return _uuid5(input_id.encode() + _place(stage, index))


@lru_cache(maxsize=1000)
def _place(stage: str, index: int) -> bytes:
    return f"/{stage}/{index}".encode()


def _uuid5(name: bytes) -> str:
    """Do what uuid.uuid5 does, in a third of the time: this runs once per message."""
    text = hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = _VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


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

    __slots__ = ("_headers", "_ids", "body", "properties", "redelivered", "routing_key")

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
        """The message id and the correlation id."""
        if self._ids is None:
            message_id, correlation_id = read_ids(self.properties)
            message_id = message_id or new_id()
            self._ids = message_id, correlation_id or message_id
        return self._ids

    @property
    def origin(self) -> tuple[bytes, bytes]:
        """What its outputs are derived from: their properties up to the message id, and its id."""
        split = split_text(self.properties)
        if split is None:  # not from a stage of ours
            message_id, correlation_id = self.ids
            split = text_begin(correlation_id), message_id.encode()
        return split

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
                msg = f"properties that cannot be decoded: {error!r}"
                raise UndecodableError(msg) from error
        return self._headers

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


def _count(headers: Mapping[str, Any], name: str) -> int:
    """Return a header that counts something; what somebody else has put there may be no number."""
    value = headers.get(name)
    return min(value, MOST_ATTEMPTS) if isinstance(value, int) and value > 0 else 0


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


def text_output(
    body: bytes,
    message_id: str,
    correlation_id: str,
    key: str | None = None,
    reply_to: str | None = None,
) -> Output:
    """Return an output that is a persistent UTF-8 text.

    Args:
        body: the text.
        message_id: its id.
        correlation_id: the id carried through from the source.
        key: the routing key that was asked for; None for a work queue.
        reply_to: where an answer is expected; only commands have it.
    """
    return Output(body, text_properties(message_id, correlation_id, reply_to), key)


def encoded(text: str) -> bytes:
    """Return the body of a message that is this text. Raises TypeError for what is none."""
    if not isinstance(text, str):
        msg = f"a message is a text, not {type(text).__name__}: make it one first, say with str()"
        raise TypeError(msg)
    return str.encode(text)  # of a subclass, too


def derived_output(
    message: Message, stage: str, index: int, body: bytes, key: str | None = None
) -> Output:
    """Return a stage's output number `index` for an input, a persistent UTF-8 text.

    Its id is that of `derived_id`; the correlation id is carried through.

    Args:
        message: the input.
        stage: the stage's name.
        index: how many outputs of this input there are before it.
        body: the text.
        key: the routing key that was asked for; None for a work queue.
    """
    begin, input_id = message.origin
    output_id = _uuid5(input_id + _place(stage, index)).encode()
    return Output(body, with_id(begin, output_id), key)
