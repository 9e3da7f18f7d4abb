"""What pauses a replica: the mark of its stage, or a command to it alone. Pure."""

from rabbit.control.messages import Command


class Pauses:
    """Knows whether a replica is to pause.

    A stage's mark is a message in a queue of its own, which every replica can look at, a new one
    too. A command to one replica waits for it in its control queue; while it is obeyed it stays
    there, unacked, for the process that may come after this one.

    Attributes:
        is_marked: whether the stage was marked at the last look; None: nobody has looked since the
            connection was lost.
    """

    def __init__(self, stage: str, replica: str) -> None:
        """Know nothing yet."""
        self.is_marked: bool | None = None
        self._name = f"{stage}/{replica}"
        self._is_alone = False
        self._kept: list[int] = []

    @property
    def is_paused(self) -> bool | None:
        """Whether the replica is to pause; None: that is not known."""
        return None if self.is_marked is None else self.is_marked or self._is_alone

    @property
    def is_alone(self) -> bool:
        """Whether it is to pause while its stage goes on."""
        return self._is_alone and not self.is_marked

    def lost(self) -> None:
        """Forget what belongs to the channel: what is unacked comes again, the mark may change."""
        self.is_marked = None
        self._kept.clear()

    def hear(self, command: Command, tag: int) -> list[int]:
        """Obey `pause` or `resume`; return which deliveries to ack, this one or others.

        Args:
            command: it concerns this replica. What it means for a stage, the mark says.
            tag: of its delivery.
        """
        if command.command == "pause":
            if command.target != self._name:
                return [tag]
            self._is_alone = True
            before, self._kept = self._kept, [tag]
            return before
        self._is_alone = False
        before, self._kept = self._kept, []
        return [*before, tag]
