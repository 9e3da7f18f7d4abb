"""What may be acked, and what is confirmed: properties that hold for any interleaving."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rabbit.messaging.unsettled import Settlement, UnackedDeliveries, UnconfirmedPublishes

anything = st.integers(0, 10**6)


class InputsBesideABroker(RuleBasedStateMachine):
    """Any interleaving of deliveries, settling, giving back, acks and nacks.

    `unacked` is the broker's view: what it would deliver again if the connection were lost now.
    """

    def __init__(self) -> None:
        """Begin with a new channel."""
        super().__init__()
        self.inputs = UnackedDeliveries()
        self.last_tag = 0
        self.open: list[int] = []
        self.settled: set[int] = set()
        self.returning: set[int] = set()
        self.unacked: set[int] = set()

    @rule()
    def receive(self) -> None:
        """Deliver the next tag."""
        self.last_tag += 1
        self.inputs.receive([self.last_tag], [self.last_tag])
        self.open.append(self.last_tag)
        self.unacked.add(self.last_tag)

    @precondition(lambda self: self.open)
    @rule(pick=anything)
    def settle(self, pick: int) -> None:
        """Settle any open delivery."""
        tag = self.open.pop(pick % len(self.open))
        self.inputs.settle(tag)
        self.settled.add(tag)

    @precondition(lambda self: self.open)
    @rule(pick=anything)
    def give_back(self, pick: int) -> None:
        """Give any open delivery back."""
        tag = self.open.pop(pick % len(self.open))
        self.inputs.give_back(tag)
        self.returning.add(tag)

    @precondition(lambda self: len(self.open) > 2)
    @rule()
    def give_back_all(self) -> None:
        """Give all open deliveries back."""
        self.returning.update(self.open)
        self.open.clear()
        assert self.inputs.give_back_all() == len(self.returning)

    @rule()
    def ack(self) -> None:
        """Ack: each settled delivery once, nothing else, with as few acks as possible."""
        acks = list(self.inputs.acks())
        covered = [tag for ack in acks for tag in self.covered_by(ack)]
        assert sorted(covered) == sorted(self.settled)

        kept = [*self.open, *self.returning]
        first_kept = min(kept, default=self.last_tag + 1)
        beyond = [tag for tag in self.settled if tag > first_kept]
        fewest = len(beyond) + (len(beyond) < len(self.settled))
        assert len(acks) == fewest
        self.settled.clear()

    @rule(singles=st.integers(0, 3))
    def nack(self, singles: int) -> None:
        """Nack: all at once where nothing else is below, acked or not, else the lowest few."""
        nacks = self.inputs.returns(singles)
        covered = [tag for nack in nacks for tag in self.covered_by(nack)]

        others = [*self.open, *self.settled]
        if min(others, default=self.last_tag + 1) > max(self.returning, default=0):
            assert sorted(covered) == sorted(self.returning)
            assert len(nacks) == min(1, len(covered))
        else:
            assert covered == sorted(self.returning)[:singles]
            assert len(nacks) == len(covered)
        self.returning -= set(covered)

    @invariant()
    def the_book_knows_what_is_open(self) -> None:
        """What can still be settled, and how much the broker waits to hear of."""
        tags = range(self.last_tag + 2)
        assert [tag for tag in tags if tag in self.inputs] == sorted(self.open)
        assert len(self.inputs) == len(self.open) + len(self.returning)
        assert self.inputs.returning == len(self.returning)

    @invariant()
    def the_book_knows_how_much_is_held(self) -> None:
        """Each delivery here is as large as its tag; what goes back is not held any more."""
        assert self.inputs.held_bytes <= sum(self.open) + sum(self.returning)
        assert self.inputs.held_bytes >= sum(self.open)

    def covered_by(self, settlement: Settlement) -> list[int]:
        """Let the broker take an ack or a nack; return what it is about."""
        tag, multiple = settlement
        about = {each for each in self.unacked if each <= tag} if multiple else {tag}
        assert about <= self.unacked, "406 PRECONDITION_FAILED - unknown delivery tag"
        self.unacked -= about
        return sorted(about)


#: Every settled delivery is acked exactly once, every returned one nacked exactly once, and no
#: open one is ever covered.
TestInputs = InputsBesideABroker.TestCase
TestInputs.settings = settings(max_examples=30, stateful_step_count=25)


def received(count: int) -> UnackedDeliveries:
    """Return a book with so many open deliveries."""
    inputs = UnackedDeliveries()
    inputs.receive(range(1, count + 1), range(1, count + 1))
    return inputs


def test_a_slow_handler_holds_up_nobody() -> None:
    """What is settled beyond an open delivery is acked one by one, without waiting for it."""
    inputs = received(6)
    for tag in (1, 2, 4, 6):
        inputs.settle(tag)

    assert list(inputs.acks()) == [
        Settlement(2, multiple=True),
        Settlement(4, multiple=False),
        Settlement(6, multiple=False),
    ]


def test_what_is_given_back_leaves_at_once() -> None:
    """One nack for all of it, unless something below is still open."""
    inputs = received(5)
    inputs.settle(1)
    assert list(inputs.acks()) == [Settlement(1, multiple=False)]
    assert inputs.give_back_all() == 4

    assert inputs.returns(singles=0) == [Settlement(5, multiple=True)]
    assert inputs.returns(singles=9) == []
    assert len(inputs) == 0


def test_what_is_given_back_above_an_open_one_leaves_in_portions() -> None:
    """The lowest first, so that they come again in order."""
    inputs = received(5)
    for tag in (5, 3, 4):
        inputs.give_back(tag)

    assert inputs.returns(singles=0) == []
    assert inputs.returns(singles=2) == [
        Settlement(3, multiple=False),
        Settlement(4, multiple=False),
    ]
    assert list(inputs.acks()) == []
    assert len(inputs) == 3


@pytest.mark.parametrize("end", [UnackedDeliveries.settle, UnackedDeliveries.give_back])
def test_a_delivery_ends_once(end: Callable[[UnackedDeliveries, int], None]) -> None:
    """Whether it was settled or never came: to end it is an error in our own book-keeping."""
    inputs = received(1)
    inputs.settle(1)

    for tag in (1, 2):
        with pytest.raises(KeyError):
            end(inputs, tag)


def test_acks_are_yielded_once() -> None:
    """Nothing settled means nothing to ack."""
    inputs = UnackedDeliveries()
    inputs.receive([1], [1])
    inputs.settle(1)

    assert list(inputs.acks()) == [Settlement(1, multiple=False)]
    assert list(inputs.acks()) == []


def confirms(count: int) -> st.SearchStrategy[list[tuple[int, bool]]]:
    """Return confirms in any order, each perhaps `multiple`, that end with everything."""
    numbers = st.tuples(st.integers(1, count), st.booleans())
    return st.lists(numbers, max_size=count).map(lambda some: [*some, (count, True)])


@given(st.data())
def test_every_publish_is_confirmed_exactly_once(data: st.DataObject) -> None:
    """Whatever the order of the confirms, and however many at a time, each publish ends once."""
    count = data.draw(st.integers(1, 12))
    outputs: UnconfirmedPublishes[int] = UnconfirmedPublishes()
    first = data.draw(st.integers(0, count))
    outputs.send(range(1, first + 1))
    outputs.send(range(first + 1, count + 1))

    confirmed: list[int] = []
    for sequence, multiple in data.draw(confirms(count)):
        below = set(range(1, sequence + 1)) if multiple else {sequence}
        taken = outputs.confirm(sequence, multiple=multiple)
        assert sorted(below - set(confirmed)) == taken
        confirmed += taken
        assert sorted(set(range(1, count + 1)) - set(confirmed)) == list(outputs)

    assert list(range(1, count + 1)) == sorted(confirmed)
    assert len(outputs) == 0


@given(st.lists(st.one_of(st.none(), st.tuples(anything, st.booleans())), max_size=30))
def test_publishing_goes_on_between_confirms(steps: list[tuple[int, bool] | None]) -> None:
    """Sequence numbers count up from 1 over all publishes; None is a publish, else a confirm."""
    outputs: UnconfirmedPublishes[int] = UnconfirmedPublishes()
    sent = 0
    open_numbers: set[int] = set()
    for step in steps:
        if step is None:
            sent += 1
            outputs.send([sent])
            open_numbers.add(sent)
        elif sent:
            sequence, multiple = 1 + step[0] % sent, step[1]
            below = set(range(1, sequence + 1)) if multiple else {sequence}
            assert sorted(open_numbers & below) == outputs.confirm(sequence, multiple=multiple)
            open_numbers -= below


def test_the_counting_goes_on_after_clear() -> None:
    """What was cleared is never confirmed, and does not shift what comes after it."""
    outputs: UnconfirmedPublishes[str] = UnconfirmedPublishes()
    outputs.send(["let go of"])
    outputs.clear()
    outputs.send(["second"])

    assert outputs.confirm(1, multiple=False) == []
    assert outputs.confirm(2, multiple=True) == ["second"]


def test_what_was_given_back_cannot_be_settled() -> None:
    """The nack is as good as sent."""
    inputs = UnackedDeliveries()
    inputs.receive([1], [1])
    inputs.give_back(1)

    with pytest.raises(KeyError):
        inputs.settle(1)


def test_what_the_broker_is_told_of_otherwise() -> None:
    """It is neither acked nor returned any more, and holds up no ack behind it."""
    inputs = UnackedDeliveries()
    inputs.receive([1, 2, 3], [1, 2, 3])
    inputs.drop(1)
    inputs.settle(2)
    assert list(inputs.acks()) == [Settlement(2, multiple=False)]
    inputs.give_back(3)
    assert inputs.returns(1) == [Settlement(3, multiple=True)]
    for tag in (1, 3):
        with pytest.raises(KeyError):
            inputs.drop(tag)
