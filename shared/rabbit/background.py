"""A loop in a thread of its own, for callers that wait: MessageQueue and RollCall."""

import atexit
import threading
from collections.abc import Callable, Iterator

from rabbit.availability import Availability
from rabbit.connection import Connection, Loop
from rabbit.errors import BrokerUnavailableError
from rabbit.logs import Logger
from rabbit.settings import Settings

#: How long closing in order may take before the connections are simply dropped.
CLOSE_SECONDS = 5.0

_END = object()


class Background:
    """Owns the connections of one caller; they are closed in order at the latest at exit."""

    def __init__(self, settings: Settings, log: Logger, on_turn: Callable[[], None]) -> None:
        """Start the thread; nothing is connected yet.

        Args:
            settings: where to connect.
            log: told when the broker goes away and comes back.
            on_turn: called on the loop's thread at the end of each turn.
        """
        self._settings = settings
        self._on_turn = on_turn
        self.availability = Availability(log)
        self._connections: list[Connection] = []
        self._stories: list[Iterator[None]] = []
        self._loop = Loop(self._turn)
        self._thread = threading.Thread(target=self._loop.start, name="rabbit", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def connection(self, name: str) -> Connection:
        """Return a new connection; its users are added before `call(connection.connect)`."""
        connection = Connection(
            self._loop, self._settings, f"{self._settings.replica} {name}", self.availability
        )
        self._connections.append(connection)
        return connection

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run `function` on the loop's thread, soon."""
        self._loop.call(function, *arguments)

    def see_through(self, story: Iterator[None], timeout: float | None = CLOSE_SECONDS) -> bool:
        """Have the loop's thread go through a story, a step a turn; wait for its end.

        Args:
            story: yields while it has to wait for something.
            timeout: seconds to wait; None: for ever.

        Returns:
            whether the story has ended in time.
        """
        ended = threading.Event()

        def whole() -> Iterator[None]:
            yield from story
            ended.set()

        self.call(self._stories.append, whole())
        return ended.wait(timeout)

    def wait(self, story: Iterator[None], timeout: float, missing: str) -> None:
        """See a story through that waits for the broker.

        Args:
            story: as above.
            timeout: seconds to wait.
            missing: what there is not, when it has not ended by then.

        Raises:
            BrokerUnavailableError: it has not; with what is known of why.
        """
        if not self.see_through(story, timeout):
            why = self.availability.reason or "it takes connections, and does not answer"
            raise BrokerUnavailableError(f"{missing} within {timeout:g} s: {why}")

    def disconnect(self, connections: list[Connection]) -> Iterator[None]:
        """Close connections: a story for `see_through`."""
        for connection in connections:
            connection.close()
        while not all(connection.is_closed for connection in connections):
            yield
        for connection in connections:
            if connection in self._connections:  # or somebody else has waited for it, too
                self._connections.remove(connection)

    def close(self) -> None:
        """Close all connections in order and end the thread."""
        atexit.unregister(self.close)
        self.see_through(self.disconnect(list(self._connections)))
        self.call(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    def _turn(self) -> None:
        self._on_turn()
        self._stories[:] = [story for story in self._stories if next(story, _END) is not _END]
        for connection in self._connections:
            connection.flush()
