"""A message's way through a replica that reads an ordered edge, with the broker played by hand."""

import threading
from collections.abc import Callable, Iterator

import pytest

from rabbit.messaging.retry import RetryPolicy
from rabbit.runtime.handler import Handler
from rabbit.runtime.ordered import OrderedDispatcher
from rabbit.runtime.runner import Connections
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection, as_loop, log
from tests.waiting import wait_until

PATIENCE_SECONDS = 30


class Desk:
    """A dispatcher of one partition, with both ends in the test's hands."""

    def __init__(self, work: Callable[["Desk", str], None]) -> None:
        """Be in line; what fails is tried three times."""
        self.loop = ScriptedLoop()
        self.consuming, self.publishing = (ScriptedConnection(self.loop) for _ in range(2))
        edge = Edge("in", "ordered", partitions=1, delays=(1.0, 1.0))
        self.handler = Handler(lambda text: work(self, text), "stage")
        self.dispatcher = OrderedDispatcher(
            Connections(
                as_loop(self.loop), as_connection(self.consuming), as_connection(self.publishing)
            ),
            edge,
            Edge("out"),
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

    def turn(self) -> None:
        """Take a turn, in which acks are due."""
        self.dispatcher.turn()
        self.loop.pass_time()
        self.dispatcher.turn()

    def settle_work(self) -> None:
        """Take turns until no handler is at work."""
        self.turn()
        while self.dispatcher._handlers.busy:  # noqa: SLF001 - what a halt waits for
            assert self.loop.woken.acquire(timeout=PATIENCE_SECONDS)
            self.turn()


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
