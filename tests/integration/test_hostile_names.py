"""Whoever may declare a queue may give it any name: none of them steers a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from tests.broker import Broker
from tests.integration.conftest import Control
from tests.integration.forged import flood
from tests.variations import variations

#: Clears the screen, and colours what comes after it. RabbitMQ takes line breaks out of names.
QUEUE = "x\x1b[2J"
GHOST = "control.gh\x1b[1most.\x1b[31m"


@contextmanager
def hostile_names(broker: Broker, vhost: str) -> Iterator[None]:
    """Have a queue and a replica, which never answers, with such names."""
    with broker.channel(vhost) as channel:
        channel.exchange_declare("control", "fanout", durable=True)
        for name in (QUEUE, GHOST):
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(GHOST, "control")
        yield


@pytest.mark.parametrize(
    ("arguments", "code"),
    variations(
        [
            (("status",), 0),
            (("halt", "--timeout", "2"), 1),
            (("forget", "nobody/1"), 1),
            (("status", "--replicas"), 0),
            (("status", "--format", "json"), 0),
            (("halt", "--timeout", "2", "--format", "json"), 1),
            (("drain", "--timeout", "2"), 1),
            (("pause", "--timeout", "2"), 1),
        ],
        first=3,
    ),
)
def test_no_name_steers_the_terminal(
    broker: Broker, vhost: str, control: Control, arguments: tuple[str, ...], code: int
) -> None:
    """What is printed has them as escapes; nothing of them is a control character."""
    with hostile_names(broker, vhost):
        done = control(*arguments)

    assert done.wait() == code, done.log
    said = done.out + done.log
    assert "\x1b" not in said
    assert "gh\\x1b[1most" in said or "gh\\u001b[1most" in said
    if arguments[0] == "status":
        assert "x1b[2J" in done.out or "u001b[2J" in done.out


#: How much longer a halt may take that has a flood of reports to read.
FLOOD_SECONDS = 10.0


@pytest.mark.thorough
def test_a_flood_of_forged_reports_stretches_no_halt(
    broker: Broker, vhost: str, control: Control
) -> None:
    """It ends soon after its time-out, before which somebody who is silent keeps it from ending."""

    def halted() -> float:
        began = monotonic()
        halt = control("halt", "--timeout", "3")
        assert halt.wait() == 1
        assert "halted 0/1" in halt.out
        return monotonic() - began

    with hostile_names(broker, vhost):
        quiet = halted()
        with flood(broker, vhost) as is_flooded:
            flooded = halted()

    assert is_flooded.is_set()
    assert flooded < quiet + FLOOD_SECONDS
