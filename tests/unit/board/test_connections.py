"""Clients that keep the server waiting: real sockets, and uvicorn as the board runs it."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_network

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from services.board.connections import BoundedConnection, Limits
from tests.ports import free_port
from tests.waiting import wait_until

QUICK = Limits(of_one_address=20, ask_seconds=0.3, read_seconds=0.3)

#: For clients that do nothing wrong, on a busy machine.
FAIR = Limits(ask_seconds=2.0)

#: More than the buffers of both ends hold.
LARGE = b"x" * 32 * 1024 * 1024


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with little, with much, or late."""
    del receive
    if scope["path"] == "/late":
        await asyncio.sleep(1.2 * FAIR.ask_seconds)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = LARGE if scope["path"] == "/large" else b"here"
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


Serve = Callable[[Limits], "Served"]


class Served:
    """A server in a thread, and clients of it."""

    def __init__(self, limits: Limits) -> None:
        """Have it listen."""
        self.port = free_port()
        self._clients = ExitStack()
        config = uvicorn.Config(
            _app,
            port=self.port,
            http=partial(BoundedConnection, limits),  # type: ignore[arg-type]
            log_config=None,
            lifespan="off",
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()
        wait_until(lambda: self.server.started, 10, "it listens")

    def end(self) -> None:
        """End it, and its clients."""
        self._clients.close()
        self.server.should_exit = True
        self._thread.join(10)

    def client(self, sent: bytes = b"") -> socket.socket:
        """Connect, and send something."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self._clients.enter_context(client)
        client.sendall(sent)
        return client

    def answers(self) -> bool:
        """Whether somebody who comes now is served."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/").text == "here"
        except httpx.TransportError:
            return False

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self.server.server_state.connections)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Run servers."""
    with ExitStack() as stack:

        def served(limits: Limits) -> Served:
            running = Served(limits)
            stack.callback(running.end)
            return running

        yield served


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: b\r\n"])
def test_who_does_not_ask_is_let_go(serve: Serve, sent: bytes) -> None:
    """Whether it says nothing, or begins to."""
    client = serve(QUICK).client(sent)

    assert client.recv(100) == b""


def test_a_byte_at_a_time_is_no_request(serve: Serve) -> None:
    """However long it goes on; after an answer, too."""
    served = serve(FAIR)
    client = served.client(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
    wait_until(lambda: served.server.server_state.total_requests == 1, 10, "it is answered")

    def is_gone() -> bool:
        try:
            client.send(b"x")
        except (BrokenPipeError, ConnectionResetError):
            return True
        return False

    wait_until(is_gone, 30, "it is let go")


def test_who_reads_nothing_is_let_go(serve: Serve) -> None:
    """What was to be sent is forgotten."""
    served = serve(QUICK)
    served.client(b"GET /large HTTP/1.1\r\nHost: b\r\n\r\n")

    wait_until(lambda: served.connections == 1, 10, "it is there")
    wait_until(lambda: served.connections == 0, 10, "it is let go")


def test_who_reads_is_served(serve: Serve) -> None:
    """However much it is."""
    served = serve(FAIR)

    assert len(httpx.get(f"http://127.0.0.1:{served.port}/large").content) == len(LARGE)


def test_who_has_asked_may_wait_for_the_answer(serve: Serve) -> None:
    """Longer than it may take to ask."""
    assert httpx.get(f"http://127.0.0.1:{serve(FAIR).port}/late").text == "here"


def test_one_address_has_so_many_connections(serve: Serve) -> None:
    """More are told why they are not served; once some are closed, others may come."""
    served = serve(Limits(of_one_address=20))
    clients = [served.client() for _ in range(20)]
    wait_until(lambda: served.connections == 20, 10, "all are there")

    assert b"too many connections" in served.client().recv(1000)
    assert not served.answers()
    clients[0].close()
    wait_until(served.answers, 10, "there is room again")


def test_a_proxy_has_the_connections_of_all(serve: Serve) -> None:
    """Its clients are many."""
    served = serve(Limits(of_one_address=20, proxies=(ip_network("127.0.0.0/8"),)))
    for _ in range(30):
        served.client()

    wait_until(lambda: served.connections == 30, 10, "all are there")
    assert served.answers()
