"""What users of pika expect to be given with a message: its own classes, and their encoding."""

from typing import TypeAlias

from pika.spec import Basic, BasicProperties

from rabbit.amqp.field_table import decode_table
from rabbit.amqp.properties import HEADERS_BIT, split_headers
from rabbit.errors import UndecodableError

#: The properties of a message, as a callback of pika gets them.
Properties: TypeAlias = BasicProperties

#: The method that brings a message, likewise.
Deliver: TypeAlias = Basic.Deliver


def text_of(name: str | bytes) -> str:
    """Return a name, or a routing key, as `frames` does: pika leaves one as bytes if no UTF-8."""
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")


def encode_properties(properties: BasicProperties) -> bytes:
    """Encode the properties of a message, flags first as in its content header."""
    return b"".join(properties.encode())  # type: ignore[no-untyped-call]


def decode_properties(raw: bytes) -> BasicProperties:
    """Decode the properties of a message, flags first as in its content header.

    Raises:
        UndecodableError: they cannot be decoded.
    """
    properties = BasicProperties()  # type: ignore[no-untyped-call]
    try:
        rest, table = split_headers(raw)
        properties.decode(rest)  # type: ignore[no-untyped-call]
        if raw[0] & HEADERS_BIT:
            properties.headers = decode_table(table)  # pika would make whole numbers of floats
    except Exception as error:
        msg = f"properties that cannot be decoded: {error!r}"
        raise UndecodableError(msg) from error
    return properties
