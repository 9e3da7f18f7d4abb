"""Why the broker has closed a channel: what its reply text says, and what to do about it.

RabbitMQ tells it in words only. Pure: a reply code and a text in.
"""

import re

from rabbit.topology import CENSUS_SUFFIX

_ACCESS_REFUSED = 403
_PRECONDITION_FAILED = 406
_NOT_ALLOWED = 530
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']*)' for (?P<kind>\w+) '(?P<name>.*)' in vhost '.*': "
    r"received (?P<declared>.*) but current is (?P<existing>.*)"
)
_VALUE = re.compile(r"'(.*?)'(?: of type '\w+')?$")
_TOO_LARGE = re.compile(r"message size \d+ is larger than configured max size (\d+)")


def is_hopeless(code: int, text: str) -> bool:
    """Tell whether a channel was closed for something that trying again does not cure.

    That is a missing permission (403), a declaration with arguments that differ from what
    exists (406), or a channel that is one too many (530: `Connection.open_channel` says so itself).
    406 has other meanings too, an ack that took too long among them.
    """
    is_different = code == _PRECONDITION_FAILED and "inequivalent" in text
    return code in {_ACCESS_REFUSED, _NOT_ALLOWED} or is_different


def explain_refusal(text: str) -> str:
    """Say what a hopeless refusal (`is_hopeless`) is about and what to do, in one line.

    Args:
        text: the reply text of channel.close.
    """
    found = _INEQUIVALENT.search(text)
    if found is None:
        return text
    kind, name, argument = found["kind"], found["name"], found["argument"]
    cure = f"or delete the {kind}, a queue once it is empty: it is made anew"
    if argument == "x-max-length" and name.endswith(CENSUS_SUFFIX):
        return _other_partitions(name.removesuffix(CENSUS_SUFFIX), found)
    if argument == "x-queue-type":
        cure = f"set QUEUE_TYPE as it is, {cure}"
    elif kind == "exchange" and argument == "type":
        cure = f"give who writes and who reads the same kind (OUTPUT_KIND, INPUT_KIND), {cure}"
    else:
        cure = f"set what it was made with, {cure}"
    return (
        f"{kind} {name!r} exists with another {argument}: {_value(found['declared'])} is declared, "
        f"{_value(found['existing'])} is there. Nothing was changed: {cure}. "
        "make doctor shows all differences"
    )


def explain_cancel(queue: str) -> str:
    """Say why the broker may have cancelled the consumer of a queue, and where to look."""
    return (
        f"{queue!r} is consumed no more: was it deleted, with what had waited there (make doctor "
        "shows what is missing), is no broker left that has it, or was a message held for longer "
        "than the broker allows (consumer_timeout)?"
    )


def _other_partitions(edge: str, found: re.Match[str]) -> str:
    """Say that an ordered edge has another number of partitions."""
    declared, there = (_value(found[each]).strip("'") for each in ("declared", "existing"))
    return (
        f"{edge!r} has {there} partitions, and PARTITIONS={declared} is declared. Nothing was "
        f"changed: another number would mix up the order. Set PARTITIONS={there} for all who write "
        f"or read {edge!r}; or change it: make drain, make repartition ARGS={edge}, make up"
    )


def _value(told: str) -> str:
    """Return what RabbitMQ calls `the value 'quorum' of type 'longstr'`, or `none`."""
    found = _VALUE.search(told)
    return repr(found[1]) if found else told


def size_limit(code: int, text: str) -> int | None:
    """Return the broker's max_message_size if a channel was closed for it, in bytes."""
    found = _TOO_LARGE.search(text) if code == _PRECONDITION_FAILED else None
    return int(found[1]) if found else None
