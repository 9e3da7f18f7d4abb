"""A dispatcher while anything happens, in any order: what holds of each delivery, whatever it is.

The broker's part is a model of RabbitMQ: it knows what it has in which queue, and what it has told.
"""

import random
from collections import Counter, deque
from collections.abc import Callable

import pytest

from rabbit.errors import Reject, Retry
from rabbit.messaging.retry import RetryPolicy
from rabbit.runtime.dispatcher import Dispatcher
from rabbit.runtime.runner import Connections
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.unit.runtime.hands import LIMIT, ByHand, Publishing
from tests.unit.scripted import (
    Published,
    ScriptedConnection,
    ScriptedLoop,
    as_connection,
    as_loop,
    log,
)

#: So many messages there are, and steps in which anything happens to them.
MESSAGES = 40
STEPS = 250

#: A replica without trouble needs far fewer steps to handle all that is left.
ENOUGH_STEPS = 5_000


class World:
    """A dispatcher, and all that can happen to it."""

    def __init__(self, seed: int) -> None:
        """Have messages wait in the queue, and be registered."""
        self.dice = dice = random.Random(seed)  # noqa: S311 - no secret
        self.texts = [f"m{number}".ljust(dice.choice([4, 4, 4, 60])) for number in range(MESSAGES)]
        self.is_calm = False
        # What the broker has
        self.ready = deque(self.texts)
        self.unacked: dict[int, str] = {}
        self.depth = 0  # of the consumer; 0: there is none
        self.stored: set[str] = set()
        self.dead: set[str] = set()
        self.generation = 0  # of the channel that was delivered on last
        # What has been done
        self.calls: Counter[str] = Counter()
        self.last_call: dict[str, list[str] | None] = {}  # its outputs; None: it has failed
        self.good_calls: dict[str, list[list[str]]] = {text: [] for text in self.texts}
        self.allowed: set[str] = set()  # outputs of calls that have not failed
        self.handled: dict[tuple[int, int], list[str] | None] = {}  # by generation and tag
        self.copies_before: dict[int, int] = {}  # those told, by tag

        self.loop = ScriptedLoop()
        consuming, self.publishing = ScriptedConnection(self.loop), ScriptedConnection(self.loop)
        edge = Edge("in", delays=(1.0,))
        self.handler = ByHand(self.work, "stage")
        self.dispatcher = Dispatcher(
            Connections(
                as_loop(self.loop), as_connection(consuming), as_connection(self.publishing)
            ),
            edge,
            Edge("out"),
            Settings.load(prefetch=dice.choice(["auto", 1, 10]), concurrency=dice.choice([1, 3])),
            self.handler,
            RetryPolicy(edge, "stage", "replica"),
            log,
        )
        [self.input] = consuming.users
        failures, outputs = self.publishing.users
        self.failures = Publishing(failures, self.store_failure)
        self.outputs = Publishing(outputs, self.store_output)
        self.links = [self.outputs, self.failures]
        self.channels = [self.input, failures, outputs]

    # What a stage does

    def work(self, text: str) -> None:
        """Write a few outputs, some of them too large; then fail, or not."""
        self.calls[text] += 1
        sizes = [self.dice.choice([1, 1, 1, 1, 1, 60]) for _ in range(self.dice.choice([0, 1, 3]))]
        outputs = [
            f"{text.strip()}/{self.calls[text]}/{number} ".ljust(size)
            for number, size in enumerate(sizes)
        ]
        for output in outputs:
            self.handler.write(output, None)
        self.last_call[text] = None
        if not self.is_calm and self.dice.random() < 0.3:
            raise self.dice.choice([ValueError(), Reject("no"), Retry(after=1)])
        self.last_call[text] = outputs
        self.good_calls[text].append(outputs)
        self.allowed.update(outputs)

    def finish(self) -> None:
        """Have any handler return."""
        hands = self.handler.hands
        if hands.running:
            number = self.dice.randrange(len(hands.running))
            delivery = hands.running[number]
            hands.finish(number)
            outputs = self.last_call[delivery.body.decode()]
            self.handled[delivery.generation, delivery.tag] = outputs

    # What the broker does with what is published

    def store_output(self, message: Published) -> None:
        """Have it in the output queue."""
        assert message.body in self.allowed, "its handler has failed, or has not returned"
        self.stored.add(message.body)

    def store_failure(self, message: Published) -> None:
        """Have it where it waits, from where it comes again, or as a dead letter."""
        calls = self.good_calls[message.body]
        is_meant = len(calls) < self.calls[message.body] or any(
            len(output) > LIMIT for outputs in calls for output in outputs
        )
        assert is_meant, "no handler has failed with it"
        if message.exchange == "in.dead":
            self.dead.add(message.body)
        else:
            self.ready.append(message.body)

    # What the broker does with its deliveries

    def deliver(self) -> None:
        """Deliver as many as there is credit for, or fewer."""
        room = min(self.depth - len(self.unacked), len(self.ready)) if self.input.is_open else 0
        if room <= 0:
            return
        bodies = [self.ready.popleft() for _ in range(self.dice.randint(1, room))]
        first = self.input._last_tag + 1  # noqa: SLF001
        for tag, body in enumerate(bodies, first):
            self.unacked[tag] = body
            self.copies_before[tag] = len(self.failures.told)
        self.generation = self.dispatcher._consumer.generation  # type: ignore[attr-defined]  # noqa: SLF001
        self.input.deliver(*bodies)

    def look(self, *, is_lost: bool = False) -> None:
        """Do what was asked for; `is_lost`: it has not arrived, so only see that it was right."""
        sent, self.input.sent = self.input.sent, []
        before = dict(self.unacked)
        for what, given in sent:
            if what in {"replace", "close"}:
                if what == "close":
                    assert not self.unacked, "what is held by a channel that closes is a failure"
                self.end_of_channel()
            elif what == "consume":
                assert not self.depth
                assert isinstance(given, int)
                self.depth = given
            elif what == "cancel":
                self.depth = 0
            else:
                assert isinstance(given, int)
                self.settle(what, given)
        if is_lost:
            self.unacked = before
            self.end_of_channel()
        for link in self.links:
            link.look(self.dice)

    def settle(self, what: str, last: int) -> None:
        """Take out what an ack, nack or reject is about: each delivery once."""
        assert last in self.unacked, f"{what} of a delivery that is not there, or not any more"
        tags = [tag for tag in self.unacked if tag <= last] if "up to" in what else [last]
        for tag in tags:
            body = self.unacked.pop(tag)
            if what.startswith("requeue"):
                self.ready.appendleft(body)
            elif what == "reject":
                assert self.handled[self.generation, tag] is None or len(body) > LIMIT
                self.dead.add(body)
            else:
                assert what in {"ack", "ack up to"}
                self.check_ack(tag, body)

    def check_ack(self, tag: int, body: str) -> None:
        """See that the broker has confirmed what has become of an input."""
        copies = [message.body for message in self.failures.told[self.copies_before[tag] :]]
        if body in copies:
            return
        outputs = self.handled[self.generation, tag]
        assert outputs is not None, "its handler has failed, and it is nowhere else"
        missing = set(outputs) - {message.body for message in self.outputs.told}
        assert not missing, "an output is not confirmed"

    def end_of_channel(self) -> None:
        """Have back what is not settled."""
        self.ready.extendleft(self.unacked.values())
        self.unacked.clear()
        self.depth = 0

    # What happens

    def lose_input(self) -> None:
        """Lose the channel that is consumed on, with what was sent last."""
        if self.input.is_open:
            self.look(is_lost=self.dice.random() < 0.5)
            self.end_of_channel()
            self.input.lose()

    def lose_publishing(self) -> None:
        """Lose the connection that is published on."""
        for link in self.links:
            link.lose(self.dice)

    def open(self) -> None:
        """Connect again."""
        for channel in self.channels:
            if channel.is_wanted:
                channel.open()

    def cancel_consumer(self) -> None:
        """Have the broker cancel the consumer."""
        if self.depth and self.input.is_open:
            self.depth = 0
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
            lambda: link.tell("return", self.dice),
            lambda: link.lose(self.dice),
            self.lose_publishing,
            self.lose_input,
            self.cancel_consumer,
            self.block,
            self.unblock,
            lambda: self.dispatcher.pause(alone=False),
            self.dispatcher.resume,
        ]
        self.dice.choice(trouble if self.dice.random() < 0.15 else usual)()

    def step(self) -> None:
        """Have a few things happen, and a turn."""
        for _ in range(self.dice.randint(1, 4)):
            self.anything()
            for link in self.links:
                link.look(self.dice)
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

    def calm_down(self) -> None:
        """Have no more trouble."""
        self.is_calm = True
        self.look()
        self.unblock()

    def check_end(self) -> None:
        """See that nothing is held, and no message is lost."""
        assert self.dispatcher.end is None
        assert self.unacked == {}
        assert self.dispatcher.in_flight == self.dispatcher.unsettled == 0
        assert self.handler.hands.busy == 0
        assert [each.pending for each in self.dispatcher.publishers] == [0, 0]
        assert not any(each.is_nacked for each in self.dispatcher.publishers)
        self.check_none_is_lost()

    def check_none_is_lost(self) -> None:
        """See that each message is handled, with all its outputs, or kept, or in its queue."""
        for text in self.texts:
            is_handled = any(self.stored.issuperset(outputs) for outputs in self.good_calls[text])
            assert is_handled or text in self.dead or text in self.ready, "it is lost"


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_each_is_settled_once_and_acked_only_when_all_is_confirmed(
    seed: int,
) -> None:
    """Then there is no more trouble, and all is handled; nothing is held."""
    world = World(seed)
    world.open()
    for _ in range(STEPS):
        world.step()

    world.calm_down()
    world.dispatcher.resume()
    for _ in range(ENOUGH_STEPS):
        world.calm_step()
        if not (world.ready or world.unacked):
            break

    world.check_end()
    assert not world.ready


@pytest.mark.parametrize("seed", range(60))
def test_a_halt_amid_anything_settles_or_requeues_each(seed: int) -> None:
    """It ends when there is no more trouble, if not before; its channel closes, nothing held."""
    world = World(seed)
    world.open()
    for _ in range(world.dice.randint(0, STEPS)):
        world.step()

    halting = world.dispatcher.halt()
    has_ended = False
    for number in range(ENOUGH_STEPS):
        has_ended = next(halting, "ended") == "ended"
        if has_ended:
            break
        if number < 20:
            world.step()
        elif number == 20:
            world.calm_down()
        else:
            world.calm_step()

    assert has_ended
    world.look()
    assert world.input.is_lost
    world.calm_down()
    world.calm_step()
    world.check_end()


@pytest.mark.parametrize("seed", range(20))
def test_who_gives_up_on_a_halt_requeues_each(seed: int) -> None:
    """DRAIN_TIMEOUT has passed: what may be acked is, and the rest is there for others."""
    world = World(seed)
    world.open()
    for _ in range(world.dice.randint(0, STEPS)):
        world.step()
    halting = world.dispatcher.halt()
    for _ in range(world.dice.randint(1, 5)):
        next(halting, None)
        world.step()
    world.look()

    world.dispatcher.let_go()
    world.look()

    assert world.unacked == {}
    world.check_none_is_lost()
