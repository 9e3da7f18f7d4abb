"""What pika asks of its I/O services and is done here: name lookup, TLS handshake, transport."""

import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from rabbit.amqp.outages import NoThread
from rabbit.amqp.tls import TlsSocket
from rabbit.amqp.transport import Transport


class Services(SelectorIOServicesAdapter):
    """pika's I/O services, with a transport and a name lookup of our own."""

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[..., None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:  # noqa: ANN401 - pika's
        """Begin to look up a host's addresses; see pika's `AbstractIOServices`."""
        return Lookup(
            lambda: socket.getaddrinfo(host, port, family, socktype, proto, flags),
            on_done,
            self.add_callback_threadsafe,
        )

    def create_streaming_connection(
        self,
        protocol_factory: Any,  # noqa: ANN401 - pika's
        sock: socket.socket,
        on_done: Any,  # noqa: ANN401 - pika's
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Any:  # noqa: ANN401 - pika's
        """Begin to speak on a connected socket; see pika's `AbstractIOServices`."""

        def link(found: socket.socket | TlsSocket | Exception) -> None:
            if isinstance(found, Exception):
                on_done(found)
                return
            protocol = protocol_factory()
            transport = Transport(found, protocol, self)
            protocol.connection_made(transport)
            on_done((transport, protocol))

        secure = (
            partial(TlsSocket, context=ssl_context, host=server_hostname) if ssl_context else None
        )
        return Linkup(sock, secure, link, self)


class Linkup:
    """A connected socket on its way to a transport, with TLS once hands are shaken."""

    def __init__(
        self,
        sock: socket.socket,
        secure: Callable[[socket.socket], TlsSocket] | None,
        on_done: Callable[[socket.socket | TlsSocket | Exception], object],
        services: Services,
    ) -> None:
        """Begin, in the next turn.

        Args:
            sock: closed unless it is handed on.
            secure: puts TLS on it; None: it stays plain.
            on_done: given what a transport can use, or why there is nothing.
            services: the loop.
        """
        self._socket: socket.socket | None = sock
        self._secure = secure
        self._on_done = on_done
        self._services = services
        services.add_callback_threadsafe(self._begin)  # type: ignore[no-untyped-call]

    def cancel(self) -> bool:
        """Close the socket, unless it is too late; see pika's `AbstractIOReference`."""
        sock = self._socket
        if sock is not None:
            self._release(sock)
            sock.close()
        return sock is not None

    def _release(self, sock: socket.socket | TlsSocket) -> None:
        self._socket = None
        self._services.remove_reader(sock.fileno())
        self._services.remove_writer(sock.fileno())

    def _begin(self) -> None:
        if self._socket is None:
            return
        sock = self._socket
        if self._secure is None:
            self._release(sock)
            self._on_done(sock)
            return
        try:
            tls = self._secure(sock)
        except ValueError as error:
            self._fail(error)
            return
        self._services.set_reader(tls.fileno(), partial(self._shake_hands, tls))
        self._shake_hands(tls)

    def _shake_hands(self, tls: TlsSocket) -> None:
        if self._socket is None:
            return
        try:
            is_done = tls.shake_hands()
        except OSError as error:
            self._fail(error)
            return
        if is_done:
            self._release(tls)
            self._on_done(tls)
        elif tls.is_sent:
            self._services.remove_writer(tls.fileno())
        else:
            self._services.set_writer(tls.fileno(), partial(self._shake_hands, tls))

    def _fail(self, error: Exception) -> None:
        self.cancel()
        self._on_done(error)


class Lookup:
    """Looks something up in a daemon thread, and tells on the loop's thread (pika may cancel)."""

    def __init__(
        self,
        look_up: Callable[[], Any],
        on_done: Callable[[Any], object],
        call: Callable[[Callable[[], None]], object],
    ) -> None:
        """Begin; on the loop's thread.

        Args:
            look_up: called in a thread of its own.
            on_done: given what that has returned, or the exception that it has raised; `NoThread`
                if there is none for it.
            call: runs a function on the loop's thread; safe from any thread.
        """
        self._look_up = look_up
        self._on_done: Callable[[Any], object] | None = on_done
        self._call = call
        try:
            threading.Thread(target=self._run, name="lookup", daemon=True).start()
        except RuntimeError as error:  # no thread is left
            failed = NoThread(str(error))
            call(lambda: self._tell(failed))

    def cancel(self) -> bool:
        """Tell nobody, unless it is too late; see pika's `AbstractIOReference`."""
        is_open, self._on_done = self._on_done is not None, None
        return is_open

    def _run(self) -> None:
        found: Any
        try:
            found = self._look_up()
        except Exception as error:  # noqa: BLE001 - told, like a result
            found = error
        self._call(lambda: self._tell(found))

    def _tell(self, found: Any) -> None:  # noqa: ANN401 - whatever was looked up
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(found)
