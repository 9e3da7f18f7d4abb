"""When to send acks and nacks: pure policy, as a channel passes on only so many at a time.

A channel has at most 32 commands to a quorum queue under way and buffers the rest
(quorum_commands_soft_limit), acks and nacks alike. What is still buffered when the channel closes
is lost: acked messages would come again, and a nack that is lost counts as a failure.
"""

from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the book asks this for what is due
    from rabbit.messaging.book import Settlement, UnackedDeliveries

#: Acks are sent in steps of so many seconds, while there is credit left.
ACK_INTERVAL_SECONDS = 0.02

#: How many deliveries are requeued one by one at a time, and the pause between, in seconds.
SINGLES = 25
SINGLES_PAUSE_SECONDS = 0.1

#: How long more of them wait for a chance to be requeued all at once, in seconds.
PATIENCE_SECONDS = 1.0


class Due(NamedTuple):
    """What to send now, and when there may be more: never, unless something else happens: inf."""

    acks: "list[Settlement]"
    nacks: "list[Settlement]"
    next_at: float


class SettlementPace:
    """Takes out of the book of one consumer what is to be sent by now."""

    def __init__(self) -> None:
        """Begin with nothing sent."""
        self._acks_at = 0.0  # not before, unless they are wanted at once
        self._singles_at = 0.0  # not before
        self._patient_until = inf

    def take_due(self, unacked: "UnackedDeliveries", now: float, *, acks_at_once: bool) -> Due:
        """Return the acks and nacks to send.

        Args:
            unacked: the book.
            now: the time in seconds.
            acks_at_once: for credit runs out, or it is the end.
        """
        acks, nacks, next_at = [], [], inf
        if unacked.to_ack:
            if acks_at_once or now >= self._acks_at:
                acks = list(unacked.acks())
                self._acks_at = now + ACK_INTERVAL_SECONDS
            else:
                next_at = self._acks_at
        if unacked.to_requeue:
            nacks = self._nacks(unacked, now)
            next_at = min(next_at, self._more_nacks_at(unacked))
        return Due(acks, nacks, next_at)

    def _nacks(self, unacked: "UnackedDeliveries", now: float) -> "list[Settlement]":
        """Take what can be requeued all at once, or else a few one by one.

        Each of these is a command of its own. A few are sent without waiting; for more than that
        what runs before them may end soon, and then one nack is about them all.
        """
        if self._patient_until == inf:
            self._patient_until = now + PATIENCE_SECONDS
        is_patient = unacked.to_requeue > SINGLES and now < self._patient_until
        if is_patient or now < self._singles_at:
            return unacked.nacks(singles=0)
        self._singles_at = now + SINGLES_PAUSE_SECONDS
        return unacked.nacks(SINGLES)

    def _more_nacks_at(self, unacked: "UnackedDeliveries") -> float:
        if not unacked.to_requeue:
            self._patient_until = inf
            return inf
        patience = self._patient_until if unacked.to_requeue > SINGLES else 0.0
        return max(self._singles_at, patience)
