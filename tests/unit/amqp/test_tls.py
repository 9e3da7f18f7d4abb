"""What TLS adds to a transport: the handshake, and records that come as they please."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import pytest

from rabbit.amqp.loop import Loop
from rabbit.amqp.services import Linkup, Services
from rabbit.amqp.tls import ROOM_BYTES, TlsSocket
from rabbit.amqp.transport import READ_BYTES, Transport
from tests.unit.amqp.certificates import Certificates, Contexts

PATIENCE_SECONDS = 5.0


class Ear:
    """A receiver that keeps what it hears."""

    heard = b""

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.heard += data

    def eof_received(self) -> None:
        """Let it end."""

    def connection_lost(self, error: BaseException | None) -> None:
        """Let it end."""


class Server:
    """The other end, which sends what it has to say when it is told to, in any pieces."""

    def __init__(self, sock: socket.socket, contexts: Contexts) -> None:
        """Be ready for a handshake."""
        sock.settimeout(PATIENCE_SECONDS)
        self.socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = contexts.server.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def hear(self) -> None:
        """Take what the other end has sent."""
        self._incoming.write(self.socket.recv(65536))

    def said(self) -> bytes:
        """Return what is to be sent, and was not."""
        return self._outgoing.read()

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is done."""
        self.hear()
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            return True
        return False


class Ends:
    """Two ends of a line, the near one without a loop.

    Attributes:
        near: ours.
        below: what is below its TLS.
        far: the server's.
    """

    def __init__(self, contexts: Contexts) -> None:
        """Connect them; hands are not shaken yet."""
        self.below, far = socket.socketpair()
        self.below.setblocking(False)
        self.near = TlsSocket(self.below, contexts.client, "localhost")
        self.far = Server(far, contexts)
        self._buffer = memoryview(bytearray(READ_BYTES))

    def shake_hands(self) -> bytes:
        """Let both shake hands; return the last that the server has to say, unsent."""
        self.near.shake_hands()
        while not self.far.shake_hands():
            self.far.socket.sendall(self.far.said())
            self.near.shake_hands()
        return self.far.said()

    def read(self) -> bytes:
        """Read once at the near end."""
        return bytes(self._buffer[: self.near.recv_into(self._buffer)])


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def ends(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Ends]:
    """Connect two ends with each version of TLS."""
    made = Ends(certificates.contexts(request.param))
    yield made
    made.near.close()
    made.far.socket.close()


def test_a_transport_has_room_for_what_one_read_brings() -> None:
    """Else something decrypted would wait for a socket that has nothing more to say."""
    assert READ_BYTES >= ROOM_BYTES


def test_what_comes_with_the_end_of_the_handshake_is_heard(ends: Ends) -> None:
    """The socket has been read by then, and has nothing more to say."""
    last = ends.shake_hands()
    ends.far.tls.write(b"hello")
    ends.far.socket.sendall(last + ends.far.said())
    assert ends.near.shake_hands()
    loop, ear = Loop(lambda: None), Ear()
    Transport(ends.near, ear, Services(loop))
    loop.call_later(0, loop.stop)
    loop.start()
    loop.close()

    assert ear.heard == b"hello"


def test_many_records_are_one_read(ends: Ends) -> None:
    """As many as have come, each as small as it likes."""
    ends.far.socket.sendall(ends.shake_hands())
    assert ends.near.shake_hands()
    for number in range(1000):
        ends.far.tls.write(b"%03d" % number)
    ends.far.socket.sendall(ends.far.said())

    assert ends.read() == b"".join(b"%03d" % number for number in range(1000))


def test_a_record_may_come_in_pieces(ends: Ends) -> None:
    """Until it is whole, there is nothing to read; that is not the end."""
    ends.far.socket.sendall(ends.shake_hands())
    assert ends.near.shake_hands()
    ends.far.tls.write(b"whole")
    *pieces, last = (bytes([each]) for each in ends.far.said())
    for piece in pieces:
        ends.far.socket.sendall(piece)
        with pytest.raises(BlockingIOError):
            ends.read()
    ends.far.socket.sendall(last)

    assert ends.read() == b"whole"


def test_an_answer_of_tls_itself_waits_for_room_only(contexts: Contexts) -> None:
    """Nothing else has to be sent before it goes: here, that there is no certificate to show."""
    contexts.client.post_handshake_auth = contexts.server.post_handshake_auth = True
    contexts.server.verify_mode = ssl.CERT_REQUIRED
    ends, loop = Ends(contexts), Loop(lambda: None)
    ends.far.socket.sendall(ends.shake_hands())
    assert ends.near.shake_hands()
    in_the_way = 0
    with suppress(BlockingIOError):
        while True:
            in_the_way += ends.below.send(b"x")
    Transport(ends.near, ear := Ear(), services := Services(loop))
    ends.far.tls.verify_client_post_handshake()
    ends.far.tls.write(b"who are you?")
    ends.far.socket.sendall(ends.far.said())
    loop.call_later(0, loop.stop)
    loop.start()
    assert ear.heard == b"who are you?"

    assert len(ends.far.socket.recv(in_the_way, socket.MSG_WAITALL)) == in_the_way
    services.set_reader(ends.far.socket.fileno(), loop.stop)
    loop.call_later(PATIENCE_SECONDS, loop.stop)
    loop.start()
    loop.close()

    ends.far.hear()
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        ends.far.tls.read()
    ends.near.close()
    ends.far.socket.close()


def test_a_farewell_is_the_end_even_if_the_line_stays_open(ends: Ends) -> None:
    """What came before it is heard; what comes after it is not."""
    ends.far.socket.sendall(ends.shake_hands())
    assert ends.near.shake_hands()
    ends.far.tls.write(b"last words")
    with suppress(ssl.SSLWantReadError):
        ends.far.tls.unwrap()
    ends.far.socket.sendall(ends.far.said())

    assert ends.read() == b"last words"
    assert ends.read() == b""


def test_a_farewell_is_said(ends: Ends) -> None:
    """The peer can tell an end from a line that was cut."""
    ends.far.socket.sendall(ends.shake_hands())
    assert ends.near.shake_hands()
    ends.near.shutdown(socket.SHUT_RDWR)
    ends.far.hear()

    assert ends.far.tls.read() == b""


def test_a_record_that_was_tampered_with_is_an_error(ends: Ends) -> None:
    """It is TLS's, and says what is wrong."""
    ends.far.socket.sendall(ends.shake_hands())
    assert ends.near.shake_hands()
    ends.far.tls.write(b"to be tampered with")
    record = bytearray(ends.far.said())
    record[-1] ^= 1
    ends.far.socket.sendall(record)

    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        ends.read()


class Linking:
    """A link-up on a loop, to a server that answers with `Server`, or not at all.

    Attributes:
        far: the server's end.
        found: what the link-up has come to.
    """

    def __init__(self, contexts: Contexts, host: str) -> None:
        """Begin."""
        self._near, self.far = socket.socketpair()
        self._near.setblocking(False)
        self.server = Server(self.far, contexts)
        self.found: list[object] = []
        self._loop = Loop(self._stop_when_found)
        self._secure = lambda sock: TlsSocket(sock, contexts.client, host)
        self.linkup = Linkup(self._near, self._secure, self._find, Services(self._loop))

    def turn_until_found(self) -> None:
        """Let the loop turn until it has come to something."""
        self._loop.call_later(PATIENCE_SECONDS, self._loop.stop)
        self._loop.start()
        assert self.found

    def turn_until_asked(self) -> None:
        """Let the loop turn until the client has said hello."""
        self._loop.call_later(0, self._loop.stop)
        self._loop.start()
        assert not self.server.shake_hands()

    def close(self) -> None:
        """Close both ends."""
        self.linkup.cancel()
        self.far.close()
        self._loop.close()

    def _find(self, found: object) -> None:
        self.found.append(found)

    def _stop_when_found(self) -> None:
        if self.found:
            self._loop.stop()


@pytest.fixture
def contexts(certificates: Certificates) -> Contexts:
    """Return what both ends need."""
    return certificates.contexts()


def test_a_certificate_for_another_name_is_refused(contexts: Contexts) -> None:
    """The caller gets the reason, the server an alert, and the socket is closed."""
    linking = Linking(contexts, "elsewhere")
    linking.turn_until_asked()
    linking.far.sendall(linking.server.said())
    linking.turn_until_found()

    (error,) = linking.found
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert "not valid for 'elsewhere'" in error.verify_message
    linking.server.hear()
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_CERTIFICATE"):
        linking.server.tls.do_handshake()
    assert linking.far.recv(1) == b""
    linking.close()


def test_a_name_that_can_be_in_no_certificate_is_refused(contexts: Contexts) -> None:
    """It is told like what the network brings, and does not end the loop."""
    linking = Linking(contexts, ".example")
    linking.turn_until_found()

    assert isinstance(linking.found[0], ValueError)
    assert linking.far.recv(1) == b""
    linking.close()


def test_a_server_that_goes_away_is_told(contexts: Contexts) -> None:
    """The handshake has failed."""
    linking = Linking(contexts, "localhost")
    linking.turn_until_asked()
    linking.far.close()
    linking.turn_until_found()

    assert isinstance(linking.found[0], ssl.SSLEOFError)
    linking.close()


def test_a_handshake_can_be_given_up(contexts: Contexts) -> None:
    """As after the time for an attempt: the socket is closed, and nobody is told any more."""
    linking = Linking(contexts, "localhost")
    linking.turn_until_asked()

    assert linking.linkup.cancel()
    assert not linking.linkup.cancel()
    assert linking.far.recv(1) == b""
    assert linking.found == []
    linking.close()
