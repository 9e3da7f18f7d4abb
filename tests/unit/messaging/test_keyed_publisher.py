"""Outputs to an ordered edge, with the broker's part played by hand."""

from typing import Any

import pytest

from rabbit.messaging.keyed_publisher import KeyedPublisher
from rabbit.topology import Edge
from tests.unit.messaging.publishing import Desk


@pytest.fixture
def desk() -> Desk:
    """Return an open publisher."""
    return Desk(KeyedPublisher, Edge("orders", "ordered", partitions=2))


def test_one_of_each_key_is_under_way(desk: Desk) -> None:
    """The next one follows the confirm."""
    desk.write("a1", "a2", "b1", "a3")
    first = desk.sent
    desk.channel.listener.acked(1, multiple=False)
    second = desk.sent
    desk.channel.listener.acked(3, multiple=True)

    assert first == ["a1", "b1"]
    assert second == ["a2"]
    assert desk.sent == ["a3"]
    assert desk.confirmed == ["a1", "b1", "a2"]
    assert desk.publisher.pending == 1


def test_what_is_nacked_or_lost_comes_before_the_next(desk: Desk) -> None:
    """Of its key nothing overtakes it."""
    desk.write("a1", "a2")
    desk.channel.listener.nacked(1, multiple=False)
    desk.loop.pass_time()
    after_nack = desk.sent
    desk.channel.lose()
    desk.channel.open()
    after_loss = desk.sent
    desk.channel.listener.acked(1, multiple=False)

    assert after_nack == ["a1", "a1"]
    assert after_loss == ["a1"]
    assert desk.sent == ["a2"]


@pytest.mark.parametrize("drop", ["too large", "discard"])
def test_what_is_dropped_lets_the_next_follow(desk: Desk, drop: str) -> None:
    """Otherwise its key would stand still for ever."""
    desk.channel.close_by_broker(406, "message size 9 is larger than configured max size 2")
    desk.write("a1 is too large" if drop == "too large" else "a1", "a2", "a3")
    if drop == "discard":
        desk.publisher.discard(lambda owner: owner in {"a1", "a2"})
    desk.channel.open()
    desk.loop.pass_time()

    assert desk.sent == (["a2"] if drop == "too large" else ["a3"])


def test_what_is_stuck_is_let_go_of_with_what_waits_behind(desk: Desk) -> None:
    """And the publisher is empty then."""
    desk.write("a1", "a2", "b1")
    desk.channel.lose()

    stuck: list[Any] = desk.publisher.take_stuck()

    assert sorted(stuck) == ["a1", "a2", "b1"]
    assert desk.publisher.pending == 0


def test_what_became_void_under_way_is_not_published_again(desk: Desk) -> None:
    """Its input has come again elsewhere: it would come behind what is newer."""
    desk.write("a1", "a2", "b1")
    desk.void = {"a1"}
    desk.publisher.drop_void()
    desk.channel.lose()
    before = desk.sent
    desk.channel.open()

    assert before == ["a1", "b1"]
    assert sorted(desk.sent) == ["a2", "b1"]
