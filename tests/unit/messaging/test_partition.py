"""One partition of an ordered edge, with the broker's part played by hand."""

from collections.abc import Iterator

import pytest

from rabbit.messaging import held, ordered_consumer
from rabbit.messaging.held import DEPTH, HOPELESS, KeyedDelivery
from rabbit.messaging.ordered_consumer import OrderedConsumer
from rabbit.topology import Edge
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection, log


class Desk:
    """A consumer of an ordered edge of one partition, with the broker in the test's hands."""

    def __init__(self) -> None:
        """Be in line."""
        self.loop = ScriptedLoop()
        connection = ScriptedConnection(self.loop)
        self.running: list[KeyedDelivery] = []
        self.hopeless: list[KeyedDelivery] = []
        self.consumer = OrderedConsumer(
            as_connection(connection),
            Edge("orders", "ordered", partitions=1),
            "stage/replica",
            log,
            put_back_unstarted=lambda: None,
            on_lost=lambda: None,
            on_hopeless=self.hopeless.append,
            on_failed=lambda error: pytest.fail(str(error)),
        )
        self.census, self.channel = connection.users
        for channel in connection.users:
            channel.open()
        self.consumer.resume()
        self.channel.sent.clear()
        self.census.sent.clear()

    def deliver(self, *texts: str, key: str = "k", in_vain: int = 0) -> None:
        """Deliver messages of one key, and start what may be."""
        self.channel.deliver(*texts, key=key, in_vain=in_vain)
        self.start()

    def start(self) -> None:
        """Start what may be."""
        self.running += self.consumer.take_arrived()

    def settle(self, text: str) -> None:
        """Have a message handled without an output; its ack is due with the next flush."""
        delivery = next(each for each in self.running if each.text == text)
        self.running.remove(delivery)
        self.consumer.handler_ended(delivery)
        assert self.consumer.allow_ack(delivery)

    def turn(self) -> None:
        """Have what is due sent, and what may be started."""
        self.consumer.send_settlements()
        self.start()

    def pass_time(self) -> None:
        """Run what waits for a time."""
        self.loop.pass_time()
        self.turn()

    @property
    def texts(self) -> list[str]:
        """What is being handled."""
        return [each.text for each in self.running]

    def take_sent(self) -> list[tuple[str, object]]:
        """Return what was sent since this was asked last."""
        sent, self.channel.sent = self.channel.sent, []
        return sent


@pytest.fixture
def desk() -> Desk:
    """Return a consumer that is in line."""
    return Desk()


def sent_before_the_end(desk: Desk) -> list[tuple[str, object]]:
    """Return what was sent before the consumer was forgotten, with which everything ends."""
    sent = desk.take_sent()
    return sent[: sent.index(("forget the consumer", None))]


def test_the_next_of_a_key_begins_when_the_one_before_is_settled(desk: Desk) -> None:
    """Other keys do not wait for it."""
    desk.deliver("a1", "a2", key="a")
    desk.deliver("b1", key="b")
    assert desk.texts == ["a1", "b1"]

    desk.settle("a1")
    desk.turn()

    assert desk.texts == ["b1", "a2"]
    assert desk.take_sent() == [("ack", 1)]


@pytest.fixture
def an_ack_is_due(desk: Desk) -> None:
    """Have two messages handled, one shortly after the other: the second ack waits for its time."""
    desk.deliver("a", "b")
    for text in ("a", "b"):
        desk.settle(text)
        desk.turn()
    assert desk.take_sent() == [("ack", 1)]


@pytest.mark.usefixtures("an_ack_is_due")
def test_acks_are_sent_before_a_cancelled_consumer_is_replaced(desk: Desk) -> None:
    """It is told, with what to do, and tried again after a pause."""
    desk.channel.listener.consumer_cancelled()

    assert sent_before_the_end(desk) == [("ack", 2)]
    assert not desk.consumer.is_consuming
    desk.channel.open()
    assert desk.consumer.is_consuming


def test_a_consumer_that_is_cancelled_is_told_of_and_waited_for(desk: Desk) -> None:
    """Its queue may have been deleted again and again: not without a word, nor without a pause."""
    desk.channel.listener.consumer_cancelled()

    [(_, reason)] = [sent for sent in desk.take_sent() if sent[0] == "replace"]
    assert str(reason).startswith("'orders.0' is consumed no more")
    assert "make doctor" in str(reason)
    desk.pass_time()
    assert ("consume", DEPTH) in desk.take_sent()


@pytest.mark.usefixtures("an_ack_is_due")
def test_acks_are_sent_before_all_is_given_up(desk: Desk) -> None:
    """DRAIN_TIMEOUT is over: what has been handled is acked, the rest comes again."""
    desk.consumer.requeue_all()

    assert sent_before_the_end(desk) == [("ack", 2)]


@pytest.fixture
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have what is slow be waited for not at all, and much be too much soon."""
    monkeypatch.setattr(ordered_consumer, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(ordered_consumer, "MOST_BYTES", 5)
    monkeypatch.setattr(held, "KEPT_AT_LEAST", 3)
    yield  # noqa: PT022


@pytest.mark.usefixtures("nobody_waits")
def test_who_holds_too_much_does_not_wait_for_a_slow_handler_either(desk: Desk) -> None:
    """It was to pass the partition on: other keys go on meanwhile, and what was too much comes."""
    desk.deliver("slow", key="slow")
    desk.consumer.stand_in_line()
    [mine] = desk.consumer._partitions  # noqa: SLF001 - as if it had more than its share
    mine.leave(comes_back=True)
    desk.deliver("b", "c", "too much", key="other")
    assert desk.texts == ["slow"]

    desk.turn()
    desk.turn()
    assert desk.texts == ["slow", "b"]
    for text in ("b", "c", "slow"):
        desk.settle(text)
        desk.turn()
    desk.turn()
    desk.pass_time()
    assert [sent for sent, _ in desk.take_sent()][-2:] == ["replace", "consume"]


def test_who_is_paused_alone_lets_the_others_have_it(desk: Desk) -> None:
    """What runs is finished; then it is in line for nothing, nor counted, until it is resumed."""
    desk.deliver("a1", "a2", key="a")
    desk.consumer.pause()
    desk.consumer.stand_aside()
    assert not desk.consumer.is_paused

    desk.settle("a1")
    desk.turn()
    sent = desk.take_sent()
    assert [what for what, _ in sent] == ["ack", "forget the consumer", "replace"]
    assert [what for what, _ in desk.census.sent] == ["replace"]
    assert desk.consumer.is_paused
    assert desk.consumer.in_flight == 0

    desk.consumer.resume()
    assert desk.take_sent() == [("consume", DEPTH)]
    assert desk.census.sent[-1] == ("consume", 1)
    assert desk.consumer.is_consuming


def test_who_is_paused_alone_before_it_is_registered_is_in_line_again(desk: Desk) -> None:
    """What consume-ok says is too late then; the partition is not left for good."""
    desk.consumer.pause()
    desk.consumer.stand_aside()
    desk.pass_time()
    desk.channel.is_slow = True
    desk.consumer.resume()
    desk.consumer.pause()
    desk.consumer.stand_aside()
    desk.pass_time()
    desk.pass_time()
    assert desk.consumer.is_paused

    desk.consumer.resume()
    desk.pass_time()
    assert desk.consumer.is_consuming
    desk.deliver("a")
    assert desk.texts == ["a"]


def test_who_is_paused_alone_without_a_channel_is_not_in_line_before_it_has_one(desk: Desk) -> None:
    """The broker has closed it, and the next one has to wait: nothing is consumed till then."""
    desk.channel.close_by_broker(404, "NOT_FOUND")
    desk.consumer.pause()
    desk.consumer.stand_aside()
    desk.consumer.resume()
    before = desk.consumer.is_consuming

    desk.pass_time()
    assert (before, desk.consumer.is_consuming) == (False, True)


def test_who_is_paused_with_its_stage_holds_what_it_has(desk: Desk) -> None:
    """To give it back would count, and nobody else would go on with it."""
    desk.deliver("a1", "a2", key="a")
    desk.consumer.pause()
    desk.settle("a1")
    desk.turn()

    assert desk.take_sent() == [("ack", 1)]
    assert desk.consumer.is_paused
    desk.consumer.resume()
    desk.turn()
    assert desk.texts == ["a2"]


def test_the_next_of_a_key_begins_when_work_has_returned(desk: Desk) -> None:
    """It does not wait for the confirms; each is acked with its own."""
    desk.deliver("a1", "a2", key="a")
    [first] = desk.running
    desk.consumer.handler_ended(first)
    desk.consumer.expect(first, 1)
    desk.turn()
    assert desk.texts == ["a1", "a2"]
    assert desk.take_sent() == []

    assert desk.consumer.output_confirmed(first)
    desk.turn()
    assert desk.take_sent() == [("ack", 1)]


def test_what_ends_each_process_is_given_up_and_what_is_behind_it_is_not(desk: Desk) -> None:
    """The first of its key is: all other keys have had their turn before it by now."""
    desk.deliver("it kills", "innocent", key="k", in_vain=HOPELESS)
    desk.deliver("another", key="other", in_vain=HOPELESS - 1)
    assert [each.text for each in desk.hopeless] == ["it kills"]
    assert desk.texts == ["another"]

    desk.consumer.allow_ack(desk.hopeless[0])
    desk.turn()
    assert desk.texts == ["another", "innocent"]
    assert len(desk.hopeless) == 1


def test_where_all_have_come_so_often_it_is_none_of_them(desk: Desk) -> None:
    """Something else ends the process, before it handles anything: each is tried."""
    desk.channel.deliver("a", key="a", in_vain=HOPELESS)
    desk.channel.deliver("b", key="b", in_vain=HOPELESS)
    desk.start()

    assert sorted(desk.texts) == ["a", "b"]
    assert desk.hopeless == []


def test_what_is_let_go_of_comes_again_though_the_partition_is_kept(desk: Desk) -> None:
    """It was to be passed on, or paused; then all the rest is handled, and the channel replaced."""
    desk.deliver("stuck", key="a")
    desk.deliver("b", key="b")
    desk.consumer.requeue(desk.running.pop(0))
    desk.turn()
    desk.settle("b")
    desk.turn()
    desk.turn()

    assert [what for what, _ in desk.take_sent()] == [
        *("ack", "forget the consumer", "replace", "consume")
    ]


def test_who_is_paused_while_it_halts_halts(desk: Desk) -> None:
    """It does not stand by for a line that it has left."""
    desk.deliver("a")
    desk.consumer.cancel()
    desk.consumer.pause()
    desk.consumer.stand_aside()

    desk.settle("a")
    desk.turn()

    assert desk.consumer.is_cancelled
    assert desk.take_sent()[-1] == ("close", None)
