"""Where the pill goes: what the broker counts is the test's to say."""

from collections.abc import Callable
from typing import cast

import pytest

from rabbit.messaging.delivery import Delivery
from rabbit.messaging.edge_consumer import EdgeConsumer
from rabbit.runtime.poison_pill import PoisonPill
from rabbit.topology import Edge, QueueType


class Counting:
    """A consumer whose queue has as many consumers as a test says, one answer after the other."""

    def __init__(self, queue_type: QueueType, counts: list[int]) -> None:
        """Answer with these."""
        self.edge = Edge("in", type=queue_type)
        self.requeued: list[Delivery] = []
        self._counts = counts

    def requeue(self, delivery: Delivery) -> None:
        """Note it."""
        self.requeued.append(delivery)

    def count_consumers(self, tell: Callable[[int], None]) -> None:
        """Answer at once."""
        tell(self._counts.pop(0))


@pytest.mark.parametrize(
    ("queue_type", "counts", "is_last"),
    [
        ("quorum", [1], True),
        ("quorum", [2], False),
        ("classic", [0], True),
        ("classic", [1], False),
        ("quorum", [0, 0, 2], False),
        ("quorum", [0, 1], True),
    ],
)
def test_the_last_one_sends_it_downstream(
    queue_type: QueueType, counts: list[int], *, is_last: bool
) -> None:
    """A quorum queue has at least its holder for a consumer: one that has none was not asked."""
    consumer = Counting(queue_type, counts)
    pill = PoisonPill("HALT", cast("EdgeConsumer", consumer), lambda _: None)
    held = Delivery(0, 1, "", b"", b"HALT", redelivered=False)
    assert pill.before([held]) == []
    sent: list[Delivery] = []

    for _ in pill.pass_on(sent.append):
        pass

    assert (sent, consumer.requeued) == (([held], []) if is_last else ([], [held]))
    assert counts == []
