"""From one ordered edge to the next while anything happens, in any order: each key keeps its order.

The broker's part is a model of RabbitMQ: what a channel held when it ends comes first again.
"""

import random
from collections import defaultdict, deque
from collections.abc import Callable

import pytest

from rabbit.errors import Reject
from rabbit.messaging.held import DEPTH
from rabbit.messaging.retry import RetryPolicy
from rabbit.runtime.ordered import OrderedDispatcher
from rabbit.runtime.runner import Connections
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.unit.runtime.hands import ByHand, Publishing
from tests.unit.scripted import (
    Published,
    ScriptedConnection,
    ScriptedLoop,
    as_connection,
    as_loop,
    log,
)

#: So many messages there are, and in so many steps anything happens to each replica, at most.
MESSAGES = 40
STEPS = 60

#: A replica without trouble needs far fewer steps to handle all that is left.
ENOUGH_STEPS = 1_000


def outputs_of(text: str) -> list[str]:
    """Return what is written for a message: the same whenever it is handled."""
    return [f"{text}/{number}" for number in range(int(text) % 3)]


class World:
    """One partition and its replicas, one after the other, and all that can happen to them."""

    def __init__(self, seed: int) -> None:
        """Have messages of three keys wait, whose texts are numbers, and a replica in line."""
        self.dice = random.Random(seed)  # noqa: S311 - no secret
        self.is_calm = False
        self.keys = [self.dice.choice("abc") for _ in range(MESSAGES)]
        # What the broker has
        self.ready = deque(f"{number}" for number in range(MESSAGES))
        self.unacked: dict[int, str] = {}  # by tag
        self.stored: defaultdict[str, list[str]] = defaultdict(list)  # by key, as they came first
        self.dead: set[str] = set()
        self.told: set[str] = set()  # what it has confirmed
        self.start()

    def start(self) -> None:
        """Start a replica."""
        self.loop = ScriptedLoop()
        consuming, self.publishing = ScriptedConnection(self.loop), ScriptedConnection(self.loop)
        edge = Edge("in", "ordered", partitions=1, delays=(1.0,))
        self.handler = ByHand(self.work, "stage")
        self.dispatcher = OrderedDispatcher(
            Connections(
                as_loop(self.loop), as_connection(consuming), as_connection(self.publishing)
            ),
            edge,
            Edge("out", "ordered", partitions=1),
            Settings.load(concurrency=self.dice.choice([1, 3])),
            self.handler,
            RetryPolicy(edge, "stage", "replica"),
            log,
        )
        self.census, self.input = consuming.users
        failures, outputs = self.publishing.users
        self.links = [
            Publishing(failures, lambda message: self.dead.add(message.body)),
            Publishing(outputs, self.store_output),
        ]
        self.channels = [self.census, self.input, failures, outputs]
        self.is_consumed = False
        self.input.is_slow = self.dice.random() < 0.5
        self.open()
        self.dispatcher.resume()

    # What a stage does

    def work(self, text: str) -> None:
        """Write the outputs; or fail."""
        if not self.is_calm and self.dice.random() < 0.2:
            raise self.dice.choice([ValueError(), Reject("no")])
        for output in outputs_of(text):
            self.handler.write(output, self.keys[int(text)])

    def finish(self) -> None:
        """Have any handler return; no two of a key run side by side."""
        running = [delivery.routing_key for delivery in self.handler.hands.running]
        assert len(set(running)) == len(running)
        if running:
            self.handler.hands.finish(self.dice.randrange(len(running)))

    # What the broker does

    def store_output(self, message: Published) -> None:
        """Have it in the output queue: not behind one of a later message of its key."""
        stored = self.stored[message.key]
        number = int(message.body.split("/")[0])
        if message.body not in stored:
            is_last = all(int(each.split("/")[0]) <= number for each in stored)
            assert is_last or f"{number}" in self.dead, "it is out of order"
            stored.append(message.body)

    def deliver(self) -> None:
        """Deliver as many as there is credit for, or fewer."""
        self.look()
        most = min(DEPTH - len(self.unacked), len(self.ready), 6)
        if self.is_consumed and self.input.is_open and most > 0:
            for _ in range(self.dice.randint(1, most)):
                text = self.ready.popleft()
                self.unacked[self.input._last_tag + 1] = text  # noqa: SLF001
                self.input.deliver(text, key=self.keys[int(text)])

    def look(self) -> None:
        """Do what was asked for."""
        self.told.update(message.body for link in self.links for message in link.told)
        sent, self.input.sent = self.input.sent, []
        for what, given in sent:
            if what in {"replace", "close"}:
                self.end_of_channel()
            elif what == "consume":
                self.is_consumed = True
            elif what == "forget the consumer":
                self.is_consumed = False
            else:
                assert isinstance(given, int)
                self.take_ack(given, multiple={"ack": False, "ack up to": True}[what])
        self.look_at_links()

    def look_at_links(self) -> None:
        """Take what was published."""
        for link in self.links:
            link.look(self.dice)

    def take_ack(self, last: int, *, multiple: bool) -> None:
        """Take out what is acked: of each, the outputs are confirmed, or its dead letter is."""
        for tag in [each for each in self.unacked if multiple and each < last] + [last]:
            text = self.unacked.pop(tag)
            assert text in self.told or self.told.issuperset(outputs_of(text))

    def end_of_channel(self) -> None:
        """Have back what is not settled, before what is behind it."""
        self.ready.extendleft(reversed(self.unacked.values()))
        self.unacked.clear()
        self.is_consumed = False

    # What happens

    def open(self) -> None:
        """Connect again."""
        for channel in self.channels:
            if channel.is_wanted:
                channel.open()

    def lose_input(self) -> None:
        """Lose the connection that is consumed on, with what was sent last."""
        if self.dice.random() < 0.5:
            self.look()
        self.input.sent.clear()
        self.end_of_channel()
        for channel in (self.census, self.input):
            channel.lose()

    def lose_publishing(self) -> None:
        """Lose the connection that is published on; what is under way there may arrive."""
        for link in self.links:
            link.lose(self.dice)

    def cancel_consumer(self) -> None:
        """Have the broker cancel the consumer."""
        self.look()
        if self.is_consumed and self.input.is_open:
            self.is_consumed = False
            self.input.listener.consumer_cancelled()

    def block(self) -> None:
        """Take nothing that is published."""
        self.publishing.blocked = True

    def unblock(self) -> None:
        """Take it again."""
        self.publishing.blocked = False
        for tell in self.publishing.on_unblocked:
            tell()

    def anything(self) -> None:
        """Have one thing happen."""
        link = self.dice.choice(self.links)
        usual = [
            self.deliver,
            self.finish,
            self.finish,
            lambda: link.tell("confirm", self.dice),
            lambda: link.tell("confirm", self.dice),
            self.loop.pass_time,
            self.dispatcher.tick,
            self.open,
        ]
        trouble: list[Callable[[], object]] = [
            lambda: link.tell("nack", self.dice),
            lambda: link.tell("nack", self.dice),
            self.lose_input,
            self.lose_publishing,
            self.cancel_consumer,
            self.block,
            self.unblock,
            lambda: self.dispatcher.pause(alone=True),
            lambda: self.dispatcher.pause(alone=False),
            self.dispatcher.resume,
            self.dispatcher.resume,
        ]
        self.dice.choice(trouble if self.dice.random() < 0.2 else usual)()

    def steps(self) -> None:
        """Have a few things happen, and a turn, again and again."""
        for _ in range(self.dice.randint(0, STEPS)):
            for _ in range(self.dice.randint(1, 4)):
                self.anything()
                self.look_at_links()
            self.dispatcher.turn()
            if self.dice.random() < 0.9:  # else something else happens while it is under way
                self.look()

    def calm_step(self) -> None:
        """Have nothing but what is usual happen, all of it."""
        self.open()
        self.deliver()
        while self.handler.hands.running:
            self.finish()
        for link in self.links:
            link.look(self.dice)
            while link.unconfirmed:
                link.tell("confirm", self.dice)
                link.look(self.dice)
        self.dispatcher.turn()
        self.look()
        self.loop.pass_time()

    def halt(self) -> None:
        """Have the replica halt; it ends when there is no more trouble, if not before."""
        halting = self.dispatcher.halt()
        troubled = self.dice.randint(0, 20)
        for number in range(ENOUGH_STEPS):
            if next(halting, "ended") == "ended":
                break
            if number < troubled:
                self.anything()
                self.look_at_links()
                self.dispatcher.turn()
            elif number == troubled:
                self.unblock()
            else:
                self.calm_step()
        else:
            pytest.fail("it does not end")
        self.look()
        assert not self.unacked

    def kill(self) -> None:
        """Have the replica end at once; what is under way may arrive."""
        self.look_at_links()
        self.lose_input()
        self.lose_publishing()


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_each_key_keeps_its_order(seed: int) -> None:
    """Replicas halt or are killed, three of them; the fourth handles all that is left."""
    world = World(seed)
    for _ in range(3):
        world.steps()
        world.dice.choice([world.halt, world.halt, world.kill])()
        world.start()
    world.steps()

    world.is_calm = True
    world.unblock()
    world.dispatcher.resume()
    for _ in range(ENOUGH_STEPS):
        world.calm_step()
        if not (world.ready or world.unacked):
            break

    assert (len(world.ready), len(world.unacked)) == (0, 0)
    assert world.dispatcher.in_flight == world.dispatcher.unsettled == 0
    assert [each.pending for each in world.dispatcher.publishers] == [0, 0]
    assert not any(each.is_nacked for each in world.dispatcher.publishers)
