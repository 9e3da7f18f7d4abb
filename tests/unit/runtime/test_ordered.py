"""A message's way through a replica that reads an ordered edge, with the broker played by hand."""

import threading
from collections.abc import Callable, Iterator

import pytest

from rabbit.errors import Reject
from rabbit.messaging.retry import RetryPolicy
from rabbit.runtime.handler import Handler
from rabbit.runtime.ordered import OrderedDispatcher
from rabbit.runtime.runner import Connections
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.unit.runtime.turns import PATIENCE_SECONDS, Turns
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection, as_loop, log
from tests.waiting import wait_until


class Desk(Turns):
    """A dispatcher of one partition, with both ends in the test's hands."""

    def __init__(self, work: Callable[["Desk", str], None], output: Edge | None = None) -> None:
        """Be in line; what fails is tried three times, and outputs go to `output`."""
        self.loop = ScriptedLoop()
        self.consuming, self.publishing = (ScriptedConnection(self.loop) for _ in range(2))
        edge = Edge("in", "ordered", partitions=1, delays=(1.0, 1.0))
        self.handler = Handler(lambda text: work(self, text), "stage")
        self.dispatcher = OrderedDispatcher(
            Connections(
                as_loop(self.loop), as_connection(self.consuming), as_connection(self.publishing)
            ),
            edge,
            output or Edge("out"),
            Settings.load(handler_timeout=0.01),
            self.handler,
            RetryPolicy(edge, "stage", "replica"),
            log,
        )
        _, self.input = self.consuming.users
        self.failures, self.output = self.publishing.users
        for channel in (*self.consuming.users, *self.publishing.users):
            channel.open()
        self.dispatcher.resume()


@pytest.fixture
def writing() -> Iterator[Desk]:
    """Return a dispatcher whose work hands on what it gets."""
    desk = Desk(lambda desk, text: desk.handler.write(text, None))
    yield desk
    desk.dispatcher.release()


@pytest.fixture
def hanging() -> Iterator[Desk]:
    """Return a dispatcher whose work does not end in time."""
    may_end = threading.Event()

    def hang(_desk: Desk, _text: str) -> None:
        may_end.wait(PATIENCE_SECONDS)

    desk = Desk(hang)
    yield desk
    may_end.set()
    desk.dispatcher.release()


@pytest.mark.parametrize(("in_vain", "dead"), [(1, []), (2, ["hangs"])])
def test_what_times_out_each_time_becomes_a_dead_letter(
    hanging: Desk, in_vain: int, dead: list[str]
) -> None:
    """Each time the process ends, and with it our own count: so the broker's is believed."""
    hanging.input.deliver("hangs", key="k", in_vain=in_vain)
    hanging.turn()

    def has_ended() -> bool:
        hanging.dispatcher.tick()
        return hanging.dispatcher.end is not None

    wait_until(has_ended, PATIENCE_SECONDS, "its time is up")

    assert [each.body for each in hanging.failures.published] == dead
    assert [each.exchange for each in hanging.failures.published] == ["in.dead"] * len(dead)


@pytest.mark.parametrize("first", ["consuming", "publishing"])
def test_outputs_of_what_comes_again_are_not_published_again(writing: Desk, first: str) -> None:
    """Another replica has handled it by then, and more: they would come behind that."""
    writing.input.deliver("a", key="k")
    writing.settle_work()
    assert len(writing.output.published) == 1

    channels = [writing.input, writing.output]
    for channel in channels if first == "consuming" else channels[::-1]:
        channel.lose()
    writing.output.open()
    writing.turn()

    assert len(writing.output.published) == 1


def test_a_confirm_for_a_delivery_of_an_older_channel_acks_nothing(writing: Desk) -> None:
    """Tags begin anew: it would ack another message."""
    writing.input.deliver("a", key="k")
    writing.settle_work()
    writing.input.lose()
    writing.input.open()
    writing.input.deliver("a", key="k", in_vain=1)

    writing.settle_work()
    assert [each.body for each in writing.output.published] == ["a", "a"]

    writing.output.listener.acked(1, multiple=False)
    writing.turn()
    assert [sent for sent, _ in writing.input.sent if "ack" in sent] == []

    writing.output.listener.acked(2, multiple=False)
    writing.turn()
    assert [sent for sent in writing.input.sent if "ack" in sent[0]] == [("ack", 1)]


def test_a_key_waits_for_its_handler_though_the_channel_is_lost() -> None:
    """What comes again begins when the handler that has it already has returned."""
    may_end, begun = threading.Event(), threading.Semaphore(0)

    def slow(desk: Desk, text: str) -> None:
        begun.release()
        assert may_end.wait(PATIENCE_SECONDS)
        desk.handler.write(text, None)

    desk = Desk(slow)
    desk.input.deliver("a", key="k")
    desk.turn()
    assert begun.acquire(timeout=PATIENCE_SECONDS)
    desk.input.lose()
    desk.input.open()
    desk.input.deliver("a", key="k", in_vain=1)
    desk.turn()
    assert not begun.acquire(blocking=False)
    assert desk.dispatcher._handlers.busy == 1  # noqa: SLF001 - the one that began before

    may_end.set()
    desk.settle_work()
    desk.turn()
    desk.settle_work()
    assert begun.acquire(blocking=False)
    assert [each.body for each in desk.output.published] == ["a"], "the first is void"
    desk.dispatcher.release()


def test_a_dead_letter_is_confirmed_before_the_ack() -> None:
    """The key goes on when it is kept; it is acked then, and not before."""

    def reject(_desk: Desk, text: str) -> None:
        raise Reject(text)

    desk = Desk(reject)
    desk.input.deliver("a", key="k")
    desk.settle_work()
    assert [each.exchange for each in desk.failures.published] == ["in.dead"]
    desk.turn()
    assert [sent for sent, _ in desk.input.sent if "ack" in sent] == []

    desk.failures.listener.acked(1, multiple=False)
    desk.turn()
    assert [sent for sent in desk.input.sent if "ack" in sent[0]] == [("ack", 1)]
    desk.dispatcher.release()


def test_outputs_keep_their_order_though_work_goes_ahead() -> None:
    """On an ordered edge the second one of a key is published when a queue has the first."""
    output = Edge("out", "ordered", partitions=1)
    desk = Desk(lambda desk, text: desk.handler.write(text, "k"), output)
    desk.input.deliver("a", "b", key="k")
    desk.settle_work()
    desk.turn()
    desk.settle_work()
    before = [each.body for each in desk.output.published]

    desk.output.listener.nacked(1, multiple=False)
    desk.turn()
    desk.output.listener.acked(2, multiple=False)
    desk.turn()

    assert before == ["a"]
    assert [each.body for each in desk.output.published] == ["a", "a", "b"]
    assert ("ack", 1) in desk.input.sent
    desk.dispatcher.release()


@pytest.mark.parametrize("trouble", ["nack", "alarm"])
@pytest.mark.parametrize("why", ["halt", "pause"])
def test_outputs_do_not_come_before_those_that_a_halt_or_a_pause_gives_up(
    trouble: str, why: str
) -> None:
    """What is behind it in its key comes again with it; else the next in line would be too late."""
    may_end, begun = threading.Event(), threading.Semaphore(0)

    def work(desk: Desk, text: str) -> None:
        begun.release()
        assert text == "a1" or may_end.wait(PATIENCE_SECONDS)
        desk.handler.write(text, "k")

    desk = Desk(work, Edge("out", "ordered", partitions=1))
    desk.publishing.blocked = trouble == "alarm"
    desk.input.deliver("a1", "a2", key="k")

    def runs() -> bool:
        desk.dispatcher.turn()
        return begun.acquire(blocking=False)

    for text in ("a1", "a2"):
        wait_until(runs, PATIENCE_SECONDS, f"{text} runs")
    if trouble == "nack":
        desk.output.listener.nacked(1, multiple=False)
    if why == "halt":
        next(desk.dispatcher.halt())
    else:
        desk.dispatcher.pause(alone=True)
    desk.dispatcher.turn()

    desk.publishing.blocked = False
    before = [each.body for each in desk.output.published]
    may_end.set()
    desk.settle_work()

    assert before == (["a1"] if trouble == "nack" else [])
    assert [each.body for each in desk.output.published] == before
    assert [sent for sent, _ in desk.input.sent if "ack" in sent] == []
    assert desk.input.sent[-1] == (("close" if why == "halt" else "replace"), None)
    desk.dispatcher.release()


def test_a_key_is_handled_again_though_its_dead_letter_was_stuck_at_a_pause() -> None:
    """It comes again to the same replica, once that is resumed and the alarm is over."""

    def reject(_desk: Desk, text: str) -> None:
        raise Reject(text)

    desk = Desk(reject)
    desk.publishing.blocked = True
    desk.input.deliver("a", key="k")
    desk.settle_work()
    desk.dispatcher.pause(alone=True)
    desk.turn()
    assert desk.dispatcher.is_paused

    desk.publishing.blocked = False
    desk.dispatcher.resume()
    desk.input.deliver("a", key="k", in_vain=1)
    desk.settle_work()

    assert [each.body for each in desk.failures.published] == ["a"]
    desk.dispatcher.release()


def test_who_is_paused_alone_lets_go_of_what_the_broker_does_not_take(writing: Desk) -> None:
    """Its partition is another's then, who handles it anew; a stage that is paused waits."""
    writing.input.deliver("a", key="k")
    writing.settle_work()
    writing.publishing.blocked = True

    writing.dispatcher.pause(alone=False)
    writing.turn()
    assert not writing.dispatcher.is_paused

    writing.dispatcher.pause(alone=True)
    writing.turn()
    assert writing.dispatcher.is_paused
    assert writing.dispatcher.in_flight == 0
    assert ("ack", 1) not in writing.input.sent
