"""What is held of a partition: any interleaving of what comes, is handled, confirmed and lost."""

from collections import defaultdict

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rabbit.amqp.pika_types import Properties, encode_properties
from rabbit.messaging.held import HeldDeliveries, KeyedDelivery, Room

PROPERTIES = encode_properties(Properties())  # type: ignore[no-untyped-call]
MOST_BYTES = 1000
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *3 * ["deliver", "start"],
                *("return", "confirm", "fail", "retry", "ack", "stick", "lose"),
            ]
        ),
        st.integers(0, 9),
    ),
    max_size=60,
)

#: The second of a key returns when the first one has been given up.
ONE_IS_STUCK = [
    *2 * [("deliver", 1)],
    *[("start", 0), ("return", 1), ("start", 0), ("stick", 0), ("return", 1), ("ack", 0)],
]


class Acks:
    """What a channel is told of a partition's deliveries.

    Attributes:
        tags: those that are acked.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.tags: set[int] = set()

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Note one, or all up to it."""
        self.tags.update(range(1, tag + 1) if multiple else [tag])

    def requeue(self, tag: int, *, multiple: bool = False) -> None:
        """Nothing goes back but with the channel."""
        raise AssertionError(tag, multiple)


class Replica:
    """Holds one partition; notes what a broker and a user would see."""

    def __init__(self) -> None:
        """Hold nothing."""
        self.room = Room(MOST_BYTES)
        self.held = HeldDeliveries(0, self.room)
        self.running: list[KeyedDelivery] = []
        self.failed: list[KeyedDelivery] = []
        self.unconfirmed: list[KeyedDelivery] = []  # once for each output
        self.void: list[KeyedDelivery] = []  # with a handler when their channel was lost
        self.begin()

    def begin(self) -> None:
        """Have a new channel: all that was not acked comes again."""
        self.count = 0
        self.done: defaultdict[str, list[int]] = defaultdict(list)  # tags, by key, as they returned
        self.delivered: defaultdict[str, list[int]] = defaultdict(list)
        self.stuck: set[str] = set()  # keys
        self.let_go: set[int] = set()  # tags of what comes again with the channel
        self.is_given_away = False  # so does what has not been started
        self.channel = Acks()

    def deliver(self, choice: int) -> None:
        """Be given a message of one of three keys."""
        self.count += 1
        key = "abc"[choice % 3]
        if not self.is_given_away:
            self.delivered[key].append(self.count)
        self.held.receive([(self.count, key, PROPERTIES, b"body", False)])

    def start(self, _: int) -> None:
        """Give handlers what may be: the next of each key, and nothing beside it."""
        for delivery in self.held.take():
            key = delivery.routing_key
            busy = [*self.running, *self.failed, *self.void]
            assert key not in {each.routing_key for each in busy}
            assert delivery.tag == self.delivered[key][len(self.done[key])]
            self.running.append(delivery)

    def return_(self, choice: int) -> None:
        """Have a handler return, with up to two outputs."""
        delivery = self.ended(choice)
        if delivery is not None:
            self.expect(delivery, choice % 3)

    def expect(self, delivery: KeyedDelivery, outputs: int) -> None:
        """Take the outputs, unless they would come before others of the key that are to come."""
        is_taken = self.held.expect(delivery, outputs)
        assert is_taken is (delivery.routing_key not in self.stuck or not outputs)
        self.done[delivery.routing_key].append(delivery.tag)
        if is_taken:
            self.unconfirmed += outputs * [delivery]
        else:
            self.let_go.add(delivery.tag)

    def fail(self, choice: int) -> None:
        """Have a handler fail: its message waits for another attempt."""
        delivery = self.ended(choice)
        if delivery is not None:
            self.held.wait_for_retry(delivery)
            self.failed.append(delivery)

    def ended(self, choice: int) -> KeyedDelivery | None:
        """Have a handler end; of what is void, nothing more comes."""
        several = self.void or self.running
        if not several:
            return None
        delivery = several.pop(choice % len(several))
        self.held.handler_ended(delivery)
        return delivery if self.held.is_current(delivery) else None

    def retry(self, choice: int) -> None:
        """Have one that has failed try again."""
        if self.failed:
            self.held.put_back(self.failed.pop(choice % len(self.failed)))

    def confirm(self, choice: int) -> None:
        """Have an output be confirmed, in any order."""
        if self.unconfirmed:
            delivery = self.unconfirmed.pop(choice % len(self.unconfirmed))
            is_last = delivery not in self.unconfirmed
            assert self.held.output_confirmed(delivery) is is_last

    def ack(self, _: int) -> None:
        """Send acks: of nothing but what was done, with all its outputs confirmed."""
        self.held.clear_settled()
        waiting = {delivery.tag for delivery in self.unconfirmed}
        done = {tag for tags in self.done.values() for tag in tags} - waiting - self.let_go
        self.held.send_due(self.channel, 0.0, acks_at_once=True)
        assert self.channel.tags == done

    def stick(self, choice: int) -> None:
        """Have the broker not take an output, nor what is behind it in its key: let go of these."""
        if not self.unconfirmed:
            return
        first = self.unconfirmed[choice % len(self.unconfirmed)]
        self.stuck.add(first.routing_key)
        for delivery in dict.fromkeys(self.unconfirmed):
            if delivery.routing_key == first.routing_key and delivery.tag >= first.tag:
                self.held.let_go(delivery)
                self.let_go.add(delivery.tag)
        self.unconfirmed = [each for each in self.unconfirmed if each.tag not in self.let_go]
        self.failed.clear()
        self.is_given_away = True

    def lose(self, _: int) -> None:
        """Lose the channel; what a handler works on goes on."""
        self.held.lost()
        self.void += self.running
        for several in (self.running, self.failed, self.unconfirmed):
            several.clear()
        self.begin()


@settings(max_examples=200)
@given(STEPS)
@example(ONE_IS_STUCK)
def test_each_key_is_in_order_and_nothing_is_acked_too_early(steps: list[tuple[str, int]]) -> None:
    """In the end all is handled and acked, and there is as much room as before."""
    replica = Replica()
    for step, choice in steps:
        getattr(replica, "return_" if step == "return" else step)(choice)

    while replica.running or replica.failed or replica.void or replica.held.is_ready:
        replica.retry(0)
        replica.start(0)
        replica.return_(1)
    while replica.unconfirmed:
        replica.confirm(0)
    replica.ack(0)
    if replica.is_given_away:
        assert replica.held.is_used_up
        replica.lose(0)

    assert replica.done == replica.delivered
    assert len(replica.channel.tags) == replica.count
    assert (replica.held.in_flight, replica.room.left) == (0, MOST_BYTES)
