"""Outputs on their way, with the broker's part played by hand."""

import pytest

from rabbit.errors import RefusedError, TooLargeError, UnroutableError
from rabbit.messaging.keyed_publisher import KeyedPublisher
from rabbit.messaging.publisher import (
    FIRST_PAUSE_SECONDS,
    LAST_PAUSE_SECONDS,
    WINDOW,
    Publisher,
)
from rabbit.output import first_output
from rabbit.topology import Edge
from tests.unit.messaging.publishing import Desk

TOO_LARGE = (406, "PRECONDITION_FAILED - message size 9 is larger than configured max size 4")


@pytest.fixture
def desk() -> Desk:
    """Return an open publisher."""
    return Desk(Publisher, Edge("out"))


def test_only_so_many_await_their_confirm(desk: Desk) -> None:
    """What is confirmed makes room for as many."""
    desk.write(*(f"{number}" for number in range(WINDOW + 3)))
    first = desk.sent
    desk.channel.listener.acked(2, multiple=True)

    assert first == [f"{number}" for number in range(WINDOW)]
    assert desk.confirmed == ["0", "1"]
    assert desk.sent == [f"{WINDOW}", f"{WINDOW + 1}"]
    assert desk.publisher.pending == WINDOW + 1


@pytest.mark.parametrize("says", ["acked", "nacked"])
def test_a_confirm_may_be_about_many(desk: Desk, says: str) -> None:
    """With `multiple` it is about all before it that had none, and about each once."""
    desk.write("a", "b", "c", "d")
    desk.channel.listener.acked(2, multiple=False)
    getattr(desk.channel.listener, says)(3, multiple=True)

    assert desk.confirmed == (["b", "a", "c"] if says == "acked" else ["b"])
    assert [text for text, _ in desk.nacked] == ([] if says == "acked" else ["a", "c"])


def test_nothing_overtakes_what_is_nacked(desk: Desk) -> None:
    """It is published again first, after a pause that doubles up to a bound; told once."""
    desk.write("a")
    pauses = []
    for tag in range(1, 10):
        desk.channel.listener.nacked(tag, multiple=False)
        pauses.append(desk.loop.timers[-1][0])
        desk.loop.pass_time()
    desk.channel.listener.nacked(10, multiple=False)
    desk.write("b")
    before = desk.sent
    desk.loop.pass_time()
    desk.channel.listener.acked(12, multiple=True)

    assert before == 10 * ["a"]
    assert desk.sent == ["a", "b"]
    assert (pauses[:3], pauses[-1]) == ([0.1, 0.2, 0.4], LAST_PAUSE_SECONDS)
    assert {(text, type(error)) for text, error in desk.nacked} == {("a", RefusedError)}
    assert desk.confirmed == ["a", "b"]
    assert desk.said == ["output refused, trying again", "output accepted again"]


def test_what_is_returned_is_not_confirmed_by_the_ack_that_follows(desk: Desk) -> None:
    """A broker acks what it has returned; what was acked with it is confirmed."""
    desk.write("a", "b", "c")
    desk.channel.returns(desk.channel.published[1])
    desk.channel.listener.acked(3, multiple=True)

    assert desk.confirmed == ["a", "c"]
    assert [(text, type(error)) for text, error in desk.nacked] == [("b", UnroutableError)]


def test_of_equal_ids_the_one_with_the_returned_key_is_not_confirmed() -> None:
    """A return names the exchange and the key, too: only what went there has no queue."""
    desk = Desk(Publisher, Edge("out", "direct"))
    desk.write_with_id("X", "a", "b")
    desk.channel.returns(desk.channel.published[1])
    desk.channel.listener.acked(2, multiple=True)

    assert desk.confirmed == ["a"]
    assert [(text, type(error)) for text, error in desk.nacked] == [("b", UnroutableError)]


@pytest.mark.parametrize("multiple", [True, False])
def test_of_what_looks_alike_to_a_return_nothing_is_confirmed(
    desk: Desk, *, multiple: bool
) -> None:
    """Rather one of them is published twice than the other one lost; what comes later counts."""
    desk.write_with_id("X", "a1", "a2")
    desk.write("b")
    desk.channel.returns(desk.channel.published[1])
    desk.write_with_id("X", "a3")
    for tag in [4] if multiple else [2, 4, 1, 3]:
        desk.channel.listener.acked(tag, multiple=multiple)
    before, nacked = sorted(desk.confirmed), sorted(text for text, _ in desk.nacked)
    desk.channel.published.clear()
    desk.loop.pass_time()

    assert (before, nacked) == (["a3", "b"], ["a1", "a2"])
    assert sorted(desk.sent) == ["a1", "a2"]
    desk.channel.listener.acked(6, multiple=True)
    assert sorted(desk.confirmed) == ["a1", "a2", "a3", "b"]
    assert not desk.publisher._returned  # noqa: SLF001 - nor is a return kept for ever


def test_a_return_of_a_key_that_is_no_utf_8_is_understood() -> None:
    """Such a key is passed on as it came."""
    desk = Desk(Publisher, Edge("out", "direct"))
    desk.publisher.send([first_output(b"a", "\udcff")], "a")
    [published] = desk.channel.published
    desk.channel.returns(published)
    desk.channel.listener.acked(1, multiple=False)

    assert desk.confirmed == []


def test_what_was_not_confirmed_is_published_again_after_a_loss(desk: Desk) -> None:
    """First, in order, with the same ids; what has become void is not."""
    desk.write("a", "b", "c", "d")
    desk.channel.listener.acked(2, multiple=False)
    before = list(desk.channel.published)
    desk.channel.lose()
    desk.write("e")
    desk.void = {"c"}
    desk.publisher.drop_void()
    desk.channel.published.clear()
    desk.channel.open()

    assert desk.channel.published[:2] == [before[0], before[3]]
    assert desk.sent == ["a", "d", "e"]
    desk.channel.listener.acked(3, multiple=True)
    assert desk.confirmed == ["b", "a", "d", "e"]


def test_what_is_too_large_is_nacked_and_the_rest_goes_on(desk: Desk) -> None:
    """Also what is written later: the channel is not closed for it again."""
    desk.write("a", "much too large", "b")
    desk.channel.published.clear()
    desk.channel.close_by_broker(*TOO_LARGE)
    desk.loop.pass_time()
    desk.write("too large as well", "c")

    assert desk.sent == ["a", "b", "c"]
    assert [text for text, _ in desk.nacked] == ["much too large", "too large as well"]
    assert {type(error) for _, error in desk.nacked} == {TooLargeError}


def test_a_broker_that_blocks_is_sent_nothing(desk: Desk) -> None:
    """Until it is over; who cannot wait is told whose outputs are stuck."""
    desk.write("a")
    desk.connection.blocked = True
    desk.write("b")
    before, is_flowing = desk.sent, desk.publisher.is_flowing
    desk.connection.blocked = False
    for go_on in desk.connection.on_unblocked:
        go_on()
    after = desk.sent
    desk.connection.blocked = True
    desk.write("c")

    assert (before, is_flowing, after) == (["a"], False, ["b"])
    assert desk.publisher.take_stuck() == ["c", "a", "b"]
    assert desk.publisher.pending == 0


@pytest.mark.parametrize("kind", [Publisher, KeyedPublisher])
@pytest.mark.parametrize(
    "how", ["stuck", "void", "void when it is lost", "void under way", "too large under way"]
)
def test_nothing_is_refused_where_nothing_waits(kind: type[Publisher[str]], how: str) -> None:
    """It was let go of, not accepted; the next that is nacked is told of anew."""
    desk = Desk(kind, Edge("out", "ordered" if kind is KeyedPublisher else "work"))
    desk.write("a much")
    desk.channel.listener.nacked(1, multiple=False)
    was_nacked = desk.publisher.is_nacked

    if "void" in how:
        desk.void = {"a much"}
    if "under way" in how:
        desk.loop.pass_time()
    if how == "stuck":
        desk.publisher.take_stuck()
    elif how == "too large under way":
        desk.channel.close_by_broker(*TOO_LARGE)
    elif how == "void when it is lost":
        desk.channel.lose()
        desk.channel.open()
    else:
        desk.publisher.drop_void()
        desk.channel.listener.nacked(2, multiple=False)
    desk.loop.pass_time()

    assert was_nacked
    assert (desk.publisher.pending, desk.publisher.refusal) == (0, None)
    assert not desk.publisher.is_blocked
    desk.write("b")
    assert not desk.publisher.is_nacked
    desk.channel.listener.nacked(desk.publisher._unconfirmed.last, multiple=False)  # noqa: SLF001 - its number
    assert desk.said == 2 * ["output refused, trying again"]
    assert desk.loop.timers[-1][0] == FIRST_PAUSE_SECONDS


def test_what_was_refused_is_so_until_the_rest_is_heard_of(desk: Desk) -> None:
    """Though it is let go of: the others, which are under way, may be refused as well."""
    desk.write("a", "b")
    desk.channel.listener.nacked(1, multiple=False)
    desk.publisher.take_stuck()
    before = desk.publisher.is_nacked
    desk.channel.listener.acked(2, multiple=False)

    assert (before, desk.publisher.is_nacked) == (True, False)
    assert desk.said == ["output refused, trying again", "output accepted again"]
