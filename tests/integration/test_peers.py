"""Whoever listens where RabbitMQ should: each gets its own line, from real sockets."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import pytest

from tests.conftest import Start

RECORDER = ("-m", "tests.integration.stages.recorder")

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

#: connection.start, as far as its size: much more than a frame may have before connection.tune.
HUGE = b"\x01\x00\x00\x7f\xff\xff\xff\x00\x0a\x00\x0a"


@contextmanager
def listening(answer: bytes | None, *, stays: bool) -> Iterator[int]:
    """Answer whatever comes with these bytes; `stays`: keep the connection then. Give the port."""
    server = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                kept.append(connection)
                if answer is not None:
                    connection.recv(8)
                    connection.sendall(answer)
                if not stays:
                    connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=serve, daemon=True).start()
    with ExitStack() as stack:
        stack.callback(server.close)
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for each in kept:
                each.close()


PEERS: list[tuple[str, Callable[[], AbstractContextManager[int]], str]] = [
    ("silent", lambda: listening(None, stays=True), "accepts a connection and stays silent: is"),
    ("closing", lambda: listening(None, stays=False), "accepts a connection and closes it"),
    ("http", lambda: listening(HTTP, stays=True), "answers with HTTP: it is no AMQP port"),
    (
        "amqp 1.0",
        lambda: listening(b"AMQP\x00\x01\x00\x00", stays=True),
        "speaks another version of AMQP",
    ),
    ("ssh", lambda: listening(b"SSH-2.0-OpenSSH_9\r\n", stays=True), "does not speak AMQP"),
    ("huge", lambda: listening(HUGE, stays=True), "a frame of 2147483655 bytes, and 131072 were"),
]


@pytest.mark.parametrize(
    ("peer", "told"), [each[1:] for each in PEERS], ids=[each[0] for each in PEERS]
)
def test_another_listener_is_told_from_rabbitmq(
    start: Start, peer: Callable[[], AbstractContextManager[int]], told: str
) -> None:
    """One line; the stage goes on trying, and obeys SIGTERM."""
    with ExitStack() as stack:
        port = stack.enter_context(peer())
        stage = start(*RECORDER, ready=False, INPUT_QUEUE="in", RABBITMQ_PORT=port)
        stage.wait_log(told)

        assert stage.halt() == 0
    assert stage.log.count("broker unavailable") == 1
    assert f"127.0.0.1:{port}" in stage.log
    assert "Traceback" not in stage.log
