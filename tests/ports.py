"""Ports of this machine for what tests start, also while other tests run beside them."""

import secrets
import socket
from contextlib import suppress

#: Below those that the kernel gives to connections, and Docker to containers: one of these that is
#: free now may be taken before whoever asks begins to listen, or while a broker restarts.
_FIRST, _COUNT = 20_000, 12_000


def free_ports(count: int) -> list[int]:
    """Choose ports, all different, that nobody listens on."""
    found: set[int] = set()
    while len(found) < count:
        port = _FIRST + secrets.randbelow(_COUNT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


def free_port() -> int:
    """Choose a port that nobody listens on."""
    (port,) = free_ports(1)
    return port
