"""A transport between a real socket and a receiver, on the library's loop; plain and with TLS."""

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from rabbit.amqp.loop import Loop
from rabbit.amqp.services import Services
from rabbit.amqp.transport import Transport
from rabbit.errors import ProtocolError
from tests.unit.amqp.certificates import Certificates, Contexts

PATIENCE_SECONDS = 30.0

Result = TypeVar("Result")


class Ear:
    """A receiver that keeps what it hears; it may raise when something arrives.

    Attributes:
        heard: all that has arrived.
        ends: the errors of the ends it was told of.
        has_seen_eof: whether nothing more will arrive.
        keeps_open: what it answers to that.
    """

    transport: Transport

    def __init__(self) -> None:
        """Have heard nothing."""
        self.heard = b""
        self.ends: list[BaseException | None] = []
        self.has_seen_eof = False
        self.keeps_open = False
        self.error: Exception | None = None

    def connection_made(self, transport: Transport) -> None:
        """Keep it."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.heard += data
        if self.error:
            raise self.error

    def eof_received(self) -> bool:
        """Note it."""
        self.has_seen_eof = True
        return self.keeps_open

    def connection_lost(self, error: BaseException | None) -> None:
        """Note it."""
        self.ends.append(error)


class Line:
    """A transport with its ear, and the other end of its socket."""

    def __init__(self, contexts: Contexts | None) -> None:
        """Connect them.

        Args:
            contexts: for TLS; None: it is plain.
        """
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self._condition: Callable[[], bool] = lambda: True
        self._loop = Loop(self._stop_when_true)
        self.ear = Ear()
        made: list[object] = []
        client, name = (contexts.client, "localhost") if contexts else (None, None)
        Services(self._loop).create_streaming_connection(
            lambda: self.ear, near, made.append, client, name
        )
        if contexts:
            self.far = self.while_turning(lambda: contexts.accept(self.far, PATIENCE_SECONDS))
        self.turn_until(lambda: bool(made))
        self.transport = self.ear.transport

    def turn_until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until `condition` is true; fail when that takes too long."""
        self._condition = condition
        late = self._loop.call_later(PATIENCE_SECONDS, self._loop.stop)
        self._loop.wake()
        self._loop.start()
        self._loop.remove_timeout(late)
        assert condition()

    def while_turning(self, function: Callable[[], Result]) -> Result:
        """Run what the other end does in a thread, with the loop turning; return its result."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(function)
            future.add_done_callback(lambda _: self._loop.wake())
            self.turn_until(future.done)
            return future.result()

    def close(self) -> None:
        """Close both ends."""
        self.far.close()
        self.transport.abort()
        self.turn_until(lambda: bool(self.ear.ends))
        self._loop.close()

    def _stop_when_true(self) -> None:
        if self._condition():
            self._loop.stop()


@pytest.fixture(
    params=[None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
    ids=["plain", "TLS 1.2", "TLS 1.3"],
)
def line(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Line]:
    """Make a line without TLS, and with each version of it; close it in the end."""
    made = Line(request.param and certificates.contexts(request.param))
    yield made
    made.close()


def _receive(far: socket.socket, size: int) -> bytes:
    far.settimeout(PATIENCE_SECONDS)
    received = b""
    while len(received) < size:
        received += far.recv(size - len(received))
    return received


def test_what_is_written_is_sent_at_once(line: Line) -> None:
    """It need not wait for a turn of the loop."""
    line.transport.write(b"hello")

    assert _receive(line.far, 5) == b"hello"
    assert line.transport.get_write_buffer_size() == 0


def test_what_the_socket_does_not_take_follows_in_order(line: Line) -> None:
    """Everything arrives, in order, when the other end is slow to read."""
    sent = [bytes([number]) * 300_000 for number in range(20)]
    for data in sent:
        line.transport.write(data)
    left = line.transport.get_write_buffer_size()
    assert left > 0

    received = line.while_turning(lambda: _receive(line.far, 6_000_000))

    assert received == b"".join(sent)
    assert line.transport.get_write_buffer_size() == 0


def test_what_arrives_is_heard(line: Line) -> None:
    """All of it, also when it is more than one read takes."""
    data = bytes(range(256)) * 8192

    def send() -> bytes:
        line.far.sendall(data)
        return data

    line.while_turning(send)
    line.turn_until(lambda: len(line.ear.heard) == len(data))
    assert line.ear.heard == data


def test_the_end_of_the_stream_ends_the_connection(line: Line) -> None:
    """Once, and it counts as no error here: the receiver knows what it means."""
    line.far.close()
    line.turn_until(lambda: bool(line.ear.ends))

    assert line.ear.has_seen_eof
    assert line.ear.ends == [None]


def test_a_receiver_may_keep_a_half_closed_connection(line: Line) -> None:
    """It can still write."""
    line.ear.keeps_open = True
    socket.socket.shutdown(line.far, socket.SHUT_WR)  # an SSLSocket would forget TLS
    line.turn_until(lambda: line.ear.has_seen_eof)
    line.transport.write(b"still here")

    assert _receive(line.far, 10) == b"still here"
    assert line.ear.ends == []


def test_a_write_that_fails_ends_the_connection_in_the_next_turn(line: Line) -> None:
    """Not within the write: whoever writes is in the middle of something."""
    line.far.close()
    line.transport.write(b"into the void")
    line.transport.write(b"and again")
    assert line.ear.ends == []

    line.turn_until(lambda: bool(line.ear.ends))
    assert len(line.ear.ends) == 1
    assert isinstance(line.ear.ends[0], (BrokenPipeError, ConnectionResetError))


def test_abort_drops_what_is_not_sent(line: Line) -> None:
    """The receiver hears of the end once, without an error, and of nothing after that."""
    line.transport.write(b"x" * 10_000_000)
    line.transport.abort()
    line.transport.abort()
    line.far.send(b"too late")
    assert line.ear.ends == []

    line.turn_until(lambda: bool(line.ear.ends))
    assert line.ear.ends == [None]
    assert line.ear.heard == b""


def test_abort_counts_more_than_a_failure(line: Line) -> None:
    """Who has asked for the end is not told of an error that came before."""
    line.far.close()
    line.transport.write(b"into the void")
    line.transport.abort()

    line.turn_until(lambda: bool(line.ear.ends))
    assert line.ear.ends == [None]


def test_what_cannot_be_understood_ends_the_connection(line: Line) -> None:
    """The peer's fault is the reason of the end; the loop goes on."""
    line.ear.error = ProtocolError("no frame")
    line.far.send(b"gibberish")

    line.turn_until(lambda: bool(line.ear.ends))
    assert line.ear.ends == [line.ear.error]


@pytest.mark.parametrize("error", [ValueError("a bug"), BlockingIOError("like an empty socket's")])
def test_an_error_of_ours_is_not_the_networks(line: Line, error: Exception) -> None:
    """It ends the loop, and is not told as the end of a connection."""
    line.ear.error = error
    line.far.send(b"once")

    with pytest.raises(type(error)) as raised:
        line.turn_until(lambda: bool(line.ear.ends))
    assert raised.value is error
    assert line.ear.ends == []
    assert line.ear.heard == b"once"


@pytest.mark.parametrize("size", [1, 4096, 600_000])
def test_a_reader_of_any_pace_gets_what_was_written(line: Line, size: int) -> None:
    """The rest of a write is sent as room comes up."""
    line.transport.write(b"y" * size)

    assert line.while_turning(lambda: _receive(line.far, size)) == b"y" * size
