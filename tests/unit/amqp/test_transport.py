"""A transport between a real socket and a receiver, on the library's loop."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from rabbit.amqp.loop import Loop
from rabbit.amqp.transport import Transport
from rabbit.errors import ProtocolError

PATIENCE_SECONDS = 30.0


class Ear:
    """A receiver that keeps what it hears; it may raise when something arrives.

    Attributes:
        heard: all that has arrived.
        ends: the errors of the ends it was told of.
        has_seen_eof: whether nothing more will arrive.
        keeps_open: what it answers to that.
    """

    def __init__(self) -> None:
        """Have heard nothing."""
        self.heard = b""
        self.ends: list[BaseException | None] = []
        self.has_seen_eof = False
        self.keeps_open = False
        self.error: Exception | None = None

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

    def __init__(self) -> None:
        """Connect them."""
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.near_fd = near.fileno()
        self._condition: Callable[[], bool] = lambda: True
        self._loop = Loop(self._stop_when_true)
        self.ear = Ear()
        self.transport = Transport(near, self.ear, SelectorIOServicesAdapter(self._loop))

    def turn_until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until `condition` is true; fail when that takes too long."""
        self._condition = condition
        late = self._loop.call_later(PATIENCE_SECONDS, self._loop.stop)
        self._loop.wake()
        self._loop.start()
        self._loop.remove_timeout(late)
        assert condition()

    def while_turning(self, function: Callable[[], bytes]) -> bytes:
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


@contextmanager
def line() -> Iterator[Line]:
    """Make a line, and close it in the end."""
    made = Line()
    try:
        yield made
    finally:
        made.close()


def _receive(far: socket.socket, size: int) -> bytes:
    far.settimeout(PATIENCE_SECONDS)
    received = b""
    while len(received) < size:
        received += far.recv(size - len(received))
    return received


def test_what_is_written_is_sent_at_once() -> None:
    """It need not wait for a turn of the loop."""
    with line() as made:
        made.transport.write(b"hello")

        assert _receive(made.far, 5) == b"hello"
        assert made.transport.get_write_buffer_size() == 0


def test_what_the_socket_does_not_take_follows_in_order() -> None:
    """Everything arrives, in order, when the other end is slow to read."""
    with line() as made:
        sent = [bytes([number]) * 300_000 for number in range(20)]
        for data in sent:
            made.transport.write(data)
        left = made.transport.get_write_buffer_size()
        assert left > 0

        received = made.while_turning(lambda: _receive(made.far, 6_000_000))

        assert received == b"".join(sent)
        assert made.transport.get_write_buffer_size() == 0


def test_what_arrives_is_heard() -> None:
    """All of it, also when it is more than one read takes."""
    with line() as made:
        data = bytes(range(256)) * 8192

        def send() -> bytes:
            made.far.sendall(data)
            return data

        made.while_turning(send)
        made.turn_until(lambda: len(made.ear.heard) == len(data))
        assert made.ear.heard == data


def test_the_end_of_the_stream_ends_the_connection() -> None:
    """Once, and it counts as no error here: the receiver knows what it means."""
    with line() as made:
        made.far.close()
        made.turn_until(lambda: bool(made.ear.ends))

        assert made.ear.has_seen_eof
        assert made.ear.ends == [None]


def test_a_receiver_may_keep_a_half_closed_connection() -> None:
    """It can still write."""
    with line() as made:
        made.ear.keeps_open = True
        made.far.shutdown(socket.SHUT_WR)
        made.turn_until(lambda: made.ear.has_seen_eof)
        made.transport.write(b"still here")

        assert _receive(made.far, 10) == b"still here"
        assert made.ear.ends == []


def test_a_write_that_fails_ends_the_connection_in_the_next_turn() -> None:
    """Not within the write: whoever writes is in the middle of something."""
    with line() as made:
        made.far.close()
        made.transport.write(b"into the void")
        made.transport.write(b"and again")
        assert made.ear.ends == []

        made.turn_until(lambda: bool(made.ear.ends))
        assert len(made.ear.ends) == 1
        assert isinstance(made.ear.ends[0], (BrokenPipeError, ConnectionResetError))


def test_abort_drops_what_is_not_sent() -> None:
    """The receiver hears of the end once, without an error, and of nothing after that."""
    with line() as made:
        made.transport.write(b"x" * 10_000_000)
        made.transport.abort()
        made.transport.abort()
        made.far.send(b"too late")
        assert made.ear.ends == []

        made.turn_until(lambda: bool(made.ear.ends))
        assert made.ear.ends == [None]
        assert made.ear.heard == b""


def test_abort_counts_more_than_a_failure() -> None:
    """Who has asked for the end is not told of an error that came before."""
    with line() as made:
        made.far.close()
        made.transport.write(b"into the void")
        made.transport.abort()

        made.turn_until(lambda: bool(made.ear.ends))
        assert made.ear.ends == [None]


def test_what_cannot_be_understood_ends_the_connection() -> None:
    """The peer's fault is the reason of the end; the loop goes on."""
    with line() as made:
        made.ear.error = ProtocolError("no frame")
        made.far.send(b"gibberish")

        made.turn_until(lambda: bool(made.ear.ends))
        assert made.ear.ends == [made.ear.error]


@pytest.mark.parametrize("error", [ValueError("a bug"), BlockingIOError("like an empty socket's")])
def test_an_error_of_ours_is_not_the_networks(error: Exception) -> None:
    """It ends the loop, and is not told as the end of a connection."""
    with line() as made:
        made.ear.error = error
        made.far.send(b"once")

        with pytest.raises(type(error)) as raised:
            made.turn_until(lambda: bool(made.ear.ends))
        assert raised.value is error
        assert made.ear.ends == []
        assert made.ear.heard == b"once"


@pytest.mark.parametrize("size", [1, 4096, 600_000])
def test_a_reader_of_any_pace_gets_what_was_written(size: int) -> None:
    """The rest of a write is sent as room comes up."""
    with line() as made:
        made.transport.write(b"y" * size)

        assert made.while_turning(lambda: _receive(made.far, size)) == b"y" * size
