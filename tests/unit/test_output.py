"""What an output is given beside its body; the sender's headers go on to it."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbit.amqp.field_table import decode_table, encode_table
from rabbit.amqp.pika_types import Properties, decode_properties, encode_properties
from rabbit.amqp.properties import decode_headers, is_simple
from rabbit.amqp.sent_properties import JSON, OCTETS, TEXT, Content
from rabbit.errors import UndecodableError
from rabbit.message import Message, derived_id
from rabbit.output import derived_output, make_extras, new_output
from tests.unit.texts import texts

names = texts("aZ09-_/ \0ü漢😀")
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
        lambda moment: moment.replace(microsecond=0)
    )
    | st.decimals(-1000, 1000, places=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abü", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def message(**properties: Any) -> Message:
    """Return a message as a delivery brings it."""
    raw = encode_properties(Properties(**properties))  # type: ignore[no-untyped-call]
    return Message(b"in", raw, redelivered=False, routing_key="")


def sent(properties: bytes) -> Any:
    """Return what pika makes of properties."""
    return decode_properties(properties)


@given(names, names, st.none() | names, st.sampled_from([TEXT, JSON, OCTETS]))
def test_new_outputs_are_what_pika_sends(
    message_id: str, correlation_id: str, reply_to: str | None, content: Content
) -> None:
    """Persistent, with their ids."""
    kinds = {TEXT: ("text/plain", "utf-8"), JSON: ("application/json", None)}
    kind, encoding = kinds.get(content, ("application/octet-stream", None))
    expected: Any = Properties(  # type: ignore[no-untyped-call]
        content_type=kind,
        content_encoding=encoding,
        delivery_mode=2,
        message_id=message_id,
        correlation_id=correlation_id,
        reply_to=reply_to,
    )

    made = new_output(b"", message_id, correlation_id, content=content, reply_to=reply_to)

    assert made.properties == b"".join(expected.encode())


@given(st.dictionaries(st.text("abü-", min_size=1, max_size=9), values, max_size=4))
def test_headers_come_out_as_they_went_in(headers: dict[str, Any]) -> None:
    """Every type that AMQP has; what is quickly found to be decodable is."""
    table = encode_table(headers)

    assert decode_table(table) == headers
    for end in range(len(table)):
        if is_simple(table[:end], b""):
            decode_table(table[:end])


@pytest.mark.parametrize(
    ("headers", "error", "told"),
    [
        ({"a": object()}, TypeError, "object is nothing that AMQP can carry"),
        ({"a": {"b": [{1}]}}, TypeError, "set is nothing"),
        ({7: "a"}, TypeError, "a name is a text, not int"),
        ({"": "a"}, ValueError, "0 bytes"),
        ({"ü" * 128: "a"}, ValueError, "256 bytes"),
        ({"a": 2**63}, ValueError, "out of range"),
        ({"a": datetime(2020, 1, 1)}, ValueError, "no time zone"),  # noqa: DTZ001
        ({"a": datetime(1960, 1, 1, tzinfo=UTC)}, ValueError, "out of range"),
        ({"a": Decimal("NaN")}, ValueError, "out of range"),
        ({"x-death": "a"}, ValueError, "choose another name"),
        ({"CC": ["a"]}, ValueError, "choose another name"),
        ("a", TypeError, "a dict of names"),
    ],
)
def test_headers_that_cannot_be_sent_are_told(headers: Any, error: Any, told: str) -> None:
    """When they are written, by name."""
    with pytest.raises(error, match=told):
        make_extras(headers, None, None, None)


@pytest.mark.parametrize(
    ("given_", "error", "told"),
    [
        ({"priority": True}, TypeError, "whole number"),
        ({"priority": -1}, ValueError, "0 to 255"),
        ({"expiration": float("nan")}, ValueError, "0 to 4294967"),
        ({"expiration": "1"}, TypeError, "number of seconds"),
        ({"message_id": ""}, ValueError, "1 to 255"),
    ],
)
def test_properties_that_cannot_be_sent_are_told(given_: Any, error: Any, told: str) -> None:
    """As early."""
    arguments = {"headers": None, "priority": None, "expiration": None, "message_id": None}
    with pytest.raises(error, match=told):
        make_extras(**arguments | given_)


@pytest.mark.parametrize("ours", [True, False])
def test_the_sender_s_headers_go_on(*, ours: bool) -> None:
    """Without the broker's and ours; whoever has sent it, as text or as something else."""
    own = {"traceparent": "00-a-b-01", "tenant": 7, "x-own": [1]}
    added = {"x-delivery-count": 2, "x-attempts": 1, "CC": ["q"], "x-original-expiration": "5"}
    text = {"content_type": "text/plain", "content_encoding": "utf-8", "delivery_mode": 2}
    given_ = message(
        message_id="m",
        correlation_id="c",
        headers=own | added,
        **(text if ours else {"expiration": "9", "priority": 3, "reply_to": "r"}),
    )

    made = derived_output(given_, "s", 0, b"out")

    properties = sent(made.properties)
    assert properties.headers == own
    assert (properties.message_id, properties.correlation_id) == (derived_id("m", "s", 0), "c")
    assert (properties.priority, properties.expiration, properties.reply_to) == (None, None, None)


def test_an_output_may_have_headers_and_properties_of_its_own() -> None:
    """They win over those that came; None takes one away."""
    given_ = message(message_id="m", headers={"a": 1, "b": 2, "c": 3})
    extras = make_extras({"b": "new", "c": None, "d": 4}, 5, 1.5, "mine")

    made = derived_output(given_, "s", 0, b"{}", None, JSON, extras)

    properties = sent(made.properties)
    assert decode_headers(made.properties) == {"a": 1, "b": "new", "d": 4}
    assert (properties.priority, properties.expiration) == (5, "1500")
    assert (properties.message_id, properties.content_type) == ("mine", "application/json")
    assert made.id == "mine"


def test_headers_that_cannot_be_decoded_never_go_on() -> None:
    """A table that is cut short, or holds what nobody knows, would end the connection."""
    good = message(headers={"a": 1}).properties
    for bad in (good.replace(b"\x01aI", b"\x01aQ"), good[:-1]):
        broken = Message(b"", bad, redelivered=False, routing_key="")
        with pytest.raises(UndecodableError):
            derived_output(broken, "s", 0, b"")


def test_a_message_tells_what_it_was_sent_with() -> None:
    """As values of Python; what is no number or no time is None."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    full = message(
        content_type="a/b",
        content_encoding="gzip",
        reply_to="r",
        priority=3,
        expiration="1500",
        timestamp=int(moment.timestamp()),
    )
    odd = message(expiration="soon", timestamp=2**63)
    bare = message()

    def told(each: Message) -> list[object]:
        return [
            each.content_type,
            each.content_encoding,
            each.reply_to,
            each.priority,
            each.expiration,
            each.timestamp,
        ]

    assert told(full) == ["a/b", "gzip", "r", 3, 1.5, moment]
    assert told(odd) == told(bare) == [None] * 6
