"""The frequent frames of AMQP 0-9-1, without pika: publishes out, deliveries and confirms in.

pika encodes and decodes a message in three frames and a dozen objects. A pipeline does that for
every message, so here these frames are built from prepared parts and read in place. All other
frames, and whatever does not look as expected, are left to pika. Pure: bytes in, bytes out.

A frame is type (1 byte), channel (2), size (4), payload, end (1): AMQP 0-9-1, section 4.2.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import groupby
from struct import Struct
from typing import NamedTuple, Protocol, TypeAlias

from rabbit.errors import ProtocolError

#: The largest frame before connection.tune: RabbitMQ's default, and what pika offers.
FRAME_MAX = 131072

#: RabbitMQ does not keep to that in the content header of a message that it dead-letters, and whose
#: headers nearly filled a frame: it adds x-death. So much more is taken there.
_OVERDRAFT_BYTES = FRAME_MAX

#: The largest body that is taken: RabbitMQ's max_message_size can be no larger, in bytes.
MOST_BODY_BYTES = 512 * 1024 * 1024

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_KINDS = {_METHOD, _HEADER, _BODY, _HEARTBEAT}
_END = 0xCE
_END_BYTE = bytes([_END])
_FRAME_BYTES = 8  # what a frame takes besides its payload
_BEGINNING_BYTES = 40  # of what is not understood: so much is told

_BASIC = 60
_PUBLISH = b"\x00\x3c\x00\x28"
_DELIVER = b"\x00\x3c\x00\x3c"
_ACK = b"\x00\x3c\x00\x50"
_ACK_FRAME_BYTES = 21
_MANDATORY = 1

_frame = Struct(">BHI")  # type, channel, size
_deliver = Struct(">QB")  # delivery tag, redelivered
_size = Struct(">I")
_ack = Struct(">QB")  # delivery tag, multiple
_header = Struct(">BHIHHQ")  # frame; class, weight, size of the body
_sizes = Struct(">IHHQ")  # the same without type and channel
_header_end = Struct(">BBHI")  # the end of the header frame; the frame of the body
_publish = Struct(">BHI4sHB")  # frame; method, a reserved number, length of the exchange's name


#: What a delivery brings: its tag, its routing key, its properties as they came (flags first), its
#: body, and whether it is redelivered. A plain tuple, since one is made for every message.
Arrival: TypeAlias = tuple[int, str, bytes, bytes, bool]


class FrameListener(Protocol):
    """Who takes the frequent frames of one channel."""

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries (basic.deliver with its content) that came one behind the other.

        Args:
            exchange: by which all of them came to their queue.
            arrivals: what each has brought.
        """

    def acked(self, tag: int, *, multiple: bool) -> None:
        """Take a basic.ack: a publisher confirm."""


class _Pattern(NamedTuple):
    """What a delivery has in common with the next ones of its queue, mostly.

    Attributes:
        channel: where they come.
        head: its bytes from the first one to the end of the consumer's tag.
        middle: those behind its own tag and `redelivered`, to the channel of its content header.
        border: the end of that frame, and the type and channel of the body's.
        start: of the head, the type and the channel.
        method: of the head, what is behind the frame's size.
        name: of the middle, the name of the exchange, with its length.
        behind_key: of the middle, what is behind the routing key.
        exchange: by which they came to their queue, as text.
        routing_key: as text.
    """

    channel: int
    head: bytes
    middle: bytes
    border: bytes
    start: bytes
    method: bytes
    name: bytes
    behind_key: bytes
    exchange: str
    routing_key: str

    def another_key(self, data: bytes, at: int) -> tuple[str, int] | None:
        """Return the routing key of a delivery that differs in nothing else, and the middle's end.

        Raises:
            IndexError, struct.error: it is not all there.
        """
        name_at = at + len(self.head) + _deliver.size
        if not (data.startswith(self.method, at + 7) and data.startswith(self.name, name_at)):
            return None
        key_at = name_at + len(self.name)
        key_end = key_at + 1 + data[key_at]
        (size,) = _size.unpack_from(data, at + 3)
        if key_end - at - 7 != size or not data.startswith(self.behind_key, key_end):
            return None
        key = data[key_at + 1 : key_end].decode(errors="surrogateescape")
        return key, key_end + len(self.behind_key)


#: No delivery looks like this.
_NO_PATTERN = _Pattern(0, b"", b"", b"", b"no frame begins so", b"", b"", b"", "", "")


class _Incomplete(Exception):  # noqa: N818 - no error
    """So many bytes, from where a delivery begins, have to be there for another look."""

    def __init__(self, needed: int) -> None:
        self.needed = needed


class _Unexpected(Exception):  # noqa: N818 - pika says what is wrong with it
    """This is not what a delivery looks like."""


class _UnfinishedDelivery:
    """A delivery whose body comes in several frames, until the last of them is there.

    What has come of the body is kept in one piece: the frames of a large one would be a second copy
    of it. `BytesIO` grows by mremap, and its value is no copy.
    """

    def __init__(
        self, beginning: bytes, body_size: int, pattern: _Pattern, arrival: Arrival
    ) -> None:
        """Begin with an empty body.

        Args:
            beginning: the frames of the method and of the content header.
            body_size: how long the body is to be.
            pattern: of this delivery.
            arrival: what it brings beside the body.
        """
        self.pattern = pattern
        self.missing = body_size
        self._beginning = beginning
        self._arrival = arrival
        self._body = BytesIO()

    def add(self, part: memoryview) -> None:
        """Take the payload of a frame of the body."""
        self.missing -= self._body.write(part)

    def arrival(self) -> Arrival:
        """Return what it brings, once nothing is missing."""
        tag, key, properties, _, redelivered = self._arrival
        return tag, key, properties, self._body.getvalue(), redelivered

    def frames(self) -> list[bytes]:
        """Return what has come of it, as frames: the body in a single one."""
        channel, body = self.pattern.channel, self._body.getvalue()
        head = self._beginning
        header_at = _FRAME_BYTES + _size.unpack_from(head, 3)[0]
        frame = _frame.pack(_BODY, channel, len(body)) + body + _END_BYTE
        return [head[:header_at], head[header_at:], *([frame] if body else [])]


class Decoder:
    """Cuts what a connection receives into frames, and gives each to who it is for.

    Attributes:
        frame_max: the largest frame that was agreed upon (connection.tune), in bytes.
    """

    def __init__(
        self, listeners: Mapping[int, FrameListener], other: Callable[[bytes], None]
    ) -> None:
        """Start with an empty buffer.

        Args:
            listeners: by channel number, who takes its deliveries and confirms; this may change.
            other: given every other frame, whole.
        """
        self.frame_max = FRAME_MAX
        self._listeners = listeners
        self._other = other
        self._chunks: list[bytes] = []
        self._length = 0
        self._needed = 0
        self._pattern = _NO_PATTERN
        self._unfinished: dict[int, _UnfinishedDelivery] = {}  # by their channels

    def feed(self, data: bytes) -> None:
        """Take what has been received, in the order of the connection.

        Raises:
            ProtocolError: it is no frame, or a larger one than was agreed upon, or begins a body
                that no broker may send; nothing of it is buffered.
        """
        self._chunks.append(data)
        self._length += len(data)
        if self._length < self._needed:
            return
        if len(self._chunks) > 1:
            data = b"".join(self._chunks)
        self._chunks.clear()
        rest = data[self._decode(data) :]
        self._chunks = [rest] if rest else []
        self._length = len(rest)

    def _decode(self, data: bytes) -> int:
        """Give out the whole frames of `data`; return where the first incomplete one begins."""
        at, end = 0, len(data)
        self._needed = _FRAME_BYTES
        while end - at >= _FRAME_BYTES:
            if data.startswith(self._pattern.start, at) and (after := self._read_alike(data, at)):
                at = after
                continue
            kind, channel, size = _frame.unpack_from(data, at)
            if kind not in _KINDS:
                raise _no_frame(data[at:])
            _refuse_larger_frame(
                size, self.frame_max + _OVERDRAFT_BYTES if kind == _HEADER else self.frame_max
            )
            stop = at + _FRAME_BYTES + size
            if stop > end:
                self._needed = stop - at
                break
            taken = 0
            if channel in self._unfinished:
                taken = self._go_on(kind, channel, data, at, stop)
            elif kind == _METHOD and (listener := self._listeners.get(channel)) is not None:
                try:
                    taken = self._take(listener, data, at, stop, channel)
                except _Incomplete as more:
                    self._needed = more.needed
                    break
            if not taken:
                _check_size(data, at, stop)
                self._other(data[at:stop])
            at = taken or stop
        if at < end and data[at] not in _KINDS:
            raise _no_frame(data[at:])  # it may be too short for a frame, and the last there is
        return at

    def _read_alike(self, data: bytes, at: int) -> int:
        """Give out the deliveries that look like the last one; return where others begin, or 0.

        They may have other routing keys. What this leaves, incomplete or unexpected, `_take` looks
        at more closely.
        """
        pattern = self._pattern
        _, head, middle, border, start, *_, routing_key = pattern
        listener = self._listeners.get(pattern.channel)
        if listener is None:
            return 0
        arrivals: list[Arrival] = []
        skipped = len(head) + _deliver.size
        try:
            while data.startswith(start, at):
                if data.startswith(head, at) and data.startswith(middle, at + skipped):
                    key, begin = routing_key, at + skipped + len(middle)
                elif other := pattern.another_key(data, at):
                    key, begin = other
                else:
                    break
                tag, redelivered = _deliver.unpack_from(data, at + len(head))
                size, basic, _, body_size = _sizes.unpack_from(data, begin)
                header_end = begin + 4 + size
                (length,) = _size.unpack_from(data, header_end + 4)
                body = header_end + _FRAME_BYTES
                stop = body + length
                if (
                    length != body_size
                    or basic != _BASIC
                    or not data.startswith(border, header_end)
                    or data[stop] != _END
                ):
                    break
                properties = data[begin + _sizes.size : header_end]
                arrivals.append((tag, key, properties, data[body:stop], redelivered & 1 == 1))
                at = stop + 1
        except (IndexError, struct.error):
            pass  # it is not all there
        if arrivals:
            listener.delivered(pattern.exchange, arrivals)
        return at if arrivals else 0

    def _take(self, listener: FrameListener, data: bytes, at: int, stop: int, channel: int) -> int:
        """Give a frequent method to its listener; return where it ends, with its content, or 0.

        Raises:
            _Incomplete: its content is not all there.
            ProtocolError: it is larger than any may be.
        """
        method = data[at + 7 : at + 11]
        if method == _DELIVER:
            try:
                end, missing, pattern, arrival = _read_delivery(
                    data, at, stop, channel, self.frame_max
                )
            except (_Unexpected, IndexError, struct.error):
                return 0  # pika says what is wrong with it
            if missing:
                begun = _UnfinishedDelivery(data[at:end], missing, pattern, arrival)
                self._unfinished[channel] = begun
                self._pattern = _NO_PATTERN  # until it is complete, nothing like it may come
                return end
            self._pattern = pattern
            listener.delivered(pattern.exchange, [arrival])
            return end
        if method == _ACK and stop - at == _ACK_FRAME_BYTES and data[stop - 1] == _END:
            tag, multiple = _ack.unpack_from(data, at + 11)
            listener.acked(tag, multiple=multiple & 1 == 1)
            return stop
        return 0

    def _go_on(self, kind: int, channel: int, data: bytes, at: int, stop: int) -> int:
        """Add a frame to the unfinished delivery of its channel; return where it ends, or 0.

        If it is not what should follow, or nobody waits for that any more, pika gets what has come
        of the delivery, and says what is wrong.
        """
        unfinished = self._unfinished[channel]
        listener = self._listeners.get(channel)
        size = stop - at - _FRAME_BYTES
        is_next = kind == _BODY and data[stop - 1] == _END and 0 < size <= unfinished.missing
        if listener is None or not is_next:
            del self._unfinished[channel]
            for frame in unfinished.frames():
                self._other(frame)
            return 0
        unfinished.add(memoryview(data)[at + 7 : stop - 1])
        if not unfinished.missing:
            del self._unfinished[channel]
            self._pattern = unfinished.pattern
            listener.delivered(unfinished.pattern.exchange, [unfinished.arrival()])
        return stop


def _no_frame(data: bytes) -> ProtocolError:
    beginning = data[:_BEGINNING_BYTES]
    return ProtocolError(f"it begins with {beginning!r}", beginning)


def _check_size(data: bytes, at: int, stop: int) -> None:
    """Raise a ProtocolError when this frame is a content header and begins an absurd body."""
    if data[at] == _HEADER and stop - at >= _header.size:
        _refuse_larger_body(_header.unpack_from(data, at)[-1])


def _refuse_larger_frame(size: int, frame_max: int) -> None:
    if size > frame_max - _FRAME_BYTES:
        raise ProtocolError(
            f"a frame of {size + _FRAME_BYTES} bytes, and {frame_max} were agreed upon"
        )


def _refuse_larger_body(size: int) -> None:
    if size > MOST_BODY_BYTES:
        raise ProtocolError(f"a message of {size} bytes, and {MOST_BODY_BYTES} is the most")


def _read_delivery(
    data: bytes, begin: int, method_end: int, channel: int, frame_max: int
) -> tuple[int, int, _Pattern, Arrival]:
    """Return where a delivery ends, what is missing, what others may share with it, and what it is.

    Missing are all bytes of a body that comes in several frames: then it ends where these begin.

    Raises:
        _Incomplete: its content is not all there.
        ProtocolError: a frame of it is larger than `frame_max`, or all of it than any may be.
        _Unexpected, IndexError, struct.error: this is not what it should look like.
    """
    head_end = begin + 12 + data[begin + 11]
    tag, redelivered = _deliver.unpack_from(data, head_end)
    middle = head_end + _deliver.size
    at = middle + 1 + data[middle]  # behind the exchange's name
    key_end = at + 1 + data[at]
    if key_end != method_end - 1 or data[key_end] != _END:
        raise _Unexpected
    if len(data) - method_end < _header.size:
        raise _Incomplete(method_end + _header.size - begin)
    kind, same, size, basic, _, body_size = _header.unpack_from(data, method_end)
    if (kind, same, basic) != (_HEADER, channel, _BASIC):
        raise _Unexpected
    _refuse_larger_body(body_size)
    _refuse_larger_frame(size, frame_max + _OVERDRAFT_BYTES)
    header_end = method_end + _FRAME_BYTES + size
    stop: int = header_end
    missing, body = 0, b""
    if body_size:
        if len(data) - header_end < _FRAME_BYTES:
            raise _Incomplete(header_end + _FRAME_BYTES - begin)
        kind, same, length = _frame.unpack_from(data, header_end)
        _refuse_larger_frame(length, frame_max)
        if (kind, same) != (_BODY, channel) or not 0 < length <= body_size:
            raise _Unexpected
        if length < body_size:
            missing = body_size
        else:
            stop += _FRAME_BYTES + body_size
            body = data[header_end + 7 : stop - 1]
    if stop > len(data):
        raise _Incomplete(stop - begin)
    if data[header_end - 1] != _END or data[stop - 1] != _END:
        raise _Unexpected
    properties = data[method_end + _header.size : header_end - 1]
    exchange = data[middle + 1 : at].decode(errors="surrogateescape")
    key = data[at + 1 : key_end].decode(errors="surrogateescape")
    border = _END_BYTE + _frame.pack(_BODY, channel, 0)[:3]
    pattern = _Pattern(
        channel,
        head=data[begin:head_end],
        middle=data[middle : method_end + 3],
        border=border,
        start=data[begin : begin + 3],
        method=data[begin + 7 : head_end],
        name=data[middle:at],
        behind_key=data[key_end : method_end + 3],
        exchange=exchange,
        routing_key=key,
    )
    return stop, missing, pattern, (tag, key, properties, body, redelivered & 1 == 1)


def split_content_header(frame: bytes) -> tuple[int, int, bytes] | None:
    """Return the channel of a content header, the size of the body, and the properties.

    Args:
        frame: as it came.

    Returns:
        None if it is another frame, or is not as it should be.
    """
    if len(frame) <= _header.size:
        return None
    kind, channel, size, basic, _, body_size = _header.unpack_from(frame)
    is_whole = len(frame) == size + _FRAME_BYTES and frame[-1] == _END
    if (kind, basic) != (_HEADER, _BASIC) or not is_whole:
        return None
    return channel, body_size, frame[_header.size : -1]


def publish_method(channel: int, exchange: str, routing_key: str) -> bytes:
    """Return a basic.publish frame, mandatory: an unroutable message is returned.

    Args:
        channel: the channel's number.
        exchange: its name, at most 255 bytes.
        routing_key: at most 255 bytes; one that was received goes out with the same bytes.
    """
    name, key = exchange.encode(), routing_key.encode(errors="surrogateescape")
    size = 4 + 2 + 1 + len(name) + 1 + len(key) + 1
    head = _publish.pack(_METHOD, channel, size, _PUBLISH, 0, len(name))
    return head + name + bytes([len(key)]) + key + bytes([_MANDATORY, _END])


def most_property_bytes(frame_max: int) -> int:
    """Return how long the properties of a message may be: they have to fit in one frame."""
    return frame_max - _header.size - 1


def content(
    channel: int, properties: bytes, body: bytes, frame_max: int
) -> Sequence[bytes | memoryview]:
    """Return the frames that follow a basic.publish, in parts to be joined; see `joined`.

    Args:
        channel: the channel's number.
        properties: the message's properties, flags first; see rabbit.amqp.properties.
        body: any bytes.
        frame_max: the largest frame that was agreed upon (connection.tune), in bytes.
    """
    size = len(body)
    header = _header.pack(_HEADER, channel, 12 + len(properties), _BASIC, 0, size)
    if not size:
        return [header, properties, _END_BYTE]
    if size <= frame_max - _FRAME_BYTES:
        return [header, properties, _header_end.pack(_END, _BODY, channel, size), body, _END_BYTE]
    parts: list[bytes | memoryview] = [header, properties]
    view = memoryview(body)
    for begin in range(0, size, frame_max - _FRAME_BYTES):
        part = view[begin : begin + frame_max - _FRAME_BYTES]
        parts += [_header_end.pack(_END, _BODY, channel, len(part)), part]
    return [*parts, _END_BYTE]


def joined(parts: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Return the same bytes in few pieces, without another copy of a body of several frames.

    Args:
        parts: of frames; memoryviews are of such a body, and stay what they are.
    """
    if memoryview not in map(type, parts):
        yield b"".join(parts)
        return
    for is_view, run in groupby(parts, lambda part: isinstance(part, memoryview)):
        if is_view:
            yield from run
        else:
            yield b"".join(run)
