"""What a handler holds, and what it gives: messages in, outputs out."""

import hashlib
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

#: Namespace of the message ids that are derived from an input's id (RFC 9562, version 5).
OUTPUT_NAMESPACE = uuid.UUID("4a3c9c7e-6d0f-5a55-9a39-0b6f2f1f6f0e")

#: A routing key is a short string of AMQP 0-9-1.
LONGEST_KEY_BYTES = 255

_NO_HEADERS: Mapping[str, Any] = MappingProxyType({})


class Properties(Protocol):
    """The message properties of AMQP 0-9-1 that are read here (basic class, section 1.8)."""

    message_id: str | None
    correlation_id: str | None
    headers: dict[str, Any] | None


def new_id() -> str:
    """Return a message id for a message that comes from nowhere: at the source."""
    return str(uuid.uuid4())


def derived_id(input_id: str, stage: str, index: int) -> str:
    """Return the id of a stage's output number `index` for the input `input_id`.

    It is `uuid5(OUTPUT_NAMESPACE, "input_id/stage/index")`, spelt out because this runs once per
    message and uuid.UUID takes three times as long. A redelivered input gives the same ids.
    """
    name = f"{input_id}/{stage}/{index}".encode()
    digest = hashlib.sha1(OUTPUT_NAMESPACE.bytes + name, usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF000 << 64) | 5 << 76
    number = number & ~(0xC000 << 48) | 0x8000 << 48
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Message:
    """One delivery, as its handler sees it.

    Attributes:
        body: the bytes as they came.
        redelivered: True when the broker has delivered this message before, here or elsewhere.
        routing_key: what it was published with.
    """

    __slots__ = ("_id", "_properties", "body", "redelivered", "routing_key")

    def __init__(
        self, body: bytes, properties: Properties, *, redelivered: bool, routing_key: str
    ) -> None:
        """Wrap what basic.deliver brought; nothing is decoded before somebody asks."""
        self.body = body
        self.redelivered = redelivered
        self.routing_key = routing_key
        self._properties = properties
        self._id = properties.message_id or None

    @property
    def text(self) -> str:
        """The body as text. Raises UnicodeDecodeError when it is not UTF-8."""
        return self.body.decode()

    @property
    def id(self) -> str:
        """The message id; a message that came without one gets a new one at each delivery."""
        if self._id is None:
            self._id = new_id()
        return self._id

    @property
    def correlation_id(self) -> str:
        """The id in common with all messages that come from the same source message."""
        return self._properties.correlation_id or self.id

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers it was published with, and those that the broker has added."""
        return self._properties.headers or _NO_HEADERS

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1.

        Counted from the failures that the broker knows of (`x-delivery-count`, quorum queues): a
        message that was given back unstarted has used up none.
        """
        return int(self.headers.get("x-delivery-count", 0)) + 1


def check_key(key: str | None) -> str | None:
    """Return a routing key that AMQP can carry: a short string. Raises ValueError otherwise."""
    if key is not None and len(key.encode()) > LONGEST_KEY_BYTES:
        msg = f"a routing key of {len(key.encode())} bytes: at most {LONGEST_KEY_BYTES} are allowed"
        raise ValueError(msg)
    return key


class Output(NamedTuple):
    """One message to publish.

    Attributes:
        body: the bytes to send.
        id: its message id.
        correlation_id: the id carried through from the source.
        key: the routing key that was asked for; None for a work queue.
        reply_to: where an answer is expected; only commands have it.
    """

    body: bytes
    id: str
    correlation_id: str
    key: str | None = None
    reply_to: str | None = None
