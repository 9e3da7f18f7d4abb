"""What a policy takes from a queue, whose arguments the library gives it."""

from typing import Any

import pytest

from rabbit.operations.policies import Policy
from rabbit.topology import Edge, Queue, control_subscription

EDGE = Edge("q", delays=(5.0,))
CLASSIC = Edge("q", type="classic")


def arguments(name: str, edge: Edge = EDGE) -> dict[str, Any]:
    """Return the arguments of a queue as a stage declares it."""
    declared = [*edge.for_consuming(), *control_subscription("s", "r")]
    [queue] = [each for each in declared if isinstance(each, Queue) and each.name == name]
    return dict(queue.arguments)


@pytest.mark.parametrize(
    ("queue", "definition", "effect"),
    [
        ("q.dead", {"message-ttl": 1000}, "what is older than 1000 ms is dropped"),
        ("control.s.r", {"message-ttl": 1000}, "what is older than 1000 ms is dropped"),
        ("q", {"message-ttl": 1000}, "what waits for longer than 1000 ms becomes a dead letter"),
        ("q.retry.5s", {"message-ttl": 1000}, "what waits comes back after 1000 ms already"),
        (
            "q.dead",
            {"expires": 9},
            "the queue goes, with all in it, when nobody has read it for 9 ms",
        ),
        (
            "control.s.r",
            {"max-length": 3},
            "beyond 3 messages the oldest is dropped (drop-head)",
        ),
        (
            "q.dead",
            {"max-length-bytes": 3, "overflow": "drop-head"},
            "beyond 3 bytes the oldest is dropped (drop-head)",
        ),
        (
            "q.retry.5s",
            {"overflow": "drop-head"},
            "with drop-head, what becomes a dead letter may be lost on the way",
        ),
        (
            "q.dead",
            {"delivery-limit": 20},
            "what comes back more than 20 times is dropped",
        ),
    ],
)
def test_what_is_lost(queue: str, definition: dict[str, Any], effect: str) -> None:
    """The effect, in the words that the doctor says."""
    assert [said for _, said in Policy("p", definition).losses(arguments(queue))] == [effect]


@pytest.mark.parametrize(
    ("queue", "definition"),
    [
        ("q.dead", {"max-length": 3}),  # it refuses what comes, which stays where it was
        ("q", {"max-length": 3, "max-length-bytes": 7}),
        ("q.retry.5s", {"message-ttl": 5001}),  # its own is shorter
        ("control.s.r", {"expires": 600_001}),
        ("q", {"delivery-limit": 3}),  # then it is a dead letter
        ("q.retry.5s", {"delivery-limit": 3}),  # nobody reads it
        ("q.dead", {"dead-letter-exchange": "x", "queue-leader-locator": "balanced"}),
    ],
)
def test_what_is_not_lost(queue: str, definition: dict[str, Any]) -> None:
    """A policy that changes nothing of what is promised is no finding."""
    assert list(Policy("p", definition).losses(arguments(queue))) == []


def test_on_a_classic_queue_the_arguments_win() -> None:
    """Its overflow stays reject-publish, whatever a policy says."""
    policy = Policy("p", {"max-length": 3, "overflow": "drop-head"})

    assert list(policy.losses(arguments("q", CLASSIC))) == []
