"""A TCP proxy of the tests' own, to put between a stage and the broker."""

import socket
import threading
from contextlib import suppress
from time import sleep
from typing import Self

from tests.ports import free_port


class Proxy:
    """Listens at a port and passes everything on, until it is told not to.

    Attributes:
        port: where it listens.
        accepted: how many connections there have been.
        turned_away: how many there have been while `is_away`.
        cut_after: cut all connections once so many bytes have passed; None: never.
        freeze_after: freeze once so many bytes have passed; None: never.
        is_away: whether to close what connects at once, as if there were no broker.
        delay_seconds: how long everything is held back.
    """

    def __init__(self, target_port: int, port: int | None = None) -> None:
        """Prepare to listen at `port`, default a free one, for `target_port` of this machine."""
        self.port = port or free_port()
        self._target_port = target_port
        self.accepted = 0
        self.turned_away = 0
        self.cut_after: int | None = None
        self.freeze_after: int | None = None
        self.is_away = False
        self.delay_seconds = 0.0
        self._passed = 0
        self._sockets: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut all connections and listen no more."""
        _close([self._listener])
        self.cut()
        self._flows.set()

    def cut(self) -> int:
        """Cut all connections, and go on taking new ones; return how many there were."""
        sockets, self._sockets = self._sockets, []
        _close(sockets)
        return len(sockets) // 2

    def freeze(self) -> None:
        """Keep the connections open and pass nothing on: a network that swallows."""
        self._flows.clear()

    def thaw(self) -> None:
        """Pass on again, beginning with what was held back."""
        self._flows.set()

    @property
    def is_frozen(self) -> bool:
        """Whether nothing is passed on now."""
        return not self._flows.is_set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.is_away:
                    near.close()
                    self.turned_away += 1
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target_port))
                except OSError:  # the broker is being restarted, say
                    near.close()
                    continue
                self._sockets += [near, far]
                self.accepted += 1
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sleep(self.delay_seconds)
                sink.sendall(data)
                self._passed += len(data)
                if self.cut_after is not None and self._passed > self.cut_after:
                    self.cut_after = None
                    self.cut()
                if self.freeze_after is not None and self._passed > self.freeze_after:
                    self.freeze_after = None
                    self.freeze()
            sink.shutdown(socket.SHUT_WR)


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
