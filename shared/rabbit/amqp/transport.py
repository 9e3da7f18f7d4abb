"""A connected socket that sends at once and reads in large pieces; without pika.

pika's own transports read 4 KiB a system call, and send only when the poller has said, a turn
later, that they may. So here are the four methods that a pika connection asks of a transport
(`AbstractStreamTransport`), for plain TCP and for TLS alike.
"""

import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from rabbit.amqp.tls import TlsSocket
from rabbit.errors import ProtocolError

#: The most that is read from the network with one system call.
READ_BYTES = 512 * 1024


class Receiver(Protocol):
    """Who is told what the socket brings (pika's `AbstractStreamProtocol`)."""

    def data_received(self, data: bytes) -> None:
        """Take what has arrived.

        Raises:
            ProtocolError: the peer's fault, which ends the connection; other errors are ours.
        """

    def eof_received(self) -> bool | None:
        """Take note that nothing more will arrive."""

    def connection_lost(self, error: BaseException | None) -> None:
        """Take note of the end; `error` is None when it was asked for."""


class Services(Protocol):
    """The loop (pika's `AbstractFileDescriptorServices` and `add_callback_threadsafe`)."""

    def set_reader(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever there is something to read."""

    def set_writer(self, fd: int, on_writable: Callable[[], None]) -> None:
        """Call `on_writable` whenever there is room to write."""

    def remove_reader(self, fd: int) -> bool:
        """Stop that."""

    def remove_writer(self, fd: int) -> bool:
        """Stop that."""

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the next turn."""


class Transport:
    """Carries bytes between a connected, non-blocking socket and its receiver."""

    def __init__(
        self, sock: socket.socket | TlsSocket, receiver: Receiver, services: Services
    ) -> None:
        """Begin to read.

        Args:
            sock: it is this transport's from now on; with TLS, the handshake is done.
            receiver: told what arrives, and of the end.
            services: the loop that everything runs on.
        """
        self._socket = sock
        self._receiver = receiver
        self._services = services
        self._received = memoryview(
            bytearray(READ_BYTES)
        )  # a new one a call would be a new mapping
        self._unsent: deque[memoryview] = deque()
        self._awaits_room = False
        self._is_ended = False
        self._error: BaseException | None = None
        services.set_reader(sock.fileno(), self._readable)
        # Something may have come together with the end of the TLS handshake.
        services.add_callback_threadsafe(self._readable)

    def get_protocol(self) -> Receiver:
        """Return the receiver."""
        return self._receiver

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the socket has not taken yet."""
        return sum(len(data) for data in self._unsent)

    def write(self, data: bytes | memoryview) -> None:
        """Send as much as the socket takes now; the rest follows as soon as it takes more."""
        if self._is_ended:
            return
        is_first = not self._unsent
        self._unsent.append(memoryview(data))  # what is left of it is cut off without a copy
        if is_first:
            self._send()

    def abort(self) -> None:
        """Close without sending the rest; the receiver hears of the end in the next turn."""
        self._end(None)

    def _readable(self) -> None:
        """Read once: what is left makes the poller say so again, after others have had a turn."""
        if self._is_ended:
            return
        try:
            count = self._socket.recv_into(self._received)
        except (BlockingIOError, InterruptedError):
            count = None
        except OSError as error:
            self._end(error)
            return
        if not self._awaits_room and (self._unsent or self._owes_answer()):
            self._send()  # TLS had to read something first, or to answer it
        if count is None:
            return
        try:
            self._hand_over(count)
        except ProtocolError as error:
            self._end(error)

    def _hand_over(self, count: int) -> None:
        if count:
            self._receiver.data_received(bytes(self._received[:count]))
        elif self._receiver.eof_received():
            self._services.remove_reader(self._socket.fileno())
        else:
            self._end(None)

    def _send(self) -> None:
        """Send what the socket takes; be called again when it takes more."""
        if self._is_ended:
            return
        try:
            awaits_room = not self._is_all_sent()
        except ssl.SSLWantReadError:
            awaits_room = self._owes_answer()  # if not, `_readable` calls again
        except OSError as error:
            self._end(error)
            return
        if awaits_room != self._awaits_room:
            self._awaits_room = awaits_room
            if awaits_room:
                self._services.set_writer(self._socket.fileno(), self._send)
            else:
                self._services.remove_writer(self._socket.fileno())

    def _is_all_sent(self) -> bool:
        try:
            while self._unsent:
                data = self._unsent[0]
                sent = self._socket.send(data)
                if sent < len(data):
                    self._unsent[0] = data[sent:]
                else:
                    self._unsent.popleft()
        except (BlockingIOError, InterruptedError):
            return False
        return not isinstance(self._socket, TlsSocket) or self._socket.flush()

    def _owes_answer(self) -> bool:
        """Whether something that TLS says of its own accord did not find room in the socket."""
        return isinstance(self._socket, TlsSocket) and not self._socket.is_sent

    def _end(self, error: BaseException | None) -> None:
        """Note why it ends; that somebody has asked for it counts more than a failure."""
        self._error = error if not self._is_ended else None
        if self._is_ended:
            return
        self._is_ended = True
        self._services.remove_reader(self._socket.fileno())
        self._services.remove_writer(self._socket.fileno())
        self._unsent.clear()
        self._services.add_callback_threadsafe(self._tell_of_end)

    def _tell_of_end(self) -> None:
        try:
            self._receiver.connection_lost(self._error)
        finally:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
