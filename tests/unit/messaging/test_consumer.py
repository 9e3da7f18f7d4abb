"""A consumer that chooses its own prefetch, between a queue by hand and a handler by hand."""

import random
from collections import deque

import pytest

from rabbit.messaging.consumer import QueueConsumer
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.prefetch import AutoPrefetch
from rabbit.topology import Edge
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection

#: So many bytes are held at most, and one message beyond them.
MOST_BYTES = 100


class Desk:
    """A consumer, its queue, and what it has given out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
        """Have the messages wait in the queue, and be registered."""
        self.now = 0.0
        monkeypatch.setattr("rabbit.messaging.consumer.monotonic", lambda: self.now)
        self.ready = deque(texts)
        self.returned: deque[str] = deque()  # comes first; what goes back goes behind it
        self.unacked: dict[int, str] = {}
        self.acked: list[str] = []
        self.handled: list[str] = []
        self.held: list[Delivery] = []
        self.prefetch = AutoPrefetch()
        self.prefetch.most_bytes = MOST_BYTES
        self.depth = 0  # of the consumer that is registered; 0: there is none
        self._last_tag = 0
        self._loop = ScriptedLoop()
        connection = ScriptedConnection(self._loop)
        self.consumer = QueueConsumer(
            as_connection(connection),
            Edge("in"),
            self.prefetch,
            requeue_unstarted=self.requeue_unstarted,
            on_lost=self.held.clear,
            on_failed=lambda error: pytest.fail(str(error)),
        )
        [self.channel] = connection.users
        self.channel.open()

    def requeue_unstarted(self) -> None:
        """Give back what is not being handled; nothing is, between two calls."""
        for delivery in [*self.held, *self.consumer.take_arrived()]:
            self.consumer.requeue(delivery)
        self.held.clear()

    def broker(self, most: int = 1_000) -> None:
        """Do what has been asked for; deliver as many as there is credit for, `most` of them."""
        for what, given in self.channel.sent:
            self._told(what, given)
        self.channel.sent.clear()
        waiting = len(self.returned) + len(self.ready)
        coming = min(most, self.depth - len(self.unacked), waiting) if self.depth else 0
        bodies = [(self.returned or self.ready).popleft() for _ in range(coming)]
        for body in bodies:
            self._last_tag += 1
            self.unacked[self._last_tag] = body
        if bodies:
            self.channel.deliver(*bodies)
        self.held += self.consumer.take_arrived()

    def _told(self, what: str, given: object) -> None:
        if what == "consume":
            assert not self.depth, "two consumers would be given messages out of order"
            assert isinstance(given, int)
            self.depth = given
        elif what == "cancel":
            self.depth = 0
        else:
            assert isinstance(given, int)
            tags = [given]
            if what.endswith("up to"):
                tags = [tag for tag in self.unacked if tag <= given]
            settled = [self.unacked.pop(tag) for tag in tags]
            if what.startswith("ack"):
                self.acked += settled
            else:
                self.returned += settled

    def handle(self, seconds: float = 0.0) -> None:
        """Have the oldest one handled, in so much time."""
        delivery = self.held.pop(0)
        self.handled.append(delivery.body.decode())
        self.prefetch.handled(seconds, 1, len(delivery.body))
        self.now += seconds
        assert self.consumer.allow_ack(delivery)

    def lose(self) -> None:
        """Lose the channel, with all that was sent since the broker looked; it is opened again."""
        self.channel.sent.clear()
        self.depth = 0
        self.returned += self.unacked.values()
        self.unacked.clear()
        self.channel.lose()
        self._last_tag = 0
        self.channel.open()

    def turn(self, running: float = 0.0) -> None:
        """End a turn, and let some time pass; a handler has been at its message for so long."""
        self.prefetch.running(running, len(self.held))
        self.consumer.send_settlements()
        self.now += 0.05
        self._loop.pass_time()


def test_what_is_too_much_goes_back_and_no_ack_brings_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three there is room for two. Only when the consumer has been cancelled, acks are sent."""
    monkeypatch.setattr(AutoPrefetch, "wanted", lambda _: 10)
    desk = Desk(monkeypatch, [letter * 60 for letter in "abc"])
    desk.broker()
    assert [delivery.body[:1] for delivery in desk.held] == [b"a", b"b"]

    desk.handle()
    desk.turn()
    assert desk.channel.sent == [], "more may be under way"

    for _ in range(9):
        desk.turn()
    assert [what for what, _ in desk.channel.sent] == ["cancel", "ack", "requeue"]
    while len(desk.handled) < 3:
        desk.broker()
        if desk.held:
            desk.handle()
        desk.turn()
    assert [text[0] for text in desk.handled] == ["a", "b", "c"]


@pytest.mark.parametrize("losses", [0.0, 0.02], ids=["kept", "lost"])
@pytest.mark.parametrize("pauses", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_each_is_acked_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch, seed: int, pauses: float, losses: float
) -> None:
    """Sizes, times, pauses, lost channels at random: none is lost, and none acked twice.

    Without a lost channel none is handled twice; without a pause either, in order.
    """
    dice = random.Random(seed)  # noqa: S311 - no secret
    texts = [f"{number} ".ljust(dice.choice([4, 4, 30, 90])) for number in range(200)]
    desk = Desk(monkeypatch, texts)
    desk.channel.is_slow = seed % 2 == 1
    pace = dice.choice([0.0, 0.001, 0.05])
    for _ in range(20_000):
        desk.broker(dice.randint(0, 30))
        for _ in range(dice.randint(0, 5)):
            if desk.held:
                desk.handle(dice.choice([pace, pace, pace, 1.5]))
        if dice.random() < pauses:
            desk.consumer.pause()
        elif dice.random() < 0.2:
            desk.consumer.resume()
        if dice.random() < losses:
            desk.lose()
        desk.turn(running=dice.choice([0.0, 0.0, 0.0, 1.5]))
        assert not (desk.consumer.is_paused and desk.consumer.outstanding)
        if len(desk.acked) == len(texts):
            break

    assert sorted(desk.acked) == sorted(texts)
    if not losses:
        assert sorted(desk.handled) == sorted(texts)
    assert desk.handled == texts or pauses or losses
    assert not desk.unacked
    assert desk.consumer.outstanding == 0


def test_a_consumer_that_is_cancelled_on_its_way_is_cancelled_once_it_is_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is nothing to cancel before; what comes meanwhile goes back."""
    desk = Desk(monkeypatch, [])
    desk.channel.is_slow = True
    desk.lose()
    desk.consumer.cancel()
    assert [what for what, _ in desk.channel.sent] == ["consume"]

    desk.channel.deliver("a")
    desk.turn()
    assert [what for what, _ in desk.channel.sent] == ["consume", "requeue up to", "cancel"]
    assert not desk.consumer.is_cancelled

    desk.turn()
    assert desk.consumer.is_cancelled
    assert desk.consumer.take_arrived() == []


def test_a_cancel_of_the_broker_s_that_meets_a_pause_settles_what_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits no more for the cancel of its own: the channel is left at once."""
    monkeypatch.setattr(AutoPrefetch, "wanted", lambda _: 10)
    desk = Desk(monkeypatch, ["a", "b"])
    desk.broker()
    desk.handle()
    desk.consumer.pause()
    while ("cancel", None) not in desk.channel.sent:
        desk.consumer.send_settlements()
        desk.now += 0.05
    desk.channel.sent.clear()

    desk.channel.listener.consumer_cancelled()

    assert [what for what, _ in desk.channel.sent] == ["ack", "requeue up to", "replace"]


def test_it_rests_once_what_runs_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits goes back before; only with nothing held it is said to have paused."""
    monkeypatch.setattr(AutoPrefetch, "wanted", lambda _: 10)
    desk = Desk(monkeypatch, ["a", "b"])
    desk.broker()
    running = desk.held.pop(0)

    desk.consumer.pause()
    for _ in range(20):
        desk.turn()
        desk.broker()
    assert (list(desk.returned), desk.consumer.is_paused) == (["b"], False)

    assert desk.consumer.allow_ack(running)
    for _ in range(2):
        desk.turn()
        desk.broker()
    assert (desk.acked, desk.consumer.is_paused) == (["a"], True)


def test_what_was_too_much_goes_back_behind_what_has_not_been_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pause finds both: RabbitMQ would put what goes back later behind."""
    monkeypatch.setattr(AutoPrefetch, "wanted", lambda _: 10)
    texts = [letter * 60 for letter in "abcde"]
    desk = Desk(monkeypatch, texts)
    desk.broker()
    assert len(desk.held) == 2, "there is room for so many"

    desk.consumer.pause()
    for _ in range(20):
        desk.turn()
        desk.broker()

    assert desk.consumer.is_paused
    assert list(desk.returned) == texts
