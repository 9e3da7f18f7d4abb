"""What may be acked, and what is confirmed: properties that hold for any interleaving."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rabbit.messaging.book import Settlement, UnackedDeliveries
from rabbit.messaging.unconfirmed import UnconfirmedPublishes

anything = st.integers(0, 10**6)


class Guarantee(RuleBasedStateMachine):
    """Any interleaving of deliveries, work, confirms, failures, requeues, acks and lost channels.

    The broker's view: `unacked` is what it would deliver again if the connection were lost now, and
    `safe` counts, by delivery, the outputs that it has in a queue.
    """

    def __init__(self) -> None:
        """Begin with new channels."""
        super().__init__()
        self.deliveries = UnackedDeliveries()
        self.publishes: UnconfirmedPublishes[int] = UnconfirmedPublishes()
        self.sent: dict[int, int] = {}  # deliveries, by the sequence numbers of their outputs
        self.last_tag = 0
        self.last_sequence = 0
        self.waiting: list[int] = []  # for their work
        self.working: list[int] = []  # on the way: outputs are not all confirmed
        self.failed: list[int] = []  # on the way to where they wait, or are kept
        self.to_requeue: set[int] = set()
        self.written: dict[int, int] = {}
        self.safe: Counter[int] = Counter()
        self.moved: set[int] = set()
        self.unacked: set[int] = set()

    @property
    def open(self) -> list[int]:
        """What can still be settled."""
        return [*self.waiting, *self.working, *self.failed]

    def take(self, tags: list[int], pick: int) -> int:
        """Take out one of the tags."""
        return tags.pop(pick % len(tags))

    def take_open(self, pick: int) -> int:
        """Take one that is open out of whichever list it is in."""
        tag = self.open[pick % len(self.open)]
        for tags in (self.waiting, self.working, self.failed):
            if tag in tags:
                tags.remove(tag)
        return tag

    def publish(self, tag: int, outputs: int) -> None:
        """Send outputs on the publisher's channel."""
        self.publishes.note(outputs * [tag])
        for _ in range(outputs):
            self.last_sequence += 1
            self.sent[self.last_sequence] = tag

    @rule()
    def receive(self) -> None:
        """Deliver the next tag."""
        self.last_tag += 1
        self.deliveries.receive([self.last_tag], [self.last_tag])
        self.waiting.append(self.last_tag)
        self.unacked.add(self.last_tag)

    @precondition(lambda self: self.waiting)
    @rule(pick=anything, outputs=st.integers(0, 3))
    def work(self, pick: int, outputs: int) -> None:
        """Let any handler return."""
        tag = self.take(self.waiting, pick)
        self.written[tag] = outputs
        self.deliveries.expect(tag, outputs)
        self.publish(tag, outputs)
        if outputs:
            self.working.append(tag)

    @precondition(lambda self: self.sent)
    @rule(pick=anything, multiple=st.booleans())
    def confirm(self, pick: int, *, multiple: bool) -> None:
        """Let the broker confirm any output, or all up to it; the last one of a delivery counts."""
        sequence = list(self.sent)[pick % len(self.sent)]
        about = [each for each in self.sent if each <= sequence] if multiple else [sequence]
        tags = [self.sent.pop(each) for each in sorted(about)]
        assert self.publishes.take(sequence, multiple=multiple) == tags
        for tag in tags:
            self.safe[tag] += 1
            is_last = tag in self.working and self.safe[tag] == self.written[tag]
            assert self.deliveries.confirmed(tag) == is_last
            if is_last:
                self.working.remove(tag)

    @precondition(lambda self: self.sent)
    @rule(pick=anything)
    def nack(self, pick: int) -> None:
        """Let the broker refuse any output: it is published again."""
        sequence = list(self.sent)[pick % len(self.sent)]
        tag = self.sent.pop(sequence)
        assert self.publishes.take(sequence, multiple=False) == [tag]
        self.publish(tag, 1)

    @rule()
    def lose_the_publishing_channel(self) -> None:
        """Publish what was not confirmed again, on another one."""
        again = list(self.publishes)
        assert again == list(self.sent.values())
        self.publishes, self.sent, self.last_sequence = UnconfirmedPublishes(), {}, 0
        for tag in again:
            self.publish(tag, 1)

    @precondition(lambda self: self.waiting)
    @rule(pick=anything)
    def fail(self, pick: int) -> None:
        """Let any handler fail: its message goes elsewhere, and is open until it is there."""
        self.failed.append(self.take(self.waiting, pick))

    @precondition(lambda self: self.working)
    @rule(pick=anything)
    def expect_no_more(self, pick: int) -> None:
        """Find an output too large for ever: its input has failed. Late confirms may come."""
        tag = self.take(self.working, pick)
        assert self.deliveries.expect_no_more(tag)
        assert not self.deliveries.expect_no_more(tag)
        self.failed.append(tag)

    @precondition(lambda self: self.failed)
    @rule(pick=anything)
    def move(self, pick: int) -> None:
        """Confirm a failed message where it waits for another attempt, or is kept."""
        tag = self.take(self.failed, pick)
        self.moved.add(tag)
        self.deliveries.allow_ack(tag)

    @precondition(lambda self: self.open)
    @rule(pick=anything)
    def requeue(self, pick: int) -> None:
        """Requeue any open delivery, whose outputs may be on their way."""
        tag = self.take_open(pick)
        self.deliveries.requeue(tag)
        self.to_requeue.add(tag)

    @precondition(lambda self: len(self.open) > 2)
    @rule()
    def requeue_all(self) -> None:
        """Requeue all open deliveries."""
        self.to_requeue.update(self.open)
        self.waiting, self.working, self.failed = [], [], []
        assert self.deliveries.requeue_all() == len(self.to_requeue)

    @precondition(lambda self: self.open)
    @rule(pick=anything)
    def drop(self, pick: int) -> None:
        """Leave any open delivery to the broker (basic.reject)."""
        tag = self.take_open(pick)
        self.deliveries.drop(tag)
        self.unacked.remove(tag)

    @rule()
    def ack(self) -> None:
        """Ack: each delivery whose outputs are safe, once, with as few acks as possible."""
        due = self.unacked - set(self.open) - self.to_requeue
        acks = list(self.deliveries.acks())
        covered = [tag for ack in acks for tag in self.covered_by(ack)]
        assert sorted(covered) == sorted(due)
        for tag in covered:
            assert tag in self.moved or self.safe[tag] >= self.written[tag], "acked too early"

        first_kept = min([*self.open, *self.to_requeue], default=self.last_tag + 1)
        beyond = [tag for tag in due if tag > first_kept]
        assert len(acks) == len(beyond) + (len(beyond) < len(due))

    @rule(singles=st.integers(0, 3))
    def send_nacks(self, singles: int) -> None:
        """Nack: all at once where nothing else is below, acked or not, else the lowest few."""
        others = self.unacked - self.to_requeue
        nacks = self.deliveries.nacks(singles)
        covered = [tag for nack in nacks for tag in self.covered_by(nack)]

        if min(others, default=self.last_tag + 1) > max(self.to_requeue, default=0):
            assert sorted(covered) == sorted(self.to_requeue)
            assert len(nacks) == min(1, len(covered))
        else:
            assert covered == sorted(self.to_requeue)[:singles]
            assert len(nacks) == len(covered)
        self.to_requeue -= set(covered)

    @invariant()
    def the_book_knows_what_is_open(self) -> None:
        """What can still be settled, and how much the broker waits to hear of."""
        tags = range(self.last_tag + 2)
        assert [tag for tag in tags if tag in self.deliveries] == sorted(self.open)
        assert len(self.deliveries) == len(self.open) + len(self.to_requeue)
        assert self.deliveries.to_requeue == len(self.to_requeue)

    @invariant()
    def the_book_knows_how_much_is_held(self) -> None:
        """Each delivery here is as large as its tag; what is requeued is not held any more."""
        assert sum(self.open) <= self.deliveries.held_bytes
        assert self.deliveries.held_bytes <= sum(self.open) + sum(self.to_requeue)

    def covered_by(self, settlement: Settlement) -> list[int]:
        """Let the broker take an ack or a nack; return what it is about."""
        tag, multiple = settlement
        about = {each for each in self.unacked if each <= tag} if multiple else {tag}
        assert about <= self.unacked, "406 PRECONDITION_FAILED - unknown delivery tag"
        self.unacked -= about
        return sorted(about)


#: No delivery is acked before its outputs are safe, or itself elsewhere; each one is acked, or
#: requeued, exactly once; and none that is open is ever covered by the settlement of another.
TestGuarantee = Guarantee.TestCase
TestGuarantee.settings = settings(max_examples=60, stateful_step_count=40)


def received(count: int) -> UnackedDeliveries:
    """Return a book with so many open deliveries."""
    deliveries = UnackedDeliveries()
    deliveries.receive(range(1, count + 1), range(1, count + 1))
    return deliveries


def test_a_slow_handler_holds_up_nobody() -> None:
    """What may be acked beyond an open delivery is acked one by one, without waiting for it."""
    deliveries = received(6)
    for tag in (1, 2, 4, 6):
        deliveries.allow_ack(tag)

    assert list(deliveries.acks()) == [
        Settlement(2, multiple=True),
        Settlement(4, multiple=False),
        Settlement(6, multiple=False),
    ]


def test_what_is_requeued_leaves_at_once() -> None:
    """One nack for all of it, unless something below is still open."""
    deliveries = received(5)
    deliveries.allow_ack(1)
    assert list(deliveries.acks()) == [Settlement(1, multiple=False)]
    assert deliveries.requeue_all() == 4

    assert deliveries.nacks(singles=0) == [Settlement(5, multiple=True)]
    assert deliveries.nacks(singles=9) == []
    assert len(deliveries) == 0


def test_what_is_requeued_above_an_open_one_leaves_in_portions() -> None:
    """The lowest first, so that they come again in order."""
    deliveries = received(5)
    for tag in (5, 3, 4):
        deliveries.requeue(tag)

    assert deliveries.nacks(singles=0) == []
    assert deliveries.nacks(singles=2) == [
        Settlement(3, multiple=False),
        Settlement(4, multiple=False),
    ]
    assert list(deliveries.acks()) == []
    assert len(deliveries) == 3


@pytest.mark.parametrize("end", [UnackedDeliveries.allow_ack, UnackedDeliveries.requeue])
def test_a_delivery_ends_once(end: Callable[[UnackedDeliveries, int], None]) -> None:
    """Whether it was acked or never came: to end it is an error in our own book-keeping."""
    deliveries = received(1)
    deliveries.allow_ack(1)

    for tag in (1, 2):
        with pytest.raises(KeyError):
            end(deliveries, tag)


def test_acks_are_yielded_once() -> None:
    """Nothing done means nothing to ack."""
    deliveries = UnackedDeliveries()
    deliveries.receive([1], [1])
    deliveries.allow_ack(1)

    assert list(deliveries.acks()) == [Settlement(1, multiple=False)]
    assert list(deliveries.acks()) == []


def confirms(count: int) -> st.SearchStrategy[list[tuple[int, bool]]]:
    """Return confirms in any order, each perhaps `multiple`, that end with everything."""
    numbers = st.tuples(st.integers(1, count), st.booleans())
    return st.lists(numbers, max_size=count).map(lambda some: [*some, (count, True)])


@given(st.data())
def test_every_publish_is_confirmed_exactly_once(data: st.DataObject) -> None:
    """Whatever the order of the confirms, and however many at a time, each publish ends once."""
    count = data.draw(st.integers(1, 12))
    publishes: UnconfirmedPublishes[int] = UnconfirmedPublishes()
    first = data.draw(st.integers(0, count))
    publishes.note(range(1, first + 1))
    publishes.note(range(first + 1, count + 1))

    confirmed: list[int] = []
    for sequence, multiple in data.draw(confirms(count)):
        below = set(range(1, sequence + 1)) if multiple else {sequence}
        assert publishes.oldest == min(set(range(1, count + 1)) - set(confirmed), default=count + 1)
        numbers = publishes.numbers(sequence, multiple=multiple)
        taken = publishes.take(sequence, multiple=multiple)
        assert sorted(below - set(confirmed)) == taken == numbers
        confirmed += taken
        assert sorted(set(range(1, count + 1)) - set(confirmed)) == list(publishes)

    assert list(range(1, count + 1)) == sorted(confirmed)
    assert len(publishes) == 0


@given(st.lists(st.one_of(st.none(), st.tuples(anything, st.booleans())), max_size=30))
def test_publishing_goes_on_between_confirms(steps: list[tuple[int, bool] | None]) -> None:
    """Sequence numbers count up from 1 over all publishes; None is a publish, else a confirm."""
    publishes: UnconfirmedPublishes[int] = UnconfirmedPublishes()
    sent = 0
    open_numbers: set[int] = set()
    for step in steps:
        if step is None:
            sent += 1
            publishes.note([sent])
            open_numbers.add(sent)
        elif sent:
            sequence, multiple = 1 + step[0] % sent, step[1]
            below = set(range(1, sequence + 1)) if multiple else {sequence}
            assert sorted(open_numbers & below) == publishes.take(sequence, multiple=multiple)
            open_numbers -= below


def test_the_counting_goes_on_after_clear() -> None:
    """What was cleared is never confirmed, and does not shift what comes after it."""
    publishes: UnconfirmedPublishes[str] = UnconfirmedPublishes()
    publishes.note(["let go of"])
    publishes.clear()
    publishes.note(["second"])

    assert publishes.take(1, multiple=False) == []
    assert publishes.take(2, multiple=True) == ["second"]


def test_what_was_requeued_cannot_be_acked() -> None:
    """The nack is as good as sent."""
    deliveries = UnackedDeliveries()
    deliveries.receive([1], [1])
    deliveries.requeue(1)

    with pytest.raises(KeyError):
        deliveries.allow_ack(1)


def test_what_the_broker_is_told_of_otherwise() -> None:
    """It is neither acked nor requeued any more, and holds up no ack behind it."""
    deliveries = UnackedDeliveries()
    deliveries.receive([1, 2, 3], [1, 2, 3])
    deliveries.drop(1)
    deliveries.allow_ack(2)
    assert list(deliveries.acks()) == [Settlement(2, multiple=False)]
    deliveries.requeue(3)
    assert deliveries.nacks(1) == [Settlement(3, multiple=True)]
    for tag in (1, 3):
        with pytest.raises(KeyError):
            deliveries.drop(tag)


def test_what_several_consumers_have_got_is_requeued_consumer_by_consumer() -> None:
    """A quorum queue puts what the last of them had first, if one nack is about all of it."""
    deliveries = UnackedDeliveries()
    for tags in ([1, 2, 3], [], [4, 5], [6]):
        deliveries.change_consumer()
        deliveries.receive(tags, [0] * len(tags))
    deliveries.allow_ack(1)
    assert list(deliveries.acks()) == [Settlement(1, multiple=False)]

    deliveries.requeue_all()

    assert deliveries.nacks(0) == [Settlement(tag, multiple=True) for tag in (3, 5, 6)]


def test_a_delivery_whose_outputs_are_expected_is_not_acked() -> None:
    """Whoever asks for it: only its last confirm does that."""
    deliveries = received(1)
    deliveries.expect(1, 2)

    with pytest.raises(KeyError):
        deliveries.allow_ack(1)
    with pytest.raises(KeyError):
        deliveries.expect(1, 0)
    assert [deliveries.confirmed(1), list(deliveries.acks())] == [False, []]
    assert deliveries.confirmed(1)
    assert list(deliveries.acks()) == [Settlement(1, multiple=False)]
