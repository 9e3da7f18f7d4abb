"""The proxy between a stage and the broker, of which both come and go."""

import socket

from tests.integration.proxy import Proxy
from tests.ports import free_port


def test_it_outlives_its_target() -> None:
    """While nobody listens there, it closes what connects; then it passes on again."""
    target = free_port()
    with Proxy(target) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), 10) as refused:
            assert refused.recv(1) == b""
        with (
            socket.create_server(("127.0.0.1", target)) as listener,
            socket.create_connection(("127.0.0.1", proxy.port), 10) as near,
        ):
            near.sendall(b"a")
            listener.settimeout(10)
            far, _ = listener.accept()
            with far:
                assert far.recv(1) == b"a"
