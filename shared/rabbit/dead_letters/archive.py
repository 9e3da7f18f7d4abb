"""Dead letters as lines of JSON, from which they come back byte for byte. Pure."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple

from rabbit.amqp.pika_types import decode_properties
from rabbit.amqp.properties import read_headers, set_aside, with_headers
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.message import Message, as_stored
from rabbit.output import Output


class Archived(NamedTuple):
    """One letter that was read from a line.

    Attributes:
        queue: the queue it came from.
        output: what to publish.
    """

    queue: str
    output: Output


def details(letter: DeadLetter, message: Message) -> dict[str, Any]:
    """Return all that a letter consists of, with values that `plain` makes JSON of.

    `body` is text where `body_encoding` is utf-8, else base64.
    """
    try:
        properties = dict(vars(decode_properties(message.properties)))
    except ValueError:
        raw = base64.b64encode(message.properties).decode()
        properties = {"not readable, in base64": raw}
    headers = properties.pop("headers", None) or {}
    try:
        body, encoding = message.body.decode(), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(message.body).decode(), "base64"
    return {
        **asdict(letter),
        "routing_key": message.routing_key,
        "properties": {name: value for name, value in properties.items() if value is not None},
        "headers": headers,
        "body": body,
        "body_encoding": encoding,
    }


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a header holds
    """Return what JSON has a type for: of times, bytes, decimals and floats without end a text."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    is_finite = not isinstance(value, float) or math.isfinite(value)
    known = value is None or isinstance(value, str | int | float)
    return value if known and is_finite else str(value)


def to_line(letter: DeadLetter, message: Message) -> str:
    """Return a letter as a line, without its line break.

    What it says of headers and properties is for people; what comes back is `raw_properties`,
    which has each of them with its type, `routing_key`, and `body`.
    """
    raw = as_stored(message.properties)
    stored = Message(message.body, raw, redelivered=False, routing_key=message.routing_key)
    told = plain(details(letter, stored))
    return json.dumps({**told, "raw_properties": base64.b64encode(raw).decode()})


def from_line(line: str) -> Archived:
    """Return the letter that a line is of.

    The broker acts upon the properties `expiration` and `user_id`: as wherever messages are kept
    here, they become headers.

    Raises:
        ValueError: it is none; the error says why.
    """
    try:
        told = json.loads(line)
        queue, key, body = told["queue"], told["routing_key"], told["body"]
        encoding, raw = told["body_encoding"], told["raw_properties"]
        properties = base64.b64decode(raw, validate=True)
        data = base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
    except KeyError as error:
        msg = f"{error} is missing: it is no line that dead-letters export has written"
        raise ValueError(msg) from None
    except (ValueError, TypeError, AttributeError) as error:
        msg = f"it is no line that dead-letters export has written: {error}"
        raise ValueError(msg) from None
    if not (isinstance(queue, str) and isinstance(key, str) and queue):
        msg = "queue and routing_key: two texts"
        raise ValueError(msg)
    read_headers(properties)  # raises what cannot be read
    properties, aside = set_aside(properties)
    if aside:
        properties = with_headers(properties, aside, without=lambda _name: False)
    return Archived(queue, Output(data, properties, key=key))
