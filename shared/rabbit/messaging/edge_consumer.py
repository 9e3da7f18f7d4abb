"""What a dispatcher consumes with, whatever the kind of the edge."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from rabbit.topology import Edge


class EdgeConsumer(Protocol):
    """Gives out deliveries, and settles them: a `QueueConsumer`, or an `OrderedConsumer`.

    It gives out deliveries of its own kind, and takes back only these. What it is told of a
    delivery is sent with `send_settlements`. A delivery that is not current has been settled, or
    comes again; whatever is said of it then changes nothing.

    Attributes:
        edge: what it consumes.
        depth: how many messages it holds at most, unacked, of each queue.
        requeued: how many deliveries have gone back to their queue.
    """

    edge: Edge
    depth: int
    requeued: int

    @property
    def is_consuming(self) -> bool:
        """Whether it is registered with the broker, for all of the edge."""

    @property
    def is_paused(self) -> bool:
        """Whether no handler gets anything, since `pause`."""

    @property
    def is_cancelled(self) -> bool:
        """Whether nothing more can arrive, since `cancel`."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more can arrive before something is settled: a batch waits no longer."""

    @property
    def in_flight(self) -> int:
        """Count the deliveries that are neither acked nor requeued."""

    @property
    def outstanding(self) -> int:
        """Count those that the broker awaits an ack or nack for, and that wait for no other."""

    # Deliveries

    def take_arrived(self) -> list[Any]:
        """Return what may be handled now, in the order of its queue; each delivery once."""

    def is_current(self, delivery: Any) -> bool:  # noqa: ANN401 - of its own kind
        """Tell whether a delivery can still be settled."""

    def expect(self, delivery: Any, outputs: int) -> bool:  # noqa: ANN401
        """Note that `work` is done: ack after so many confirms; False if it was not current."""

    def allow_ack(self, delivery: Any) -> bool:  # noqa: ANN401
        """Note that nothing is expected, so it may be acked; False if it was not current."""

    def output_confirmed(self, delivery: Any) -> bool:  # noqa: ANN401
        """Note that an output is confirmed; True: it was the last, the delivery may be acked."""

    def expect_no_more(self, delivery: Any) -> bool:  # noqa: ANN401
        """Expect no more outputs, and stay unacked; tell whether some were expected."""

    def requeue(self, delivery: Any) -> None:  # noqa: ANN401
        """Give it up: it comes again, here or elsewhere, in its place in the queue."""

    def requeue_all(self) -> int:
        """Give up all that is current; say how many these are."""

    def dead_letter(self, delivery: Any) -> None:  # noqa: ANN401
        """Have the broker dead-letter what it lets nobody publish."""

    def send_settlements(self) -> None:
        """Send the acks and nacks that are due; once in each turn."""

    # Its life

    def pause(self) -> None:
        """Give out nothing until `resume`; what no handler has started is not held for it."""

    def resume(self) -> None:
        """Go on."""

    def cancel(self) -> None:
        """Take nothing more from the broker, for good: see `is_cancelled`."""

    def close(self) -> Iterator[None]:
        """Close its channels once the broker has all acks and nacks: a step task."""

    def count_consumers(self, tell: Callable[[int], None]) -> None:
        """Ask the broker how many consumers the edge has, this one included."""
