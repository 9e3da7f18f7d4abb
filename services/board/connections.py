"""What one client may take of the server: so many connections, and so long for each step."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TypeAlias

from uvicorn.protocols.http.h11_impl import H11Protocol

#: So many connections are served at once.
MOST_CONNECTIONS = 300

Network: TypeAlias = IPv4Network | IPv6Network

_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
    b"Your address has too many connections to the board: close some.\n"
)


@dataclass(frozen=True)
class Limits:
    """What a client may take.

    Attributes:
        of_one_address: so many connections. Behind Docker all programs of this machine have one
            address, and a browser opens up to six.
        ask_seconds: how long it may take to say what it wants.
        read_seconds: how long it may read nothing of what it is sent.
        proxies: addresses that may have as many connections as there are.
    """

    of_one_address: int = 100
    ask_seconds: float = 10.0
    read_seconds: float = 30.0
    proxies: tuple[Network, ...] = ()


class BoundedConnection(H11Protocol):
    """A connection that ends when its client keeps it waiting.

    uvicorn's own closes what is idle after an answer. What has never asked, asks a byte at a time,
    or reads nothing, it keeps for ever.
    """

    def __init__(self, limits: Limits, *given: object, **named: object) -> None:
        """Keep to these limits; the rest is uvicorn's."""
        super().__init__(*given, **named)  # type: ignore[arg-type]
        self._limits = limits
        self._asks = Deadline(self.loop, limits.ask_seconds, self._close)
        self._reads = Deadline(self.loop, limits.read_seconds, self._abort)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, unless this address has too many connections."""
        super().connection_made(transport)
        if self._is_one_too_many():
            transport.write(_TOO_MANY)
            transport.close()
        else:
            self._asks.begin()

    def _is_one_too_many(self) -> bool:
        address = self.client[0] if self.client else ""
        others = [each for each in self.connections if isinstance(each, BoundedConnection)]
        same = sum(1 for each in others if each.client and each.client[0] == address)
        if same <= self._limits.of_one_address:
            return False
        return not any(ip_address(address) in each for each in self._limits.proxies)

    def data_received(self, data: bytes) -> None:
        """Wait for the end of what is asked; that more of it comes is not enough."""
        super().data_received(data)
        if self.cycle and not self.cycle.response_complete:
            self._asks.end()
        else:
            self._asks.begin()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._reads.begin()

    def resume_writing(self) -> None:
        """Wait no more."""
        super().resume_writing()
        self._reads.end()

    def _close(self) -> None:
        self.transport.close()

    def _abort(self) -> None:
        self.transport.abort()  # what is still to be sent has nobody who reads it

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._asks.end()
        self._reads.end()
        super().connection_lost(exc)


class Deadline:
    """Calls something unless what is waited for comes in time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, late: Callable[[], None]
    ) -> None:
        """Wait so many seconds, once begun, before `late` is called."""
        self._loop = loop
        self._seconds = seconds
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Wait, from now on or from when this was said first."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._late)

    def end(self) -> None:
        """Wait no more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
