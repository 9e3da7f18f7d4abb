"""When acks and nacks are sent: few commands at a time, and never too late."""

from math import inf

from rabbit.messaging.book import Settlement, UnackedDeliveries
from rabbit.messaging.pace import (
    ACK_INTERVAL_SECONDS,
    PATIENCE_SECONDS,
    SINGLES,
    SINGLES_PAUSE_SECONDS,
    Due,
    SettlementPace,
)

START = 100.0


def book(deliveries: int) -> UnackedDeliveries:
    """Return the book of a channel with so many deliveries."""
    unacked = UnackedDeliveries()
    unacked.receive(range(1, deliveries + 1), deliveries * [0])
    return unacked


def due(pace: SettlementPace, unacked: UnackedDeliveries, now: float) -> Due:
    """Return what is due, while there is credit left."""
    return pace.take_due(unacked, now, acks_at_once=False)


def test_acks_are_sent_in_steps() -> None:
    """The first at once; what comes soon after it waits for the next step, which is told."""
    pace, unacked = SettlementPace(), book(3)
    unacked.allow_ack(1)
    assert due(pace, unacked, START) == ([Settlement(1, multiple=False)], [], inf)
    unacked.allow_ack(2)
    soon = START + ACK_INTERVAL_SECONDS / 2
    assert due(pace, unacked, soon) == ([], [], START + ACK_INTERVAL_SECONDS)
    unacked.allow_ack(3)
    then = START + ACK_INTERVAL_SECONDS
    assert due(pace, unacked, then) == ([Settlement(3, multiple=True)], [], inf)


def test_acks_do_not_wait_when_credit_runs_out() -> None:
    """They are wanted at once then, however short ago others were sent."""
    pace, unacked = SettlementPace(), book(2)
    unacked.allow_ack(1)
    due(pace, unacked, START)
    unacked.allow_ack(2)
    acks = pace.take_due(unacked, START, acks_at_once=True).acks
    assert acks == [Settlement(2, multiple=False)]


def test_a_few_are_requeued_at_once() -> None:
    """One by one, beside one that is open still; those that come next after a pause."""
    pace, unacked = SettlementPace(), book(3)
    unacked.requeue(2)
    assert due(pace, unacked, START) == ([], [Settlement(2, multiple=False)], inf)
    unacked.requeue(3)
    later = START + SINGLES_PAUSE_SECONDS
    assert due(pace, unacked, START) == ([], [], later)
    assert due(pace, unacked, later) == ([], [Settlement(3, multiple=False)], inf)


def test_many_wait_for_what_runs_before_them() -> None:
    """Then one nack is about them all."""
    pace, unacked = SettlementPace(), book(SINGLES + 2)
    for tag in range(2, SINGLES + 3):
        unacked.requeue(tag)
    assert due(pace, unacked, START) == ([], [], START + PATIENCE_SECONDS)
    unacked.allow_ack(1)
    acks, nacks, _ = due(pace, unacked, START)
    assert acks == [Settlement(1, multiple=False)]
    assert nacks == [Settlement(SINGLES + 2, multiple=True)]


def test_many_do_not_wait_for_ever() -> None:
    """If what runs takes long, some are requeued now and then, and it is told when."""
    pace, unacked = SettlementPace(), book(2 * SINGLES + 1)
    for tag in range(2, 2 * SINGLES + 2):
        unacked.requeue(tag)
    due(pace, unacked, START)
    now = START + PATIENCE_SECONDS
    sent = due(pace, unacked, now)
    assert [len(sent.nacks), sent.next_at] == [SINGLES, now + SINGLES_PAUSE_SECONDS]
    sent = due(pace, unacked, sent.next_at)
    assert [len(sent.nacks), sent.next_at] == [SINGLES, inf]


def test_patience_begins_anew() -> None:
    """With those that are requeued after all others have been."""
    pace, unacked = SettlementPace(), book(SINGLES + 2)
    unacked.requeue(SINGLES + 2)
    due(pace, unacked, START)
    for tag in range(2, SINGLES + 2):
        unacked.requeue(tag)
    unacked.receive([SINGLES + 3], [0])
    unacked.requeue(SINGLES + 3)
    later = START + 2 * PATIENCE_SECONDS
    assert due(pace, unacked, later) == ([], [], later + PATIENCE_SECONDS)
