"""The tutorial's way to stop: a message that says so, which each replica hands to the next."""

from collections.abc import Callable, Iterator

from rabbit.messaging.delivery import Delivery
from rabbit.messaging.edge_consumer import EdgeConsumer


class PoisonPill:
    """Looks for the pill among what is delivered, and holds it until this replica has ended.

    Attributes:
        held: the pill, once it has come.
    """

    def __init__(
        self, text: str, consumer: EdgeConsumer, ask_to_end: Callable[[str], None]
    ) -> None:
        """Take a message with this body for the pill; `ask_to_end` is told why."""
        self.held: Delivery | None = None
        self._body = text.encode()
        self._consumer = consumer
        self._ask_to_end = ask_to_end

    def before(self, arrived: list[Delivery]) -> list[Delivery]:
        """Return what has come before the pill; hold it, and requeue what has come behind it."""
        bodies = [delivery.body for delivery in arrived]
        if self._body not in bodies:
            return arrived
        index = bodies.index(self._body)
        behind = arrived[index + 1 :]
        if self.held is None:
            self.held = arrived[index]
            self._ask_to_end("poison pill")
        else:
            behind.insert(0, arrived[index])
        for delivery in behind:
            self._consumer.requeue(delivery)
        return arrived[:index]

    def lost(self) -> None:
        """Hold it no more: it is void, and comes again."""
        self.held = None

    def pass_on(self, send_downstream: Callable[[Delivery], None]) -> Iterator[None]:
        """Leave the pill to the next consumer of the queue; that of the last goes downstream.

        A quorum queue counts a cancelled consumer for as long as it holds a message, so the
        count includes this one, which holds the pill. That of a classic queue does not. A count
        without it is none: the leader was slow or away (see `Channel.get`), so it is asked again.
        """
        ours = 1 if self._consumer.edge.type == "quorum" else 0
        counted: list[int] = []
        asked = 0
        while self.held and (not counted or counted[-1] < ours):
            if len(counted) == asked:
                asked += 1
                self._consumer.count_consumers(counted.append)
            yield
        if self.held is None:
            return
        if counted[-1] > ours:
            self._consumer.requeue(self.held)
        else:
            send_downstream(self.held)
