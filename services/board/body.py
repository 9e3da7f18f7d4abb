"""A message as a page can show it: nothing in it can steer a browser, and no more than fits."""

import json
from dataclasses import asdict
from typing import Any

from rabbit.dead_letters.archive import details, plain
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.message import Message
from rabbit.terminal import visible

#: So much of a body is shown, in bytes, and of all else in characters.
MOST_BYTES = 64 * 1024
MOST_CHARACTERS = 2000

#: So much of the broker's history of a message is shown.
MOST_DEATHS = 20

#: A line of a hex dump.
_WIDTH = 16


def shown(letter: DeadLetter, message: Message) -> dict[str, Any]:
    """Return all that a dead letter consists of, as JSON has it."""
    body = message.body[:MOST_BYTES]
    parts = plain(details(letter, message))
    deaths = parts["headers"].pop("x-death", None)
    return {
        **{name: told(value) for name, value in asdict(letter).items()},
        "routing_key": told(message.routing_key),
        "properties": {told(name): told(value) for name, value in parts["properties"].items()},
        "headers": {told(name): told(value) for name, value in parts["headers"].items()},
        "deaths": _deaths(deaths),
        "text": text(body, is_whole=body == message.body),
        "json": _indented(message.body),
        "hex": hex_dump(body),
        "shown": len(body),
    }


def _deaths(deaths: object) -> list[dict[str, str]]:
    """Return the broker's own history: where, why, how often, and when first."""
    names = ("queue", "reason", "count", "time")
    entries = deaths if isinstance(deaths, list) else []
    known = [each for each in entries if isinstance(each, dict)][:MOST_DEATHS]
    return [{name: told(each.get(name)) for name in names} for each in known]


def told(value: object) -> str:
    """Return what JSON has a type for as a text of one line, which ends where it gets too long."""
    line = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = "" if value is None else visible(line[: MOST_CHARACTERS + 1])
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]} …"


def text(body: bytes, *, is_whole: bool = True) -> str | None:
    """Return UTF-8 with its lines, and what is not printable as escapes; None: it is none."""
    try:
        lines = body.decode().split("\n")
    except UnicodeDecodeError as error:
        if is_whole or len(body) - error.start >= 4:  # noqa: PLR2004 - cut within a character
            return None
        lines = body[: error.start].decode().split("\n")
    return "\n".join("\t".join(visible(part) for part in line.split("\t")) for line in lines)


def _indented(body: bytes) -> str | None:
    """Return JSON with indents; None: it is none, or too large, or nested too deep, to be read."""
    if len(body) > MOST_BYTES:
        return None
    try:
        indented = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return text(indented.encode(errors="replace")[: 4 * MOST_BYTES], is_whole=False)


def hex_dump(body: bytes) -> str:
    """Return a line for each 16 bytes: where, which, and what of it is ASCII."""
    lines = []
    for start in range(0, len(body), _WIDTH):
        row = body[start : start + _WIDTH]
        shown_ = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)  # noqa: PLR2004
        lines.append(f"{start:06x}  {row.hex(' '):<{3 * _WIDTH}} {shown_}")
    return "\n".join(lines)
