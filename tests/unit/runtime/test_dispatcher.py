"""A message's way, step by step, with the broker's part played by hand."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rabbit.errors import Reject, TopologyError
from rabbit.messaging.retry import RetryPolicy
from rabbit.runtime.batches import BatchHandler, BatchSize
from rabbit.runtime.dispatcher import Dispatcher
from rabbit.runtime.handler import Handler
from rabbit.runtime.runner import Connections
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.unit.runtime.turns import PATIENCE_SECONDS, Turns
from tests.unit.scripted import (
    ScriptedChannel,
    ScriptedConnection,
    ScriptedLoop,
    as_connection,
    as_loop,
    log,
)
from tests.waiting import wait_until


class Desk(Turns):
    """A dispatcher, with both ends in the test's hands."""

    def __init__(
        self,
        work: Callable[["Desk", Any], None],
        batch: BatchSize | None = None,
        prefetch: int = 10,
        handler_timeout: float | None = None,
    ) -> None:
        """Have everything open, with room for ten messages."""
        self.loop = ScriptedLoop()
        self.consuming, self.publishing = (ScriptedConnection(self.loop) for _ in range(2))
        edge = Edge("in", delays=(1.0,))
        self.handler = (
            BatchHandler(lambda texts: work(self, texts), "stage", size=batch, log=log)
            if batch
            else Handler(lambda text: work(self, text), "stage")
        )
        self.dispatcher = Dispatcher(
            Connections(
                as_loop(self.loop), as_connection(self.consuming), as_connection(self.publishing)
            ),
            edge,
            Edge("out"),
            Settings.load(prefetch=prefetch, handler_timeout=handler_timeout),
            self.handler,
            RetryPolicy(edge, "stage", "replica"),
            log,
        )
        [self.input] = self.consuming.users
        self.failures, self.output = self.publishing.users
        for channel in (self.input, self.failures, self.output):
            channel.open()
        self.input.sent.clear()

    def write(self, text: str) -> None:
        """As a stage does."""
        self.handler.write(text, None)

    def handle(self, *bodies: str) -> None:
        """Deliver messages, and have them handled."""
        self.input.deliver(*bodies)
        self.settle_work()


def work(desk: Desk, text: str) -> None:
    """Write each word; fail where one says so."""
    for word in text.split():
        if word == "fail":
            raise ValueError(word)
        if word == "reject":
            raise Reject(word)
        desk.write(word)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Return a dispatcher of `work`."""
    made = Desk(work)
    yield made
    made.dispatcher.release()


def texts(channel: ScriptedChannel) -> list[tuple[str, str]]:
    """Return what was published, and where to."""
    return [(exchange, body) for exchange, _, body, _ in channel.published]


def test_the_last_confirm_acks_and_none_before(desk: Desk) -> None:
    """Of two outputs one is confirmed: the input stays unacked."""
    desk.handle("a b")
    assert texts(desk.output) == [("out", "a"), ("out", "b")]

    desk.output.listener.acked(2, multiple=False)
    desk.turn()
    assert desk.input.sent == []
    assert desk.dispatcher.handled == 0

    desk.output.listener.acked(1, multiple=False)
    desk.turn()
    assert desk.input.sent == [("ack", 1)]
    assert desk.dispatcher.handled == 1


def test_nothing_is_published_before_work_has_returned(desk: Desk) -> None:
    """It has failed half-way: only the message itself goes, to where it waits."""
    desk.handle("a fail b")

    assert desk.output.published == []
    assert texts(desk.failures) == [("in.retry.1s", "a fail b")]
    assert desk.input.sent == []
    assert (desk.dispatcher.failed, desk.dispatcher.retried) == (1, 0)

    desk.failures.listener.acked(1, multiple=False)
    desk.turn()

    assert desk.input.sent == [("ack", 1)]
    assert (desk.dispatcher.handled, desk.dispatcher.failed) == (0, 1)
    assert (desk.dispatcher.retried, desk.dispatcher.dead_lettered) == (1, 0)


def test_a_dead_letter_is_confirmed_before_the_ack(desk: Desk) -> None:
    """No other attempt: the message is kept, and then acked."""
    desk.handle("reject")
    assert texts(desk.failures) == [("in.dead", "reject")]

    desk.failures.listener.nacked(1, multiple=False)
    desk.turn()
    assert desk.input.sent == []
    assert desk.dispatcher.dead_lettered == 0

    desk.failures.listener.acked(2, multiple=False)
    desk.turn()
    assert desk.input.sent == [("ack", 1)]
    assert (desk.dispatcher.retried, desk.dispatcher.dead_lettered) == (0, 1)


def test_what_the_broker_was_left_to_dead_letter_is_counted_once(desk: Desk) -> None:
    """It was to have another attempt, and is too large to be published again."""
    desk.handle("fail")
    too_large = "PRECONDITION_FAILED - message size 4 is larger than configured max size 3"
    desk.failures.close_by_broker(406, too_large)

    assert desk.input.sent == [("reject", 1)]
    assert (desk.dispatcher.retried, desk.dispatcher.dead_lettered) == (0, 1)


@pytest.mark.parametrize("refuse", ["nack", "return"])
def test_an_output_that_no_queue_has_does_not_count(desk: Desk, refuse: str) -> None:
    """It is published again after a pause, with the same id; its input waits."""
    desk.handle("a b")
    second = desk.output.published[1]
    if refuse == "nack":
        desk.output.listener.nacked(2, multiple=False)
        desk.output.listener.acked(1, multiple=False)
    else:
        desk.output.returns(second)
        desk.output.listener.acked(2, multiple=True)  # the broker confirms what it has returned
    desk.turn()
    assert desk.input.sent == []

    desk.turn()
    assert desk.output.published[2:] == [second]
    desk.output.listener.acked(3, multiple=False)
    desk.turn()
    assert desk.input.sent == [("ack", 1)]


def test_a_lost_publishing_channel_publishes_again(desk: Desk) -> None:
    """A confirm that never came means unknown: the same ids, and no ack before the confirms."""
    desk.handle("a b")
    desk.output.lose()
    desk.turn()
    assert desk.input.sent == []

    desk.output.open()
    assert desk.output.published[2:] == desk.output.published[:2]
    desk.output.listener.acked(2, multiple=True)
    desk.turn()
    assert desk.input.sent == [("ack", 1)]


def test_a_confirm_for_a_delivery_of_an_older_channel_acks_nothing(desk: Desk) -> None:
    """Tags begin anew: the confirm would ack another message. It comes again, with the same ids."""
    desk.handle("a")
    desk.input.lose()
    desk.input.open()
    desk.input.sent.clear()
    desk.handle("another")
    desk.output.listener.acked(1, multiple=False)
    desk.turn()
    assert desk.input.sent == [], "it awaits a confirm of its own"

    desk.handle("a")
    ids = [published.message_id for published in desk.output.published if published.body == "a"]
    assert len(ids) == 2
    assert len(set(ids)) == 1


@pytest.mark.parametrize("refuse", ["nack", "return"])
def test_an_output_that_is_refused_after_its_input_was_lost_is_let_go(
    desk: Desk, refuse: str
) -> None:
    """The input comes again, with all its outputs: published again now, one would be twice."""
    desk.handle("a")
    desk.input.lose()
    if refuse == "return":
        desk.output.returns(desk.output.published[0])
        desk.output.listener.acked(1, multiple=False)
    else:
        desk.output.listener.nacked(1, multiple=False)
    desk.turn()
    desk.turn()

    assert texts(desk.output) == [("out", "a")]
    assert desk.dispatcher.handled == 0


def test_late_confirms_do_not_ack_what_has_failed(desk: Desk) -> None:
    """An output is too large: its input goes to the dead letters, and waits for that confirm."""
    desk.handle("a " + 100 * "b")
    too_large = "PRECONDITION_FAILED - message size 100 is larger than configured max size 50"
    desk.output.close_by_broker(406, too_large)
    desk.output.open()
    assert texts(desk.failures) == [("in.dead", "a " + 100 * "b")]

    again = len(desk.output.published)
    desk.output.listener.acked(again, multiple=True)
    desk.turn()
    assert desk.input.sent == []

    desk.failures.listener.acked(1, multiple=False)
    desk.turn()
    assert desk.input.sent == [("ack", 1)]


def test_what_is_too_large_is_known_from_then_on(desk: Desk) -> None:
    """It is not published any more: its input goes to the dead letters at once, then is acked."""
    too_large = "PRECONDITION_FAILED - message size 100 is larger than configured max size 50"
    desk.handle(100 * "b")
    desk.output.close_by_broker(406, too_large)
    desk.output.open()
    published = len(desk.output.published)

    desk.handle("a " + 200 * "c")
    assert len(desk.output.published) == published
    assert [body for _, body in texts(desk.failures)] == [100 * "b", "a " + 200 * "c"]
    assert desk.input.sent == []

    desk.failures.listener.acked(2, multiple=True)
    desk.turn()
    assert desk.input.sent == [("ack up to", 2)]
    assert desk.dispatcher.in_flight == 0


def test_a_consumer_that_the_broker_cancels_acks_before_it_goes(desk: Desk) -> None:
    """What may be acked is, what is unstarted goes back, and what is under way comes again."""
    desk.handle("a", "b", "c d")
    for confirmed in (1, 2):
        desk.output.listener.acked(confirmed, multiple=False)
        desk.dispatcher.turn()
    assert desk.input.sent == [("ack", 1)], "the next one waits for more"
    desk.input.deliver("unstarted")

    desk.input.listener.consumer_cancelled()
    assert [sent for sent, _ in desk.input.sent] == ["ack", "ack", "requeue", "replace"]
    desk.loop.pass_time()
    assert desk.input.sent[-1][0] == "consume"

    desk.output.listener.acked(4, multiple=True)
    desk.turn()
    assert desk.dispatcher.handled == 2, "the other one comes again"
    acked = [sent for sent in desk.input.sent if "ack" in sent[0]]
    assert acked == [("ack", 1), ("ack", 2)]


@pytest.mark.parametrize("outcome", ["nothing", "an output", "an error"])
def test_what_runs_while_its_channel_is_lost_settles_nothing(outcome: str) -> None:
    """Its tag is another message's by now, which is being handled: that one is acked by its own."""
    may_end = {"old": threading.Event(), "new": threading.Event()}
    begun = threading.Semaphore(0)

    def slow(desk: Desk, text: str) -> None:
        begun.release()
        may_end[text].wait(PATIENCE_SECONDS)
        if outcome == "an output":
            desk.write(text)
        if outcome == "an error":
            raise ValueError(text)

    desk = Desk(slow)
    desk.input.deliver("old")
    desk.turn()
    assert begun.acquire(timeout=PATIENCE_SECONDS)
    desk.input.lose()
    desk.input.open()
    desk.input.sent.clear()
    desk.input.deliver("new")
    desk.turn()

    may_end["old"].set()
    assert begun.acquire(timeout=PATIENCE_SECONDS)

    def is_back() -> bool:
        desk.turn()
        return desk.dispatcher._handlers.busy == 1  # noqa: SLF001 - the new one only

    wait_until(is_back, PATIENCE_SECONDS, "the old one has returned")
    assert (desk.input.sent, desk.output.published, desk.failures.published) == ([], [], [])

    may_end["new"].set()
    desk.settle_work()
    for channel in (desk.output, desk.failures):
        for number in range(len(channel.published)):
            channel.listener.acked(number + 1, multiple=False)
    desk.turn()
    assert desk.input.sent == [("ack", 1)]
    desk.dispatcher.release()


def test_what_is_expected_already_is_not_acked_silently(desk: Desk) -> None:
    """An ack too early would be a fault of ours: it is an error, and no ack."""
    desk.input.deliver("a")
    [delivery] = desk.dispatcher._consumer.take_arrived()  # noqa: SLF001 - as the dispatcher does
    desk.dispatcher._consumer.expect(delivery, 1)  # noqa: SLF001

    with pytest.raises(KeyError):
        desk.dispatcher._consumer.allow_ack(delivery)  # noqa: SLF001
    desk.turn()
    assert desk.input.sent == []


def test_a_halt_gives_back_what_the_broker_does_not_take(desk: Desk) -> None:
    """It publishes nothing now, and nobody knows for how long: the input comes again."""
    desk.publishing.blocked = True
    desk.handle("a")
    assert desk.output.published == []

    for _ in desk.dispatcher.halt():
        desk.turn()

    assert [sent for sent in desk.input.sent if sent[0] == "ack"] == []
    assert [sent for sent in desk.input.sent if "requeue" in sent[0]] != []
    assert desk.dispatcher.in_flight == 0


def test_what_has_timed_out_is_not_published_when_it_returns() -> None:
    """It has failed, and is retried: its outputs are those of the next attempt."""
    may_end = threading.Event()

    def hang(desk: Desk, text: str) -> None:
        may_end.wait(PATIENCE_SECONDS)
        desk.write(text)

    desk = Desk(hang, handler_timeout=0.01)
    desk.input.deliver("late")
    desk.turn()

    def has_timed_out() -> bool:
        desk.dispatcher.tick()
        return desk.dispatcher.end is not None

    wait_until(has_timed_out, PATIENCE_SECONDS, "its time is up")
    assert texts(desk.failures) == [("in.retry.1s", "late")]

    may_end.set()
    desk.settle_work()
    assert desk.output.published == []
    desk.failures.listener.acked(1, multiple=False)
    desk.turn()
    assert desk.input.sent == [("ack", 1)]
    desk.dispatcher.release()


def test_a_halt_requeues_what_is_unstarted_and_waits_for_confirms() -> None:
    """Consume no more, requeue, finish what runs, have it confirmed, ack."""
    may_end = threading.Event()
    begun = threading.Event()

    def slow(desk: Desk, text: str) -> None:
        begun.set()
        may_end.wait(PATIENCE_SECONDS)
        desk.write(text)

    desk = Desk(slow)
    desk.input.deliver("first", "second")
    desk.turn()
    assert begun.wait(PATIENCE_SECONDS)

    halting = desk.dispatcher.halt()
    next(halting)
    desk.turn()
    assert desk.input.sent[0] == ("cancel", None)
    assert ("ack", 1) not in desk.input.sent

    may_end.set()
    desk.settle_work()
    next(halting)
    assert texts(desk.output) == [("out", "first")]
    desk.output.listener.acked(1, multiple=False)
    desk.turn()
    for _ in halting:
        desk.turn()

    assert ("ack", 1) in desk.input.sent
    assert [sent for sent in desk.input.sent if "requeue" in sent[0]]
    assert desk.dispatcher.in_flight == 0


def test_an_error_of_the_broker_s_asks_the_replica_to_halt(desk: Desk) -> None:
    """It is told by the reason, and kept."""
    error = TopologyError("cannot consume 'in': no")
    desk.input.listener.failed(error)

    assert desk.dispatcher.end == (str(error), error)


def test_a_batch_is_acked_as_a_whole_when_work_has_returned() -> None:
    """And not before: whatever ends the process meanwhile, it comes again."""
    may_end, begun = threading.Event(), threading.Event()

    def store(_desk: Desk, _texts: list[str]) -> None:
        begun.set()
        may_end.wait(PATIENCE_SECONDS)

    desk = Desk(store, BatchSize(3, 86400.0))
    desk.input.deliver("a", "b", "c")
    desk.turn()
    assert begun.wait(PATIENCE_SECONDS)
    desk.turn()
    assert desk.input.sent == []

    may_end.set()
    desk.settle_work()
    assert desk.input.sent == [("ack up to", 3)]
    assert desk.dispatcher.handled == 3
    desk.dispatcher.release()


def test_a_batch_that_fails_fails_with_the_bad_message_only() -> None:
    """That one goes where it waits, and is acked when this is confirmed; the others are acked."""
    batches: list[list[str]] = []

    def store(_desk: Desk, texts: list[str]) -> None:
        batches.append(texts)
        if "bad" in texts:
            raise ValueError

    desk = Desk(store, BatchSize(3, 86400.0))
    desk.handle("a", "bad", "c")
    assert batches == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]
    assert texts(desk.failures) == [("in.retry.1s", "bad")]
    assert (desk.dispatcher.handled, desk.dispatcher.failed) == (2, 1)
    assert ("ack", 2) not in desk.input.sent

    desk.failures.listener.acked(1, multiple=False)
    desk.turn()
    assert desk.dispatcher.in_flight == 0
    desk.dispatcher.release()


def test_a_batch_is_handed_over_when_no_more_can_come() -> None:
    """PREFETCH is reached: what would complete it waits for what it waits for."""
    batches: list[list[str]] = []
    desk = Desk(lambda _desk, texts: batches.append(texts), BatchSize(3, 86400.0), prefetch=2)
    desk.input.deliver("a")
    desk.turn()
    assert desk.dispatcher._handlers.busy == 1  # noqa: SLF001
    desk.handle("b")

    assert batches == [["a", "b"]]
    desk.dispatcher.release()


def test_a_pause_finishes_what_runs_and_requeues_the_rest_at_once() -> None:
    """All credit is used up: cancel, then one nack behind the last ack; consume when resumed."""
    may_end, begun = threading.Event(), threading.Event()

    def slow(desk: Desk, text: str) -> None:
        begun.set()
        may_end.wait(PATIENCE_SECONDS)
        desk.write(text)

    desk = Desk(slow, prefetch=3)
    desk.input.deliver("first", "second", "third")
    desk.turn()
    assert begun.wait(PATIENCE_SECONDS)

    desk.dispatcher.pause(alone=False)
    desk.dispatcher.turn()
    assert desk.input.sent == [("cancel", None)]
    assert not desk.dispatcher.is_paused
    may_end.set()
    desk.settle_work()
    desk.output.listener.acked(1, multiple=False)
    desk.turn()

    assert texts(desk.output) == [("out", "first")]
    assert desk.input.sent[1:] == [("requeue", 2), ("requeue", 3), ("ack", 1)]
    assert desk.dispatcher.is_paused
    assert (desk.dispatcher.requeued, desk.dispatcher.failed, desk.dispatcher.handled) == (2, 0, 1)

    desk.dispatcher.resume()
    desk.turn()

    assert desk.input.sent[-1] == ("consume", 3)
    assert desk.dispatcher.is_ready
    desk.dispatcher.release()


def test_what_comes_while_it_pauses_goes_back_behind_what_came_before(desk: Desk) -> None:
    """One nack for all of it, not one for what has just come and then another."""
    desk.dispatcher.pause(alone=False)
    desk.input.deliver("a", "b")
    desk.dispatcher.turn()
    desk.input.deliver("c", "d")
    desk.dispatcher.turn()
    desk.loop.pass_time()

    assert not [sent for sent in desk.input.sent if "requeue" in sent[0]]


def test_nothing_is_consumed_before_it_is_known_whether_to() -> None:
    """A channel that opens meanwhile has no consumer; a halt has nothing to wait for then."""
    desk = Desk(work)
    desk.dispatcher.hold()
    desk.input.lose()
    desk.input.open()
    desk.turn()
    assert desk.input.sent == []
    assert not desk.dispatcher.is_ready

    desk.dispatcher.resume()
    desk.turn()
    assert desk.input.sent == [("consume", 10)]

    desk.dispatcher.pause(alone=False)
    desk.input.lose()
    desk.input.open()
    for _ in desk.dispatcher.halt():
        desk.turn()
    assert [sent for sent in desk.input.sent if sent[0] == "consume"] == [("consume", 10)]
