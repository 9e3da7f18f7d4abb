"""The frequent frames, held against pika's own frames."""

# mypy: disable-error-code="no-untyped-call"

import struct
import tracemalloc
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec

from rabbit.amqp import frames
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.properties import read_ids
from rabbit.errors import ProtocolError
from tests.unit.texts import texts

FRAME_MAX = 4096

names = texts("aZ09.#* ü漢😀")
headers = st.dictionaries(
    names, st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | names, max_size=3
)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": names,
        "content_encoding": names,
        "headers": headers,
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "correlation_id": names,
        "reply_to": names,
        "expiration": names,
        "message_id": names,
        "timestamp": st.integers(0, 2**64 - 1),
        "type": names,
        "user_id": names,
        "app_id": names,
        "cluster_id": names,
    },
).map(lambda given: spec.BasicProperties(**given))
#: Empty, small, and around each border at which a body is split.
bodies = st.binary(max_size=40) | st.sampled_from(
    [bytes(times * (FRAME_MAX - 8) + more) for times in (1, 2, 3) for more in (-1, 0, 1)]
)


class Delivery(NamedTuple):
    """What a listener is given."""

    tag: int
    routing_key: str
    properties: bytes
    body: bytes
    redelivered: bool


class Listener(ChannelListener):
    """Notes what it is given, in the order in which it comes."""

    def __init__(self, heard: list[Any]) -> None:
        """Note it in `heard`."""
        self.heard = heard

    def delivered(self, _exchange: str, arrivals: list[frames.Arrival]) -> None:
        """Note deliveries."""
        self.heard += [Delivery(*arrival) for arrival in arrivals]

    def acked(self, tag: int, *, multiple: bool) -> None:
        """Note a confirm."""
        self.heard.append((tag, multiple))


def raw(given: spec.BasicProperties) -> bytes:
    """Encode properties as pika does."""
    return b"".join(given.encode())


def contents(channel: int, given: spec.BasicProperties, body: bytes, size: int) -> bytes:
    """Encode a content header and a body as pika does, in frames of at most `size`."""
    parts = [body[at : at + size - 8] for at in range(0, len(body), size - 8)]
    return b"".join(
        [
            frame.Header(channel, len(body), given).marshal(),
            *(frame.Body(channel, part).marshal() for part in parts),
        ]
    )


def deliver(
    channel: int,
    tag: int,
    body: bytes,
    given: spec.BasicProperties,
    *,
    redelivered: bool = False,
    key: str = "key",
    exchange: str = "exchange",
    size: int = FRAME_MAX,
) -> bytes:
    """Encode a delivery as pika does."""
    method = spec.Basic.Deliver("ctag1.0", tag, redelivered, exchange, key)
    return frame.Method(channel, method).marshal() + contents(channel, given, body, size)


def decode(data: bytes, cuts: list[int] | None = None, channels: tuple[int, ...] = (1,)) -> Any:
    """Feed `data`, cut at `cuts`; return what the listeners and pika were given, in order."""
    heard: list[Any] = []
    decoder = frames.Decoder({channel: Listener(heard) for channel in channels}, heard.append)
    borders = [0, *sorted(cuts or []), len(data)]
    for begin, end in pairwise(borders):
        if begin < end:
            decoder.feed(data[begin:end])
    return heard


@pytest.mark.parametrize("error", [IndexError, struct.error])
def test_an_error_of_a_listener_is_no_unexpected_frame(error: type[Exception]) -> None:
    """It is raised; the frame, which the listener has been given, does not go to pika as well."""

    class Failing(ChannelListener):
        def delivered(self, *_: object, **__: object) -> None:
            raise error

    heard: list[bytes] = []
    decoder = frames.Decoder({1: Failing()}, heard.append)

    with pytest.raises(error):
        decoder.feed(deliver(1, 1, b"body", spec.BasicProperties()))
    assert heard == []


@given(properties, bodies, names, st.integers(1, 2**16 - 1))
def test_a_publish_is_what_pika_sends(
    given_properties: spec.BasicProperties, body: bytes, key: str, channel: int
) -> None:
    """Method, header and body frames, split at frame-max, byte for byte."""
    method = spec.Basic.Publish(exchange="exchange", routing_key=key, mandatory=True)
    expected = frame.Method(channel, method).marshal()
    expected += contents(channel, given_properties, body, FRAME_MAX)

    sent = frames.publish_method(channel, "exchange", key)
    sent += b"".join(frames.content(channel, raw(given_properties), body, FRAME_MAX))

    assert expected == sent


@given(st.lists(bodies, max_size=4))
def test_frames_are_joined_without_a_copy_of_a_large_body(given_bodies: list[bytes]) -> None:
    """Nothing is left out; what is small comes in one piece between those of large bodies."""
    parts = [
        part
        for body in given_bodies
        for part in (b"method", *frames.content(1, b"\x00\x00", body, FRAME_MAX))
    ]

    pieces = list(frames.joined(parts))

    assert b"".join(pieces) == b"".join(parts)
    large = [body for body in given_bodies if len(body) > FRAME_MAX - 8]
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert {id(view.obj) for view in views} == {id(body) for body in large}
    assert len(pieces) == 2 * len(views) + 1


def test_a_routing_key_that_is_not_utf_8_goes_on_with_the_same_bytes() -> None:
    """It gets no longer either: a short string has 255 bytes."""
    broken = deliver(1, 1, b"a", spec.BasicProperties(), key="k" * 255).replace(
        b"kkk", b"\xff\xffk"
    )
    [delivery] = decode(broken)

    sent = frames.publish_method(1, "exchange", delivery.routing_key)

    assert 85 * b"\xff\xffk" in sent


@given(properties)
def test_ids_are_found_among_any_properties(given_properties: spec.BasicProperties) -> None:
    """Whatever stands before them."""
    expected = (given_properties.message_id, given_properties.correlation_id)

    assert expected == read_ids(raw(given_properties))


def test_an_id_that_is_not_utf_8_is_readable_and_no_longer() -> None:
    """It still fits into a short string when it is carried on."""
    given_properties = spec.BasicProperties(message_id="x" * 255).encode()
    broken = b"".join(given_properties).replace(b"x" * 255, b"\xff" * 255)

    assert read_ids(broken) == ("?" * 255, None)


def test_properties_that_are_cut_short_are_an_error() -> None:
    """They are not read beyond their end."""
    with pytest.raises(ValueError, match="cut short"):
        read_ids(raw(spec.BasicProperties(content_type="text", message_id="m"))[:-1])


@given(
    given_properties=properties,
    body=bodies,
    key=names,
    tag=st.integers(1, 2**64 - 1),
    redelivered=st.booleans(),
)
def test_a_delivery_is_read_as_pika_reads_it(
    given_properties: spec.BasicProperties, body: bytes, key: str, tag: int, *, redelivered: bool
) -> None:
    """Every set of properties, every size of body."""
    data = deliver(1, tag, body, given_properties, redelivered=redelivered, key=key)

    assert [Delivery(tag, key, raw(given_properties), body, redelivered)] == decode(data)


#: What may differ from one delivery to the next: channel, tag, properties, body, redelivered, key.
streams = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 3]),
        st.integers(1, 2**64 - 1),
        properties,
        bodies,
        st.booleans(),
        st.sampled_from(["key", "key", "key", "another", "yek"]),
    ),
    max_size=6,
)


@given(stream=streams, data=st.data())
def test_deliveries_are_read_the_same_whatever_comes_before_them(
    stream: list[tuple[int, int, spec.BasicProperties, bytes, bool, str]], data: st.DataObject
) -> None:
    """One that resembles the one before is read in a shorter way; cut anywhere, too."""
    sent = b"".join(
        deliver(channel, tag, body, given, redelivered=redelivered, key=key)
        for channel, tag, given, body, redelivered, key in stream
    )
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=4))

    assert [
        Delivery(tag, key, raw(given), body, redelivered)
        for _, tag, given, body, redelivered, key in stream
    ] == decode(sent, cuts, channels=(1, 3))


def test_deliveries_with_other_keys_come_together() -> None:
    """Those of an ordered edge, whose keys take turns: else each would take long."""
    runs: list[list[str]] = []

    class Runs(ChannelListener):
        def delivered(self, _exchange: str, arrivals: list[frames.Arrival]) -> None:
            runs.append([routing_key for _, routing_key, *_ in arrivals])

    keys = ["customer-1", "customer-20", "", "customer-1"]
    frames.Decoder({1: Runs()}, lambda frame: pytest.fail(repr(frame))).feed(
        b"".join(
            deliver(1, tag, b"body", spec.BasicProperties(), key=key)
            for tag, key in enumerate(keys, 1)
        )
    )

    assert runs == [keys[:1], keys[1:]]


def test_deliveries_for_a_lane_that_is_gone_go_to_pika() -> None:
    """Also when they resemble those before, which had a listener."""
    heard: list[Any] = []
    listeners: dict[int, ChannelListener] = {1: Listener(heard)}
    decoder = frames.Decoder(listeners, heard.append)
    nothing = spec.BasicProperties()
    decoder.feed(deliver(1, 1, b"a", nothing) + deliver(1, 2, b"b", nothing))
    del listeners[1]
    last = deliver(1, 3, b"c", nothing)

    decoder.feed(last)

    assert [each.body for each in heard[:2]] == [b"a", b"b"]
    assert b"".join(heard[2:]) == last


@given(tag=st.integers(1, 2**64 - 1), multiple=st.booleans())
def test_a_confirm_is_read_as_pika_reads_it(tag: int, *, multiple: bool) -> None:
    """The tag in full, and whether it is about all up to it."""
    data = frame.Method(1, spec.Basic.Ack(tag, multiple)).marshal()

    assert [(tag, multiple)] == decode(data)


STREAM = (
    frame.Method(1, spec.Basic.ConsumeOk("ctag1.0")).marshal(),
    deliver(1, 1, b"one", spec.BasicProperties(message_id="m")),
    frame.Heartbeat().marshal(),
    frame.Method(1, spec.Basic.Ack(7, True)).marshal(),
    deliver(2, 1, b"for pika", spec.BasicProperties()),
    deliver(1, 2, b"", spec.BasicProperties()),
    deliver(1, 3, bytes(range(256)) * 40, spec.BasicProperties(), size=4096),
    frame.Method(1, spec.Basic.Nack(8)).marshal(),
)


def test_what_is_not_frequent_goes_to_pika_whole_and_in_its_place() -> None:
    """Replies, heartbeats, other channels: each frame as it came, between the others."""
    method, header, body = (
        frame.Method(2, spec.Basic.Deliver("ctag1.0", 1, False, "exchange", "key")).marshal(),
        frame.Header(2, 8, spec.BasicProperties()).marshal(),
        frame.Body(2, b"for pika").marshal(),
    )
    nothing = raw(spec.BasicProperties())

    assert [
        STREAM[0],
        Delivery(1, "key", raw(spec.BasicProperties(message_id="m")), b"one", False),
        STREAM[2],
        (7, True),
        method,
        header,
        body,
        Delivery(2, "key", nothing, b"", False),
        Delivery(3, "key", nothing, bytes(range(256)) * 40, False),
        STREAM[7],
    ] == decode(b"".join(STREAM))


@pytest.mark.parametrize("step", [1, 2, 7, 8, 9, 64, 4096])
def test_frames_may_be_cut_at_every_byte(step: int) -> None:
    """What arrives in pieces is what arrives at once."""
    data = b"".join(STREAM)

    assert decode(data) == decode(data, list(range(0, len(data), step)))


@given(st.lists(st.integers(0, sum(map(len, STREAM))), max_size=8))
def test_frames_may_be_cut_anywhere(cuts: list[int]) -> None:
    """In any pieces."""
    data = b"".join(STREAM)

    assert decode(data) == decode(data, cuts)


@given(st.lists(st.sampled_from(["", "x", "x.back"]), max_size=6), st.data())
def test_the_exchange_is_told(exchanges: list[str], data: st.DataObject) -> None:
    """Whether a delivery looks like the one before it or not."""
    heard: list[tuple[str, int]] = []

    class Noting(ChannelListener):
        def delivered(self, exchange: str, arrivals: list[frames.Arrival]) -> None:
            heard.extend((exchange, arrival[0]) for arrival in arrivals)

    decoder = frames.Decoder({1: Noting()}, lambda _frame: None)
    properties = spec.BasicProperties()
    whole = b"".join(
        deliver(1, tag, b"body", properties, exchange=exchange)
        for tag, exchange in enumerate(exchanges)
    )
    cut = data.draw(st.integers(0, len(whole)))

    for part in filter(None, (whole[:cut], whole[cut:])):
        decoder.feed(part)

    assert heard == [(exchange, tag) for tag, exchange in enumerate(exchanges)]


@settings(max_examples=300)
@given(st.data())
def test_nothing_unexpected_is_swallowed(data: st.DataObject) -> None:
    """A delivery with a wrong byte is a delivery, it is left to pika, it waits, or it is refused.

    If the size of its body is what is wrong, pika sees what is left over, and complains. The same
    behind another one, which is as it should be.
    """
    whole = deliver(1, 5, b"body", spec.BasicProperties(message_id="m"))
    before = data.draw(st.sampled_from([b"", whole]))
    place = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255))
    broken = whole[:place] + bytes([value]) + whole[place + 1 :]

    try:
        heard = decode(before + broken)
    except ProtocolError:
        return

    if before:
        assert decode(before) == heard[:1]
        del heard[0]
    for_pika = b"".join(item for item in heard if isinstance(item, bytes))
    assert broken.startswith(for_pika) or broken.endswith(for_pika)
    assert not any(isinstance(item, Delivery) for item in heard[1:])


def test_content_frames_of_two_channels_may_alternate() -> None:
    """RabbitMQ does not do so, the protocol allows it: pika puts such messages together."""
    method = frame.Method(1, spec.Basic.Deliver("c", 1, False, "e", "k")).marshal()
    header = frame.Header(1, 4, spec.BasicProperties()).marshal()
    body = frame.Body(1, b"body").marshal()
    between = deliver(3, 1, b"between", spec.BasicProperties())
    data = method + between + header + body

    heard = decode(data, channels=(1, 3))

    for_pika = [item for item in heard if isinstance(item, bytes)]
    bodies_heard = [item.body for item in heard if isinstance(item, Delivery)]
    assert (for_pika, bodies_heard) == ([method, header, body], [b"between"])


def large(*between: bytes, end: bytes = b"") -> tuple[list[bytes], bytes]:
    """Return the frames of a delivery of two body frames, with others between these; the body."""
    body = bytes(range(256)) * 24
    method = frame.Method(1, spec.Basic.Deliver("c", 1, False, "e", "k")).marshal()
    header = frame.Header(1, len(body), spec.BasicProperties()).marshal()
    first, last = (frame.Body(1, part).marshal() for part in (body[:4000], body[4000:]))
    return [method, header, first, *between, end or last], body


def test_other_frames_may_come_between_those_of_a_large_body() -> None:
    """A heartbeat, and deliveries of another channel, large ones too: each where it ends."""
    other = deliver(3, 7, b"between" * 1000, spec.BasicProperties())
    heartbeat = frame.Heartbeat().marshal()
    sent, body = large(heartbeat, other)

    heard = decode(b"".join(sent), channels=(1, 3))

    assert heard[0] == heartbeat
    assert [each.body for each in heard[1:]] == [b"between" * 1000, body]


@pytest.mark.parametrize(
    "wrong",
    [
        frame.Method(1, spec.Basic.Ack(7)).marshal(),
        deliver(1, 2, b"before its turn", spec.BasicProperties()),
        frame.Body(1, bytes(4001)).marshal(),
        frame.Body(1, b"").marshal(),
        frame.Body(1, b"no end").marshal()[:-1] + b"x",
    ],
    ids=["another method", "a delivery", "too much", "nothing", "no end"],
)
def test_what_does_not_follow_in_a_large_body_goes_to_pika_with_all_of_it(wrong: bytes) -> None:
    """Nothing is swallowed: pika says what is wrong."""
    sent, _ = large(end=wrong)

    heard = decode(deliver(1, 1, b"alike", spec.BasicProperties()) + b"".join(sent))

    assert heard[0].body == b"alike"
    assert b"".join(heard[1:]) == b"".join(sent)


def test_a_large_body_whose_listener_has_gone_goes_to_pika() -> None:
    """The channel is being closed: pika drops what still comes, and wants it whole."""
    heard: list[Any] = []
    listeners: dict[int, ChannelListener] = {1: Listener(heard)}
    decoder = frames.Decoder(listeners, heard.append)
    sent, _ = large()
    decoder.feed(b"".join(sent[:3]))
    del listeners[1]

    decoder.feed(sent[3])

    assert heard == sent


def test_a_large_body_is_in_memory_once() -> None:
    """What has been received of it is not kept beside it, nor joined into another copy."""
    size, step = 8 * 1024 * 1024, 512 * 1024
    sent = deliver(1, 1, bytes(size), spec.BasicProperties(), size=frames.FRAME_MAX)
    heard: list[Any] = []
    decoder = frames.Decoder({1: Listener(heard)}, heard.append)
    tracemalloc.start()
    try:
        for begin in range(0, len(sent), step):
            decoder.feed(sent[begin : begin + step])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(heard[0].body) == size
    assert peak < size + size // 2


@pytest.mark.parametrize(
    "greeting",
    [b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request", b"\x15\x03\x01\x00\x02\x02\n"],
)
def test_what_is_no_frame_is_refused(greeting: bytes) -> None:
    """The error has how it begins: what that is, is for others to say."""
    with pytest.raises(ProtocolError) as caught:
        decode(greeting)

    assert caught.value.data == greeting


def _unbuffered(data: bytes, frame_max: int = 4096) -> None:
    """Refuse what begins like this at once, also when it comes byte for byte."""

    def feed(step: int) -> None:
        decoder = frames.Decoder({1: Listener([])}, lambda _frame: None)
        decoder.frame_max = frame_max
        for begin in range(0, len(data), step):
            decoder.feed(data[begin : begin + step])

    for step in (len(data), 1):
        with pytest.raises(ProtocolError, match=r"agreed upon|is the most"):
            feed(step)


def test_a_frame_larger_than_agreed_upon_is_refused() -> None:
    """Of any kind, also within a delivery, and before it is all there."""
    properties = spec.BasicProperties(headers={"x": (frames.FRAME_MAX + 5000) * "x"})
    method = frame.Method(1, spec.Basic.Deliver("c", 1, False, "e", "k")).marshal()

    _unbuffered(b"\x01\x00\x01\xff\xff\xff\xff" + 8 * b"x")
    _unbuffered(b"\x08\x00\x00" + (4096 - 7).to_bytes(4, "big") + b"x")
    header = frame.Header(1, 5000, spec.BasicProperties()).marshal()
    _unbuffered(method + header + frame.Body(1, b"x" * 5000).marshal()[:100])
    _unbuffered(method + frame.Header(1, 4, properties).marshal()[:100])
    whole = deliver(1, 5, b"", spec.BasicProperties(headers={"x": 5000 * "x"}))
    heard: list[Any] = []
    decoder = frames.Decoder({1: Listener(heard)}, heard.append)
    decoder.frame_max = 4096
    decoder.feed(whole)
    assert len(heard) == 1, "the broker adds headers of its own to those that fitted"


@pytest.mark.parametrize("channel", [1, 2])
def test_an_absurd_body_is_refused(channel: int) -> None:
    """When its size is announced, whether the codec or pika would put it together."""
    method = frame.Method(channel, spec.Basic.Deliver("c", 1, False, "e", "k")).marshal()
    header = frame.Header(channel, frames.MOST_BODY_BYTES + 1, spec.BasicProperties()).marshal()

    _unbuffered(method + header)


@pytest.mark.parametrize("frame_max", [4096, 8192, frames.FRAME_MAX])
def test_the_longest_properties_fill_a_frame(frame_max: int) -> None:
    """What `most_property_bytes` says is what fits, to the byte."""
    most = frames.most_property_bytes(frame_max)

    header, properties, *_ = frames.content(1, most * b"x", b"", frame_max)

    assert len(header) + len(properties) + 1 == frame_max
