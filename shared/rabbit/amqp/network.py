"""What everything on one loop has in common: the loop, its connections, and its step tasks."""

from collections.abc import Callable, Iterator

from rabbit.amqp.connection import Connection
from rabbit.amqp.loop import Loop
from rabbit.amqp.outage_log import OutageLog
from rabbit.logs import Logger
from rabbit.settings import Settings

_END = object()


class Network:
    """A loop and the connections on it: for a replica, a MessageQueue, a command of the operator's.

    A step task is a generator that yields where it has to wait; each turn of the loop goes on with
    it. So what takes several turns can be read from top to bottom.

    Attributes:
        loop: who runs it in a thread makes that the loop's thread.
        outage_log: tells what is wrong with the broker.
    """

    def __init__(
        self,
        settings: Settings,
        log: Logger,
        on_turn: Callable[[], None],
        on_flushed: Callable[[int], None] = lambda _moved: None,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: where to connect.
            log: told when the broker goes away and comes back.
            on_turn: called at the end of each turn, when all that was ready has been read; what it
                sends leaves with that turn.
            on_flushed: given how many bytes a turn has moved, once they have.

        Raises:
            OSError: there is no file descriptor left for it.
        """
        self.outage_log = OutageLog(log)
        self.loop = Loop(self._turn)
        self._settings = settings
        self._on_turn = on_turn
        self._on_flushed = on_flushed
        self._connections: list[Connection] = []
        self._tasks: list[Iterator[None]] = []

    @property
    def connections(self) -> list[Connection]:
        """Those there are now."""
        return list(self._connections)

    def connection(self, name: str) -> Connection:
        """Return a new connection, which somebody has to `connect`.

        Args:
            name: what the management console shows it as.
        """
        connection = Connection(self.loop, self._settings, name, self.outage_log)
        self._connections.append(connection)
        return connection

    def begin(self, task: Iterator[None]) -> None:
        """Go through a step task, from the end of this turn on; for the loop's thread."""
        self._tasks.append(task)

    def disconnect(self, connections: list[Connection]) -> Iterator[None]:
        """Close connections in order: a step task."""
        for connection in connections:
            connection.close()
        while not all(connection.is_closed for connection in connections):
            yield
        for connection in connections:
            if connection in self._connections:  # or somebody else has waited for it, too
                self._connections.remove(connection)

    def drop(self) -> None:
        """Close the sockets without a word: the loop has ended, or stayed in the parent process."""
        for connection in self.connections:
            connection.drop()

    def _turn(self) -> None:
        self._on_turn()
        self._tasks[:] = [task for task in self._tasks if next(task, _END) is not _END]
        self._on_flushed(sum([connection.flush() for connection in self._connections]))
