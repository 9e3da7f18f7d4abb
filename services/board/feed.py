"""What all browsers are shown: the latest of each part, and nothing older."""

import asyncio
import json
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

#: A browser gets something after so many seconds at the latest, so that both notice a dead line.
HEARTBEAT_SECONDS = 10.0

#: No browser gets more often than this, in seconds.
PAUSE_SECONDS = 0.2

#: So many browsers are served at once.
MOST_WATCHING = 100


class Feed:
    """Parts of the page, each put into JSON once, for whoever watches.

    A slow browser misses what is older than the latest, and so keeps nothing waiting in memory.

    Attributes:
        watching: how many browsers do.
    """

    def __init__(self) -> None:
        """Begin with no part; it belongs to the loop of whoever watches first."""
        self.watching = 0
        self._parts: dict[str, tuple[int, bytes]] = {}
        self._numbers = count(1)  # in one step, whichever thread
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._is_over = False

    def start(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()

    def publish(self, part: str, value: Any) -> None:  # noqa: ANN401 - JSON
        """Show a part; any thread may call this."""
        data = json.dumps(value, separators=(",", ":")).encode()
        event = b"event: %s\ndata: %s\n\n" % (part.encode(), data)
        self._parts[part] = next(self._numbers), event
        self._wake()

    def end(self) -> None:
        """Let everybody go; a signal handler may call this."""
        self._is_over = True
        self._wake()

    def _wake(self) -> None:
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._notify)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events, from all that is there now on."""
        sent: dict[str, int] = {}
        self.watching += 1
        try:
            while not self._is_over:
                changed = self._changed
                for part, (number, data) in list(self._parts.items()):
                    if sent.get(part) != number:
                        sent[part] = number
                        yield data
                await asyncio.sleep(PAUSE_SECONDS)
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self.watching -= 1
