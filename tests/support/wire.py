"""Fills and empties queues faster than any candidate moves messages from one to the other.

A client library would take longer to fill a queue than a candidate to empty it. So this speaks AMQP
0-9-1 on a plain socket: pika's codec for the handful of frames of the handshake, bytes for the
messages. It is a tool of the harness, never a thing that is measured.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import Any, Self

import pika
from pika import frame, spec

#: How long the broker may stay silent while something is expected of it.
SILENCE_SECONDS = 60.0

_CHANNEL = 1
_FRAME_MAX_BYTES = 131_072
_READ_BYTES = 1 << 20
#: So much is written with one system call.
_BLOCK_BYTES = 1 << 16
_PREFIX = struct.Struct(">BHL")
_METHOD, _HEADER, _BODY = 1, 2, 3
_METHOD_IDS = struct.Struct(">HH")
_DELIVER, _ACK = (60, 60), (60, 80)
_ACK_FIELDS = struct.Struct(">QB")
_BODY_SIZE = struct.Struct(">Q")
_BODY_SIZE_AT = 4  # in a content header, behind class and weight
_FRAME_BYTES = 8  # what a frame takes besides its payload


def marshal(properties: pika.BasicProperties, body: bytes) -> bytes:
    """Return a message as it follows a basic.publish: its header frame and its body frames."""
    most = _FRAME_MAX_BYTES - _FRAME_BYTES
    parts = [body[at : at + most] for at in range(0, len(body), most)]
    header = frame.Header(_CHANNEL, len(body), properties).marshal()
    return b"".join([header, *(frame.Body(_CHANNEL, part).marshal() for part in parts)])


class Wire:
    """One connection with one channel."""

    def __init__(self, host: str, port: int, username: str, password: str) -> None:
        """Connect and open the channel."""
        self._socket = socket.create_connection((host, port), SILENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = bytearray()
        self._socket.sendall(b"AMQP\0\0\x09\x01")
        start = self._expect(spec.Connection.Start)
        self.server_version = str(start.server_properties["version"])
        login = f"\0{username}\0{password}"
        self._send(0, spec.Connection.StartOk({}, "PLAIN", login, "en_US"))
        self._expect(spec.Connection.Tune)
        self._send(0, spec.Connection.TuneOk(_CHANNEL, _FRAME_MAX_BYTES, 0))
        self._send(0, spec.Connection.Open("/"))
        self._expect(spec.Connection.OpenOk)
        self._send(_CHANNEL, spec.Channel.Open())
        self._expect(spec.Channel.OpenOk)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection in order."""
        try:
            self._send(0, spec.Connection.Close(200, "", 0, 0))
            self._expect(spec.Connection.CloseOk)
        finally:
            self._socket.close()

    def publish(self, exchange: str, key: str | Sequence[str], messages: Iterable[bytes]) -> int:
        """Publish messages (see `marshal`); return how many, once all are confirmed.

        Args:
            exchange: where to.
            key: the routing key; or several, for one message after the other.
            messages: what to publish.
        """
        self._send(_CHANNEL, spec.Confirm.Select())
        self._expect(spec.Confirm.SelectOk)
        publishes = [
            spec.Basic.Publish(exchange=exchange, routing_key=each)
            for each in ([key] if isinstance(key, str) else key)
        ]
        methods = cycle(frame.Method(_CHANNEL, each).marshal() for each in publishes)
        confirms = _Confirms()
        block = bytearray()
        for message in messages:
            block += next(methods)
            block += message
            confirms.sent += 1
            if len(block) >= _BLOCK_BYTES:
                self._socket.sendall(block)
                block.clear()
                self._read(confirms, wait=False)
        self._socket.sendall(block)
        while not confirms.are_complete:
            self._read(confirms, wait=True)
        return confirms.sent

    def _read(self, confirms: "_Confirms", *, wait: bool) -> None:
        """Read the confirms that have arrived."""
        if not self._receive(wait=wait):
            return
        for kind, payload in self._frames():
            if kind == _METHOD:
                confirms.take(bytes(payload))

    def consume(self, queue: str, count: int) -> Iterator[bytes]:
        """Take `count` messages off a queue; yield their bodies."""
        self._send(_CHANNEL, spec.Basic.Consume(queue=queue, no_ack=True))
        self._expect(spec.Basic.ConsumeOk)
        taken, size, body = 0, 0, bytearray()
        while taken < count:
            for kind, payload in self._frames():
                if kind == _HEADER:
                    (size,) = _BODY_SIZE.unpack_from(payload, _BODY_SIZE_AT)
                elif kind == _BODY:
                    body += payload
                    if len(body) == size:
                        taken += 1
                        yield bytes(body)
                        body.clear()
                elif kind == _METHOD and _METHOD_IDS.unpack_from(payload) != _DELIVER:
                    raise ConnectionError(f"{queue}: the broker says {bytes(payload)!r}")
            if taken < count:
                self._receive(wait=True)

    def _receive(self, *, wait: bool) -> bool:
        """Read what is there into the buffer; say whether there was something."""
        self._socket.settimeout(SILENCE_SECONDS if wait else 0)
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        finally:
            self._socket.settimeout(SILENCE_SECONDS)
        if not data:
            raise ConnectionError("the broker has closed the connection")
        self._unread += data
        return True

    def _frames(self) -> Iterator[tuple[int, memoryview]]:
        """Yield kind and payload of each complete frame in the buffer."""
        data = bytes(self._unread)
        view, position = memoryview(data), 0
        while position + _PREFIX.size <= len(data):
            kind, _, size = _PREFIX.unpack_from(data, position)
            end = position + _PREFIX.size + size + 1
            if end > len(data):
                break
            yield kind, view[position + _PREFIX.size : end - 1]
            position = end
        del self._unread[:position]

    def _send(self, channel: int, method: Any) -> None:
        self._socket.sendall(frame.Method(channel, method).marshal())

    def _expect(self, kind: type) -> Any:
        """Read one method frame and return it; raise when it is of another kind."""
        while True:
            used, decoded = frame.decode_frame(bytes(self._unread))
            if decoded is not None:
                break
            self._receive(wait=True)
        del self._unread[:used]
        method = getattr(decoded, "method", decoded)
        if not isinstance(method, kind):
            raise ConnectionError(f"expected {kind.__qualname__}, the broker says {method!r}")
        return method


class _Confirms:
    """Counts what the broker has confirmed; confirms come out of order, and with `multiple`."""

    def __init__(self) -> None:
        self.sent = 0
        self._up_to = 0
        self._beyond: set[int] = set()

    @property
    def are_complete(self) -> bool:
        while self._up_to + 1 in self._beyond:
            self._up_to += 1
            self._beyond.remove(self._up_to)
        return self._up_to >= self.sent

    def take(self, payload: bytes) -> None:
        """Note a basic.ack."""
        if _METHOD_IDS.unpack_from(payload) != _ACK:
            raise ConnectionError(f"not confirmed: the broker says {payload!r}")
        tag, multiple = _ACK_FIELDS.unpack_from(payload, _METHOD_IDS.size)
        if multiple:
            self._up_to = max(self._up_to, tag)
            self._beyond = {each for each in self._beyond if each > tag}
        else:
            self._beyond.add(tag)
