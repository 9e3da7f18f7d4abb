"""Headers set and taken away in place, held against pika's codec."""

# mypy: disable-error-code="no-untyped-call"

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from rabbit.amqp.properties import set_aside, with_headers
from tests.unit.texts import texts

names = texts("abx-ü")
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | names
    | st.binary(max_size=9)
    | st.just(Decimal("1.25"))
    | st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
headers = st.none() | st.dictionaries(names, values, max_size=4)
SHORT_STRINGS = (
    *("content_type", "content_encoding", "correlation_id", "reply_to", "expiration"),
    *("message_id", "type", "user_id", "app_id", "cluster_id"),
)
set_headers = st.dictionaries(names, names | st.integers(-(2**63), 2**63 - 1), max_size=3)


def raw(**given: Any) -> bytes:
    """Encode properties as pika does."""
    return b"".join(BasicProperties(**given).encode())


def read(properties: bytes) -> BasicProperties:
    """Decode properties as pika does."""
    decoded = BasicProperties()
    decoded.decode(properties)
    return decoded


@given(headers, set_headers, st.sets(names))
def test_headers_are_set_and_taken_away(
    old: dict[str, Any] | None, new: dict[str, str | int], gone: set[str]
) -> None:
    """What is set wins; what is neither named nor set stays."""
    before = raw(content_type="text/plain", headers=old, message_id="m", app_id="a")

    after = with_headers(before, new, gone.__contains__)

    kept = {name: value for name, value in (old or {}).items() if name not in gone}
    expected = BasicProperties(
        content_type="text/plain", headers={**kept, **new}, message_id="m", app_id="a"
    )
    assert expected == read(after)


@given(headers)
def test_what_is_not_named_stays_byte_for_byte(old: dict[str, Any] | None) -> None:
    """Set, and taken away again: nothing has changed."""
    before = raw(headers=old or {}, correlation_id="c")
    mark = "not among the names"

    marked = with_headers(before, {mark: "x"}, lambda _: False)

    assert before == with_headers(marked, {}, mark.__eq__)


def test_values_that_pika_cannot_decode_are_kept() -> None:
    """A time stamp out of range, for one, ends pika's connection; here it is just bytes."""
    before = raw(headers={"when": datetime(2026, 1, 1, tzinfo=UTC)})
    poison = before[:-8] + b"\xff" * 8

    after = with_headers(poison, {"x-attempts": 1}, lambda _: False)

    assert poison[6:] in after


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(SHORT_STRINGS, names),
            "headers": st.dictionaries(names, values, max_size=3),
            "delivery_mode": st.integers(1, 2),
            "priority": st.integers(0, 255),
            "timestamp": st.integers(0, 2**32),
        },
    )
)
def test_what_the_broker_acts_upon_is_set_aside(before: dict[str, Any]) -> None:
    """Expiration and user id become headers to be set; all other properties stay."""
    after, aside = set_aside(raw(**before))

    expiration, user = before.pop("expiration", None), before.pop("user_id", None)
    assert raw(**before) == after
    expected = {"x-original-expiration": expiration, "x-original-user-id": user}
    assert {name: value for name, value in expected.items() if value is not None} == aside


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_headers_that_are_cut_short_are_an_error(cut: int) -> None:
    """They are not read beyond their end."""
    with pytest.raises(ValueError, match="cut short"):
        with_headers(raw(headers={"name": "value"})[:-cut], {}, lambda _: False)


def test_a_value_of_unknown_type_is_an_error() -> None:
    """Its length is not known."""
    unknown = raw(headers={"a": True}).replace(b"at\x01", b"a?\x01")

    with pytest.raises(ValueError, match="unknown type"):
        with_headers(unknown, {}, lambda _: False)
