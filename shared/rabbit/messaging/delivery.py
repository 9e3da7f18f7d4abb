"""A message that a consumer was given."""

from rabbit.message import Message


class Delivery(Message):
    """One basic.deliver, until it is settled.

    Attributes:
        generation: which channel it came on; its tag means nothing on another one.
        tag: the broker's number for it.
    """

    __slots__ = ("generation", "tag")
    is_counted = False  # its headers are its sender's

    def __init__(
        self,
        generation: int,
        tag: int,
        routing_key: str,
        properties: bytes,
        body: bytes,
        redelivered: bool,  # noqa: FBT001 - positional, as in an `Arrival`
    ) -> None:
        """Note what an `Arrival` brings; see `Message`."""
        self.generation = generation
        self.tag = tag
        self.routing_key = routing_key
        self.properties = properties
        self.body = body
        self.redelivered = redelivered
        self._ids = None
        self._headers = None
        self._origin = None


class Again(Delivery):
    """One that has come by `Edge.back`: from a retry queue, where a stage has put it."""

    __slots__ = ()
    is_counted = True
