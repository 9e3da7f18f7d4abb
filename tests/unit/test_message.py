"""What a handler holds."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbit.amqp.pika_types import Properties, encode_properties
from rabbit.message import OUTPUT_NAMESPACE, Message, derived_id, new_id
from rabbit.output import derived_output, new_output
from tests.unit.texts import texts

#: Letters of each length in UTF-8, and what stands between the parts of a name.
names = texts("aZ09-_/ \0ü漢😀")


def message(body: bytes = b"", **properties: Any) -> Message:
    """Return a message as a delivery brings it."""
    raw = encode_properties(Properties(**properties))  # type: ignore[no-untyped-call]
    return Message(body, raw, redelivered=False, routing_key="")


def redelivered(**properties: Any) -> Message:
    """Return a message as it is delivered again."""
    first = message(**properties)
    return Message(first.body, first.properties, redelivered=True, routing_key="")


@given(names, names, st.integers(0, 10**9))
def test_a_derived_id_is_a_uuid5(input_id: str, stage: str, index: int) -> None:
    """Spelt out for speed, it is the RFC's version 5 of `input_id/stage/index`."""
    expected = str(uuid.uuid5(OUTPUT_NAMESPACE, f"{input_id}/{stage}/{index}"))

    assert expected == derived_id(input_id, stage, index)


def test_derived_ids_are_the_same_for_ever() -> None:
    """A new version of the library gives a redelivered message the ids it had before."""
    assert derived_id("an-id", "to_upper", 0) == "c9782640-5dda-5c1d-b80e-ec6a62ffa8ec"


def test_outputs_are_told_apart() -> None:
    """Another input, another stage or another index: another id."""
    ids = {derived_id(*of) for of in [("a", "s", 0), ("b", "s", 0), ("a", "t", 0), ("a", "s", 1)]}

    assert len(ids) == 4


@given(names, names, st.sampled_from([{}, {"reply_to": "r"}, {"expiration": "9"}, {"app_id": "x"}]))
def test_an_output_is_derived_from_what_its_input_says_of_itself(
    message_id: str, correlation_id: str, more: dict[str, Any]
) -> None:
    """Whoever has sent it, and with whatever else: ids as always, the correlation id carried on."""
    text = {"content_type": "text/plain", "content_encoding": "utf-8", "delivery_mode": 2}
    parent = message(b"in", message_id=message_id, correlation_id=correlation_id, **text, **more)
    other = message(b"in", message_id=message_id, correlation_id=correlation_id, **more)

    for each in (parent, other):
        expected = new_output(b"out", derived_id(each.id, "s", 3), each.correlation_id, "key")
        assert expected == derived_output(each, "s", 3, b"out", "key")
        assert expected.id == derived_id(each.id, "s", 3)


def test_a_correlation_id_that_is_no_text_is_carried_on_as_it_is_read() -> None:
    """The same whether the message has headers (it has been delivered before) or not."""
    properties: dict[str, Any] = {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "message_id": "m",
        "correlation_id": "cccc",
    }
    plain, again = message(**properties), message(**properties, headers={"x-delivery-count": 1})
    for each in (plain, again):
        each.properties = each.properties.replace(b"cccc", b"\xff\xfecc")

    outputs = [derived_output(each, "s", 0, b"") for each in (plain, again)]

    assert outputs == 2 * [new_output(b"", derived_id("m", "s", 0), "??cc")]


def test_an_output_of_a_message_without_ids_has_both() -> None:
    """Of one that says nothing of itself, and of one without a correlation id."""
    nameless, named = message(), message(message_id="m")

    outputs = [derived_output(each, "s", 0, b"") for each in (nameless, named)]

    assert outputs == [
        new_output(b"", derived_id(nameless.id, "s", 0), nameless.id),
        new_output(b"", derived_id("m", "s", 0), "m"),
    ]


def test_new_ids_differ() -> None:
    """A source gives each message an id of its own."""
    assert new_id() != new_id()


def test_text_is_the_body_as_utf_8() -> None:
    """The body is kept as it came; text is what it says."""
    assert message("grün".encode()).text == "grün"


def test_what_is_not_utf_8_has_no_text() -> None:
    """Nothing is replaced or dropped to make text of it."""
    broken = message(b"\xff")

    with pytest.raises(UnicodeDecodeError):
        _ = broken.text
    assert broken.body == b"\xff"


def test_a_message_without_an_id_gets_one() -> None:
    """The id stays the same for as long as the message is held."""
    nameless = message()

    assert nameless.id == nameless.id
    assert nameless.id != message().id


@pytest.mark.parametrize("kept", range(2, 8))
def test_a_message_whose_properties_are_cut_short_has_an_id(kept: int) -> None:
    """Its failure is told of by that, as any other: it ends no stage."""
    whole = message(message_id="id", correlation_id="c", priority=1).properties
    assert len(whole) == 8
    broken = Message(b"", whole[:kept], redelivered=False, routing_key="")

    message_id, correlation_id = broken.id, broken.correlation_id

    assert uuid.UUID(message_id)
    assert (broken.id, correlation_id) == (message_id, message_id)


def test_the_correlation_id_is_carried() -> None:
    """It is the sender's, or else the message's own id: then the message is a source message."""
    assert message(message_id="m", correlation_id="c").correlation_id == "c"
    assert message(message_id="m").correlation_id == "m"


def test_attempts_count_from_one() -> None:
    """Counted are those of handlers that failed, and those that the broker has counted since."""
    assert message().attempt == 1
    again = {"x-delivery-count": 2}
    assert message(headers=again).attempt == 1  # it says so, but was not delivered before
    assert redelivered(headers=again).attempt == 3
    assert message(headers={"x-attempts": 3}).attempt == 4
    assert redelivered(headers={"x-attempts": 3, **again}).attempt == 6


@pytest.mark.parametrize("given", ["3", -1, None, {"a": 1}])
def test_a_header_that_is_no_count_counts_nothing(given: object) -> None:
    """Anybody can publish a message with such a header."""
    assert message(headers={"x-attempts": given}).attempt == 1
    assert message(headers={"x-attempts": given}).failures == 0


def test_a_count_has_an_end() -> None:
    """One more of it can always be sent."""
    assert message(headers={"x-attempts": 2**63 - 1}).failures < 2**31


def test_headers_are_always_there() -> None:
    """A message without headers has none, rather than None."""
    assert dict(message().headers) == {}
    assert dict(message(headers={"a": 1}).headers) == {"a": 1}
