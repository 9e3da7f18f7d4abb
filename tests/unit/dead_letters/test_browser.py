"""When a queue has been gone through, and when it only looks so; the test is the broker."""

from collections.abc import Iterator

import pytest

from rabbit.dead_letters.browser import AGAIN_SECONDS, IDLE_SECONDS, Found, QueueBrowser
from rabbit.errors import BrokerUnavailableError
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection

QUEUE = "one.dead"
PATIENCE_SECONDS = 60.0


class Look:
    """A browser that keeps all it sees, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be connected."""
        self.now = 1000.0
        monkeypatch.setattr("rabbit.dead_letters.browser.monotonic", lambda: self.now)
        self.loop = ScriptedLoop()
        self.connection = ScriptedConnection(self.loop)
        self.browser = QueueBrowser(
            as_connection(self.connection),
            QUEUE,
            self._keep,
            lambda *_: None,
            patience_seconds=PATIENCE_SECONDS,
        )
        [self.asking] = self.connection.users
        self._steps: Iterator[None] = self.browser.run()

    def _keep(self, found: Found) -> None:
        self.browser.keep(found)

    def begin(self, ready: int) -> None:
        """Have so many messages be counted."""
        self.asking.ready[QUEUE] = ready
        self.asking.open()
        self.turn()

    def turn(self, seconds: float = 0.0) -> bool:
        """Have time pass, and a turn of the loop; return whether it goes on."""
        self.now += seconds
        return next(self._steps, "over") is None

    def answers(self, ready: int, consumers: int) -> None:
        """Have the queue say so from now on."""
        for channel in self.connection.users:
            channel.ready[QUEUE], channel.consumers[QUEUE] = ready, consumers

    def deliver(self, *bodies: str) -> None:
        """Bring messages."""
        self.connection.users[1].deliver(*bodies)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Return a browser that has not begun."""
    return Look(monkeypatch)


def test_a_count_of_nothing_is_not_believed_at_once(look: Look) -> None:
    """So says RabbitMQ of a quorum queue whose leader is away: basic.get knows better."""
    look.asking.to_get[QUEUE] = [(1, "", b"\0\0", b"a", False)]
    look.begin(0)
    assert look.browser.total is None
    assert ("requeue", 1) in look.asking.sent

    look.answers(ready=1, consumers=0)
    look.loop.pass_time()

    assert look.browser.total == 1


def test_an_empty_queue_is_empty(look: Look) -> None:
    """Counted, and nothing to get."""
    look.begin(0)

    assert look.browser.total == 0
    assert not look.turn()
    assert look.browser.error is None


def test_who_has_seen_all_is_through(look: Look) -> None:
    """At once."""
    look.begin(2)
    look.deliver("a", "b")
    look.turn()

    assert look.browser.seen == look.browser.total == 2
    assert look.browser.error is None


@pytest.mark.parametrize(("ready", "consumers"), [(2, 1), (0, 0)])
def test_what_does_not_come_is_waited_for_and_then_told(
    look: Look, ready: int, consumers: int
) -> None:
    """It is there, or the queue does not know our consumer, whom it has: then it knows nothing."""
    look.begin(3)
    look.deliver("a")
    look.turn()
    look.answers(ready, consumers)

    for _ in range(int(PATIENCE_SECONDS / IDLE_SECONDS)):
        assert look.turn(IDLE_SECONDS)
        assert look.browser.error is None
    look.turn(IDLE_SECONDS)

    assert isinstance(look.browser.error, BrokerUnavailableError)
    assert "2 of 3 messages of 'one.dead' were not seen" in str(look.browser.error)


def test_what_somebody_else_has_taken_is_not_waited_for(look: Look) -> None:
    """The queue says twice that it has nothing, and that it has our consumer."""
    look.begin(3)
    look.deliver("a")
    look.turn()
    look.answers(ready=0, consumers=1)

    look.turn(IDLE_SECONDS + AGAIN_SECONDS)
    assert ("cancel", None) not in look.connection.users[1].sent
    look.deliver("b")  # was on its way before the first answer
    look.turn()
    look.turn(IDLE_SECONDS + AGAIN_SECONDS)
    assert look.browser.seen == 2
    look.turn(2 * AGAIN_SECONDS)
    look.loop.pass_time()  # the consumer is cancelled
    look.answers(ready=2, consumers=0)
    while look.turn():
        pass

    assert look.browser.error is None
    assert look.browser.seen == 2
