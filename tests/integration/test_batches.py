"""A sink that handles many messages at a time."""

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from rabbit import BatchConsumer, HandlerTimeoutError, Reject
from tests.broker import Broker
from tests.conftest import Unique
from tests.integration.background import InBackground, Running
from tests.integration.letters import letters
from tests.waiting import wait_until


@dataclass
class Order:
    """What comes."""

    id: int


class Store(BatchConsumer):
    """Keeps the batches that it is handed."""

    def __init__(self, *arguments: Any, **given: Any) -> None:
        """Begin with none."""
        super().__init__(*arguments, **given)
        self.batches: list[list[int]] = []
        self.may_end = threading.Event()
        self.may_end.set()

    @property
    def stored(self) -> list[int]:
        """Everything, in order."""
        return [number for batch in self.batches for number in batch]

    def work(self, messages: list[Order]) -> None:
        """Store orders; refuse those below zero."""
        assert len(self.messages) == len(messages)
        for order in messages:
            if order.id < 0:
                raise Reject("below zero")
        self.batches.append([order.id for order in messages])
        self.may_end.wait(30)


def orders(*numbers: int) -> list[str]:
    """Return them as they are sent."""
    return [f'{{"id": {number}}}' for number in numbers]


def test_batches_are_acked_and_what_is_bad_in_one_is_kept_alone(
    broker: Broker, unique: Unique
) -> None:
    """One that `work` refuses, one that is no order: each is a dead letter, the others are done."""
    texts = orders(*range(1000))
    texts[500:500] = ["no order", *orders(-1)]
    broker.put(unique("in"), texts)
    sink = Store(unique("store"), unique("in"), **broker.settings)

    with Running(sink):
        wait_until(lambda: len(set(sink.stored)) == 1000, 30, "all are stored")
        kept = letters(broker, f"{unique('in')}.dead", 2)

    reasons = {letter.body: letter.headers["x-error-type"] for letter in kept}
    assert reasons == {b"no order": "InvalidPayloadError", b'{"id": -1}': "Reject"}
    assert max(map(len, sink.batches)) > 100
    assert max(map(len, sink.batches)) <= 500
    assert broker.depth(unique("in")) == 0


def test_a_halt_hands_over_nothing_more_and_requeues_it(broker: Broker, unique: Unique) -> None:
    """What has come together goes back in order, without a mark; what runs is finished."""
    broker.put(unique("in"), orders(1))
    sink = Store(
        unique("store"), unique("in"), batch_size=3, batch_seconds=86400.0, **broker.settings
    )
    sink.may_end.clear()
    running = InBackground(sink.start)
    wait_until(lambda: sink.batches == [[1]], 20, "the first one is alone")
    sink.may_end.set()
    broker.put(unique("in"), orders(2, 3))
    wait_until(lambda: broker.depth(unique("in")) == 0, 20, "two wait for a third")
    sink.stop()
    running.join()

    assert sink.batches == [[1]]
    taken = broker.take(unique("in"), 2)
    assert [each.text for each in taken] == orders(2, 3)
    assert not any("x-delivery-count" in (each.headers or {}) for each in taken)


@pytest.mark.parametrize("given", [{"prefetch": 2}, {"poison_pill": "pill"}])
def test_a_batch_does_not_wait_for_what_cannot_come(
    broker: Broker, unique: Unique, given: dict[str, object]
) -> None:
    """No more can come than PREFETCH allows, nor behind a pill."""
    texts = [*orders(*range(5)), "pill"]
    broker.put(unique("in"), texts if "poison_pill" in given else texts[:4])
    sink = Store(unique("store"), unique("in"), batch_seconds=86400.0, **given, **broker.settings)

    with Running(sink):
        wait_until(lambda: len(sink.stored) >= 4, 20, "all are stored")

    assert sorted(sink.stored) == [*range(5)][: len(sink.stored)]
    assert broker.depth(f"{unique('in')}.dead") == 0


def test_a_call_that_takes_too_long_fails_with_all_its_messages(
    broker: Broker, unique: Unique
) -> None:
    """They come again, and the replica ends, as with any other `work`."""
    broker.put(unique("in"), orders(1, 2))
    sink = Store(
        unique("store"),
        unique("in"),
        prefetch=2,
        handler_timeout=0.1,
        retry_delays=(0.1,),
        **broker.settings,
    )
    sink.may_end.clear()
    running = InBackground(sink.start)
    with pytest.raises(HandlerTimeoutError, match=r"HANDLER_TIMEOUT=0\.1 s"):
        running.join()
    sink.may_end.set()

    assert sink.batches == [[1, 2]]
    taken = broker.take(unique("in"), 2)
    assert [(each.headers or {}).get("x-attempts") for each in taken] == [1, 1]
