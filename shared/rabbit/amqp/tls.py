"""TLS on a connected socket, with large reads and writes below it; without pika.

Python's `SSLSocket` reads each record with two system calls, and the broker's records are small. So
here OpenSSL works in memory, and the socket is read and written in large pieces.
"""

import socket
import ssl
from contextlib import suppress

#: The most that is read from the network with one system call.
READ_BYTES = 256 * 1024

#: The most that is encrypted at a time, and so the most that is kept twice.
WRITE_BYTES = 256 * 1024

#: No record is larger with all that is added to it (RFC 5246, section 6.2.3).
_RECORD_BYTES = 5 + 2**14 + 2048

#: What `recv_into` needs room for: one read, after the beginning of a record from the one before.
ROOM_BYTES = READ_BYTES + _RECORD_BYTES


class TlsSocket:
    """What a non-blocking socket is to a transport, with TLS in between."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str | None) -> None:
        """Prepare; `shake_hands` comes first.

        Args:
            sock: connected and non-blocking; it is this one's from now on.
            context: how to check the peer's certificate, and which one to show it.
            host: the name that the peer's certificate has to be for.

        Raises:
            ValueError: that can be no name in a certificate.
        """
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._received = memoryview(bytearray(READ_BYTES))
        self._unsent = memoryview(b"")  # encrypted
        self._owed = 0  # how much of what was given to `send` is in there

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._socket.fileno()

    @property
    def is_sent(self) -> bool:
        """Whether the socket has taken all that was encrypted."""
        return not self._unsent

    def shake_hands(self) -> bool:
        """Go on with the handshake: when the socket is readable, or writable and not `is_sent`.

        Returns:
            whether it is done.

        Raises:
            OSError: it has failed; as `ssl.SSLError`, where TLS is why.
        """
        with suppress(BlockingIOError, InterruptedError):
            if not self._receive():
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the handshake was not finished")
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return False
        except ssl.SSLError:
            with suppress(OSError):
                self.flush()  # the alert that tells the peer why
            raise
        self.flush()
        return self.is_sent

    def recv_into(self, buffer: memoryview) -> int:
        """Read once from the socket; decrypt all that has come, so that nothing waits unnoticed.

        Args:
            buffer: has room for ROOM_BYTES.

        Returns:
            how many bytes are in the buffer now; 0: nothing more will come. A connection that ends
            without TLS's own farewell is no error: AMQP has one too, and knows what is missing.

        Raises:
            BlockingIOError: none yet.
            OSError: as a socket does, or `ssl.SSLError`.
        """
        is_at_end = False
        try:
            is_at_end = not self._receive()
        except (BlockingIOError, InterruptedError):
            if not self._incoming.pending:  # what came together with the end of the handshake
                raise
        count = 0
        with suppress(ssl.SSLWantReadError):
            while read := self._tls.read(len(buffer) - count, buffer[count:]):
                count += read  # type: ignore[operator] # the stubs do not know this form
            is_at_end = True
            with suppress(OSError):  # nothing counts after a farewell (RFC 8446, section 6.1)
                self._socket.shutdown(socket.SHUT_RD)
        with suppress(OSError):  # what was read counts first; the next call meets it again
            self.flush()  # an answer of TLS's own
        if not count and not is_at_end:
            raise BlockingIOError
        return count

    def send(self, data: memoryview) -> int:
        """Encrypt and send the beginning of `data`.

        As with OpenSSL: as long as it does not return, it has to be called again with the same.

        Returns:
            how much of it the socket has taken, all encrypted.

        Raises:
            BlockingIOError: the socket takes no more now.
            ssl.SSLWantReadError: TLS has to read first (TLS 1.2 renegotiates).
            OSError: as a socket does, or `ssl.SSLError`.
        """
        if not self._owed:
            try:
                self._owed = self._tls.write(data[:WRITE_BYTES])
            except ssl.SSLWantReadError:
                self.flush()  # what it waits for may be the answer to that
                raise
        if not self.flush():
            raise BlockingIOError
        sent, self._owed = self._owed, 0
        return sent

    def flush(self) -> bool:
        """Send what is encrypted, as far as the socket takes it; also TLS's own answers are.

        Returns:
            whether the socket has taken all of it.

        Raises:
            OSError: as a socket does.
        """
        with suppress(BlockingIOError, InterruptedError):
            while self._unsent or self._outgoing.pending:
                if not self._unsent:
                    self._unsent = memoryview(self._outgoing.read())
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        return not self._unsent

    def shutdown(self, how: int) -> None:
        """Say farewell, if there is room for it, without waiting for the peer's; then end."""
        with suppress(OSError, ValueError):
            self._tls.unwrap()
        with suppress(OSError):
            self.flush()
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket, without a word: after a fork it is the other process's."""
        self._socket.close()

    def _receive(self) -> int:
        count = self._socket.recv_into(self._received)
        self._incoming.write(self._received[:count])
        return count
