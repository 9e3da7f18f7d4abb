"""The README of deploy/swarm, then numbered messages through what may happen to three nodes."""

import re
import sys
from typing import Any

import pytest

from tests.swarm.stack import BROKERS, Stack

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(3000)]

#: What `to_upper` may hold, and so what may come twice when a replica or a broker ends.
PREFETCH = 20
#: So slow that messages are in flight whenever something happens.
SLOW: dict[str, Any] = {"TO_UPPER_DELAY": "0.02", "PREFETCH": str(PREFETCH)}


@pytest.mark.runs(
    "docker node update --label-add rabbitmq=1 node-1",
    "make up TARGET=swarm",
    "make publish TARGET=swarm MSG=hello",
    "docker service logs --raw pipeline_printer",
    "make status TARGET=swarm",
    "make halt TARGET=swarm",
)
def test_from_nothing(stack: Stack) -> None:
    """Without a label it says what to do; then messages flow, and what was halted starts again."""
    assert "--label-add rabbitmq=1 NODE" in stack.make("up", check=False, TAG="1")
    stack.label()
    assert "runs. What now" in stack.make("up", TAG="1")
    stack.make("publish", "MSG=as before")
    stack.wait_printed({"HELLO", "WORLD", "AS", "BEFORE"})
    assert "my_queue → upper" in stack.make("status")
    stack.make("pause")
    stack.make("resume")

    assert "halted 2/2" in stack.make("halt")
    stack.make("publish", "MSG=later")
    stack.make("up", TAG="1")
    stack.wait_printed({"LATER"})
    assert "no dead letters" in stack.make("dead-letters")
    assert "drained 2 stages" in stack.make("drain")


@pytest.mark.runs("make up TARGET=swarm BROKERS=3")
def test_one_broker_becomes_three(stack: Stack) -> None:
    """What is queued stays; each queue has three members then, and they stay three."""
    stack.scale("printer", 0)
    stack.make("publish", "MSG=kept")
    stack.make("up", BROKERS="3", TAG="1", **SLOW)
    stack.wait_clustered()
    stack.wait_printed({"KEPT"})
    assert "BROKERS=3" in stack.make("up", check=False, BROKERS="1")


@pytest.mark.runs(
    "docker service scale pipeline_to_upper=6",
    "TAG=0.2.0 make up TARGET=swarm",
    "make upgrade TARGET=swarm",
    "make doctor TARGET=swarm",
    "docker node update --availability drain node-2",
    "docker node update --availability active node-2",
    "docker stack rm pipeline",
)
def test_nothing_is_lost(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbered messages: all that are confirmed are there in the end, few of them twice.

    Meanwhile nothing reads them: what a printer has printed is gone with its container.
    """
    stack.scale("printer", 0)
    numbered = stack.numbered()
    with numbered.publishing():
        stack.scale("to_upper", 6)
        stack.scale("to_upper", 1)
        stack.scale("to_upper", 2)
        _drained(stack, len(stack.hosts))
        _killed(stack, 2)
        _killed(stack, 1)  # it has made the swarm, and so leads it
        _upgraded(stack)
        # Its one finding: nobody reads what the printer is to read.
        assert "1 difference" in stack.make("doctor", check=False)
        stack.build("2")
        stack.secure("ROTATE=passwords")
        stack.make("up", TAG="2", **SLOW)
        stack.wait_clustered()
        assert stack.images("to_upper") == {f"{stack.name}-to_upper:2"}
    assert numbered.confirmed >= 5000
    stack.scale("printer", 1)
    stack.scale("to_upper", 6)  # slow as they are, one would not be through in time

    twice = numbered.count_twice(stack.wait_printed(numbered.expected))
    with capsys.disabled():
        sys.stdout.write(f"{numbered.confirmed} messages, {twice} of them twice\n")
    assert twice <= 10 * PREFETCH
    _halted(stack)


def _upgraded(stack: Stack) -> None:
    """Have each broker replaced; no replica needs a hand."""
    before = stack.tasks("to_upper")
    stack.name_broker("2")
    stack.make("upgrade")
    stack.wait_clustered()
    for broker in BROKERS:
        assert stack.images(broker) == {stack.broker}
    assert stack.tasks("to_upper") == before


def _halted(stack: Stack) -> None:
    """Have a proof, once those that were killed, and that Swarm has forgotten, are named."""
    gone = re.findall(r"make forget (ARGS=\S+)", stack.make("halt", check=False))
    for each in gone:
        stack.make("forget", each)
    stack.make("up", TAG="2")
    assert "halted 2/2" in stack.make("halt")


def _drained(stack: Stack, number: int) -> None:
    """Empty a node, and let it come back; its broker waits for it."""
    node = stack.node(number)
    stack.docker("node", "update", "--availability", "drain", node)
    stack.wait_left("to_upper", node)
    stack.docker("node", "update", "--availability", "active", node)
    stack.wait_clustered()


def _killed(stack: Stack, number: int) -> None:
    """Have a node fail until Swarm knows it, and come back."""
    node = stack.node(number)
    stack.kill(number)
    stack.wait_node(node, "down")
    stack.wait_left("to_upper", node)
    stack.start(number)
    stack.wait_node(node, "ready")
    stack.wait_clustered()
