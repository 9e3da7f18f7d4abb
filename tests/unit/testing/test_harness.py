"""Stages without a broker."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from rabbit import (
    BatchConsumer,
    ConfigurationError,
    Message,
    MessageQueue,
    Reject,
    ResourcesError,
    Worker,
)
from rabbit.message import derived_id
from rabbit.testing import Sent, harness, pipeline
from services.to_upper import ToUpper


class Picky(Worker):
    """Writes twice, then refuses what it does not like."""

    seen: str | None = None

    def work(self, message: str) -> None:
        """Note what else is known of the message."""
        self.seen = f"{self.message.id} {self.message.redelivered} {self.message.headers.get('a')}"
        self.write(message, None if self.settings.output_kind == "work" else "red")
        self.write(message, None if self.settings.output_kind == "work" else "green")
        if message == "bad":
            msg = "no"
            raise ValueError(msg)
        if message == "ugly":
            raise Reject("never")


def test_outputs_and_how_it_settled() -> None:
    """What a stage writes, and that its input is acked for it."""
    sent = harness(ToUpper).send("hello")

    assert sent.outputs == ["HELLO"]
    assert sent.settled == "acked"
    assert sent.error is None


def test_ids_and_keys_of_the_outputs() -> None:
    """Each output has its routing key and the id that a real replica would give it."""
    sent = harness(Picky, output_kind="topic").send("hello", message_id="m")

    assert sent.keys == ["red", "green"]
    assert [derived_id("m", "picky", 0), derived_id("m", "picky", 1)] == sent.ids


def test_the_same_input_gives_the_same_ids() -> None:
    """A redelivery, even to another replica, is known by its outputs' ids."""
    once = harness(ToUpper, "one").send("hello", message_id="m")
    again = harness(ToUpper, "two").send("hello", message_id="m", redelivered=True)
    other = harness(ToUpper, "one").send("hello")

    assert once.ids == again.ids
    assert once.ids != other.ids


def test_failing_work_has_no_outputs() -> None:
    """Its input comes again, and the error can be looked at."""
    sent = harness(Picky).send("bad")

    assert (sent.outputs, sent.settled) == ([], "retried")
    assert isinstance(sent.error, ValueError)


def test_after_the_last_delay_failing_work_is_given_up() -> None:
    """The attempts before are in a header; how many there are is a setting."""
    fed = harness(Picky, retry_delays=(1.0, 2.0))

    assert [fed.send("bad", attempt=number).settled for number in (1, 2, 3)] == [
        "retried",
        "retried",
        "dead-lettered",
    ]
    assert fed.send("bad", headers={"x-attempts": 2}).settled == "retried", "its sender's own"
    with pytest.raises(ValueError, match="attempt: 0 is below 1"):
        fed.send("bad", attempt=0)


def test_what_becomes_of_a_message_that_failed() -> None:
    """It waits so long, and comes again as it is then; or it is kept with the reason."""
    fed = harness(Picky, "me", retry_delays=(1.5,))

    first = fed.send("bad", message_id="m", headers={"a": 1})
    again = fed.deliver(kept(first))

    assert (first.delay, again.delay) == (1.5, None)
    assert (kept(first).id, kept(first).attempt, kept(first).headers["a"]) == ("m", 2, 1)
    assert again.settled == "dead-lettered"
    assert (kept(again).text, kept(again).headers["x-error-type"]) == ("bad", "ValueError")
    assert kept(again).headers["x-failed-replica"] == "me"
    assert fed.send("good").kept is None


def kept(sent: Sent) -> Message:
    """Return what is kept of a message, which has failed."""
    assert sent.kept is not None
    return sent.kept


def test_what_is_rejected_is_given_up_at_once() -> None:
    """Further attempts would be of no use."""
    sent = harness(Picky).send("ugly")

    assert (sent.outputs, sent.settled) == ([], "dead-lettered")
    assert isinstance(sent.error, Reject)


def test_what_is_not_utf_8_is_given_up_at_once() -> None:
    """The stage never sees it."""
    fed = harness(Picky)
    sent = fed.send(b"\xff")

    assert (sent.outputs, sent.settled) == ([], "dead-lettered")
    assert isinstance(sent.error, UnicodeDecodeError)
    assert fed.stage.seen is None


class Tell(Worker):
    """Writes what is known of a message."""

    def work(self, _: str) -> None:
        """Write it."""
        known = self.message
        self.write(f"{known.id} {known.correlation_id} {known.routing_key} {known.redelivered}")
        self.write(f"{known.attempt} {dict(known.headers)}")


def test_the_stage_sees_its_message() -> None:
    """What is known of it is as given; by default it is one that has just come from a source."""
    told = harness(Tell).send(
        "hello",
        message_id="m",
        correlation_id="c",
        headers={"a": 1},
        routing_key="red",
        redelivered=True,
        attempt=3,
    )
    default = harness(Tell, input="here").send("hello", message_id="m")
    by_key = harness(Tell, input_kind="topic", input_keys="#").send("hello", message_id="m")

    assert told.outputs == ["m c red True", "3 {'a': 1, 'x-attempts': 2}"]
    assert default.outputs == ["m m here False", "1 {}"]
    assert by_key.outputs[0] == "m m  False"


def test_what_else_a_message_is_published_with() -> None:
    """By default, it is what a stage writes; else it is as given, or said not to be a property."""

    class Seen(Worker):
        def work(self, _: bytes) -> None:
            known = self.message
            self.write([known.content_type, known.content_encoding, known.reply_to])
            self.write([known.priority, known.expiration, known.timestamp])

    fed = harness(Seen)
    given = fed.send(
        zlib.compress(b"a"),
        content_type="image/png",
        content_encoding="deflate",
        reply_to="me",
        priority=3,
        expiration=1.5,
        timestamp=datetime(2026, 11, 25, tzinfo=UTC),
    )

    assert fed.send("a").outputs == [["text/plain", "utf-8", None], 3 * [None]]
    assert fed.send(b"a").outputs[0] == ["application/octet-stream", None, None]
    assert fed.send({"a": 1}).outputs[0] == ["application/json", None, None]
    assert given.outputs == [
        ["image/png", "deflate", "me"],
        [3, 1.5, datetime(2026, 11, 25, tzinfo=UTC)],
    ]
    with pytest.raises(TypeError, match="no property of a message: colour"):
        fed.send("a", colour="red")  # type: ignore[call-arg]


class Order(BaseModel):
    """A payload."""

    pieces: int


class Price(Worker):
    """Takes a model, and writes one."""

    def work(self, order: Order) -> None:
        """Write twice as many; then what has been written must not change what is told of it."""
        order.pieces *= 2
        self.write(order)
        order.pieces = 0


def test_it_takes_and_gives_the_types_of_the_stage() -> None:
    """A model in, or JSON; the model that was written out; what is none is a dead letter."""
    fed = harness(Price)

    assert fed.send(Order(pieces=2)).outputs == [Order(pieces=4)]
    assert fed.send('{"pieces": 3}').outputs == [Order(pieces=6)]
    assert fed.send(Order(pieces=1)).messages[0].text == '{"pieces":2}'
    assert fed.send({"pieces": "many"}).settled == "dead-lettered"
    assert pipeline(Price, Price).send({"pieces": 1}).outputs == [Order(pieces=4)]


def test_outputs_are_what_the_next_stage_gets() -> None:
    """With ids, correlation id and the key that a broker would deliver them with."""
    sent = harness(Picky, output_kind="topic").send("hello", message_id="m", correlation_id="c")
    plain = harness(Picky, output="there").send("hello").messages

    assert [each.id for each in sent.messages] == sent.ids
    assert [(each.text, each.correlation_id) for each in sent.messages] == 2 * [("hello", "c")]
    assert [each.routing_key for each in sent.messages] == ["red", "green"]
    assert [each.routing_key for each in plain] == ["there", "there"]
    assert sent.message.text == "hello"


class Asserting(Worker):
    """Has an assertion of the test's, or what is no error of its own, in its work."""

    raised: BaseException = AssertionError("not what was expected")

    def work(self, message: str) -> None:
        """Raise it."""
        self.write(message)
        raise self.raised


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("not what was expected"),
        KeyboardInterrupt(),
        SystemExit(3),
        pytest.fail.Exception("told by the test"),
        ExceptionGroup("two", [ValueError(), AssertionError("not what was expected")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_ends_a_test_is_not_swallowed(error: BaseException) -> None:
    """It comes out of `send`, and the stage can be used again."""
    fed = harness(Asserting)
    fed.stage.raised = error
    with pytest.raises(type(error)) as caught:
        fed.send("a")
    assert caught.value is error

    fed.stage.raised = ExceptionGroup("no assertion", [ValueError()])
    again = fed.send("a")
    assert (again.settled, again.outputs) == ("retried", [])


def test_a_failure_is_told_with_where_it_was_raised(capsys: pytest.CaptureFixture[str]) -> None:
    """As a running stage tells it; pytest shows it where a test fails."""
    harness(Picky).send("bad", message_id="m")

    told = capsys.readouterr().err
    assert "message failed" in told
    assert "again in 1 s" in told
    assert "message_id=m" in told
    assert "in work" in told


def test_a_stage_goes_on_after_a_failure() -> None:
    """One replica is fed one message after the other."""
    fed = harness(Picky)
    fed.send("bad")

    assert fed.send("good").outputs == ["good", "good"]


def test_arguments_are_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """They win over the environment, which wins over queues that nobody has named."""
    monkeypatch.setenv("OUTPUT_QUEUE", "named")
    stage = harness(ToUpper, "me", concurrency=3).stage

    assert (stage.name, stage.settings.concurrency) == ("me", 3)
    assert (stage.settings.input_queue, stage.settings.output_queue) == ("input", "named")


class Route(Worker):
    """Uses a text as its routing key."""

    def work(self, message: str) -> None:
        """Write it."""
        self.write(message, key=message)


def test_a_key_that_is_too_long_is_the_handlers_failure() -> None:
    """AMQP's short strings have 255 bytes."""
    fed = harness(Route, output_kind="direct")

    assert fed.send(300 * "k").settled == "retried"
    assert fed.send(127 * "ü").settled == "acked"


@pytest.mark.parametrize("kind", ["direct", "topic"])
def test_an_edge_that_routes_by_key_needs_one(kind: str) -> None:
    """As a running stage and a MessageQueue say it; no other edge needs one."""
    sent = harness(ToUpper, output_kind=kind, output="news").send("a")

    assert (sent.settled, sent.outputs) == ("retried", [])
    with pytest.raises(ValueError, match=f"no key: 'news' is of kind {kind}, .* key=") as caught:
        raise sent.error or AssertionError
    with pytest.raises(ValueError, match="no key") as of_queue:
        MessageQueue("news", kind).publish("a")  # type: ignore[arg-type]
    assert str(caught.value) == str(of_queue.value)
    assert harness(ToUpper, output_kind="broadcast").send("a").settled == "acked"


@pytest.mark.parametrize("kind", ["direct", "topic"])
def test_the_poison_pill_has_no_key(kind: str) -> None:
    """So it could not be handed on: said when the stage is built."""
    with pytest.raises(ConfigurationError, match=f"POISON_PILL .* 'output' is of kind {kind}"):
        harness(ToUpper, output_kind=kind, poison_pill="HALT")


def test_a_work_queue_has_no_keys() -> None:
    """A key that nobody would look at is an error."""
    sent = harness(Route).send("red")

    assert sent.settled == "retried"
    with pytest.raises(ValueError, match="the edge has no keys"):
        raise sent.error or AssertionError


class Store(BatchConsumer):
    """Keeps orders; notes how many there were in each call of `work`."""

    def __init__(self, **given: Any) -> None:
        """Begin with none."""
        self.sizes: list[int] = []
        super().__init__(**given)

    def work(self, messages: list[Order]) -> None:
        """Refuse batches with an order of nothing."""
        self.sizes.append(len(messages))
        assert len(self.messages) == len(messages) < 5
        if any(order.pieces == 0 for order in messages):
            raise ValueError("nothing")


def test_a_batch_is_handled_together() -> None:
    """One bad message harms no other, whatever is wrong with it; what came of each is in order."""
    fed = harness(Store, retry_delays=(1.0,))

    assert [sent.settled for sent in fed.send_batch([Order(pieces=1), {"pieces": 2}])] == 2 * [
        "acked"
    ]
    sent = fed.send_batch(['{"pieces": 1}', {"pieces": 0}, "no order", {"pieces": 2}])
    again = fed.send_batch([kept(sent[1]), Order(pieces=1)])

    assert [each.settled for each in sent] == ["acked", "retried", "dead-lettered", "acked"]
    assert [each.settled for each in again] == ["dead-lettered", "acked"]
    assert fed.stage.sizes == [2, 3, 1, 1, 1, 2, 1, 1]
    assert fed.send({"pieces": 1}).settled == "acked"
    assert fed.send_batch([]) == []


def test_a_batch_is_no_larger_than_a_running_one() -> None:
    """More than BATCH_SIZE are several batches; so they are in a pipeline."""
    fed = harness(Store, batch_size=2)
    fed.send_batch(5 * [Order(pieces=1)])
    pipeline(harness(Several), behind := harness(Store, batch_size=2)).send("a")

    assert fed.stage.sizes == [2, 2, 1]
    assert behind.stage.sizes == [2, 1]


class Several(Worker):
    """Writes three."""

    def work(self, _: str) -> None:
        """Write them."""
        for _number in range(3):
            self.write(Order(pieces=1))


def test_a_failing_assertion_about_a_batch_ends_the_test() -> None:
    """Though none of its messages would fail alone."""
    with pytest.raises(AssertionError):
        harness(Store).send_batch(5 * [Order(pieces=1)])
    with pytest.raises(TypeError, match="to_upper is no BatchConsumer"):
        harness(ToUpper).send_batch(["a"])


class Slow(Worker):
    """Waits for others; is cancelled by itself."""

    async def work(self, message: str) -> None:
        """Write from a task of its own."""
        await asyncio.gather(*(asyncio.to_thread(self.write, word) for word in message.split()))
        assert message != "bad"
        if message == "cancelled":
            raise asyncio.CancelledError


def test_an_async_stage_is_fed_like_any_other() -> None:
    """Also within a test that is a coroutine itself."""
    fed = harness(Slow)

    async def within() -> list[Any]:
        return fed.send("c d").outputs

    assert sorted(fed.send("a b").outputs) == ["a", "b"]
    assert sorted(asyncio.run(within())) == ["c", "d"]
    assert fed.send("cancelled").settled == "retried"
    with pytest.raises(AssertionError):
        fed.send("bad")


class Opening(Worker):
    """Opens something for itself, and something for each thread."""

    seen: tuple[str, ...] = ()

    def see(self, what: str) -> None:
        """Note it."""
        self.seen += (what,)

    @contextmanager
    def resources(self) -> Iterator[None]:
        """Open the first."""
        self.see("open")
        try:
            yield
        finally:
            self.see("close")

    @contextmanager
    def thread_resources(self) -> Iterator[None]:
        """Open the second."""
        self.local.prefix = "> "
        self.see("thread")
        yield
        self.see("thread ends")

    def work(self, message: str) -> None:
        """Use it."""
        self.write(self.local.prefix + message)


class Connecting(Worker):
    """Opens something on its event loop."""

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[None]:
        """Hold a lock of that loop's."""
        async with asyncio.Lock() as _:
            self.loop = asyncio.get_running_loop()
            yield

    async def work(self, message: str) -> None:
        """Write, on the same loop."""
        assert self.loop is asyncio.get_running_loop()
        self.write(message)


def test_what_a_stage_opens_is_open_within_with() -> None:
    """In the order of a running one; without `with`, one line says what to do."""
    fed = harness(Opening)
    with fed:
        assert [fed.send(text).outputs for text in "ab"] == [["> a"], ["> b"]]
        with pytest.raises(RuntimeError, match="opening is open already"), fed:
            pass
    assert fed.stage.seen == ("open", "thread", "thread ends", "close")
    with pytest.raises(RuntimeError, match=r"feed it within `with`, as in `with harness\(Opening"):
        fed.send("a")
    with fed:
        assert fed.send("a").settled == "acked"

    with harness(Connecting) as connecting:
        assert connecting.send("a").outputs == ["a"]
    with pipeline(Opening, Connecting) as both:
        assert both.send("a").outputs == ["> a"]
    with pytest.raises(RuntimeError, match="opening opens resources"):
        both.send("a")


def test_what_is_opened_hears_nothing_of_a_failing_test() -> None:
    """So it cannot swallow it."""

    class Swallowing(Opening):
        @contextmanager
        def resources(self) -> Iterator[None]:
            with suppress(AssertionError):
                yield

    with pytest.raises(AssertionError), harness(Swallowing):
        raise AssertionError


def test_what_cannot_be_opened_is_told() -> None:
    """As a running stage tells it; what was opened before is closed again."""

    class Broken(Opening):
        @contextmanager
        def thread_resources(self) -> Iterator[None]:
            raise OSError("no such file")
            yield

    fed = harness(Broken)
    with pytest.raises(ResourcesError, match=r"Broken.thread_resources\(\) failed .* no such"), fed:
        pass
    assert fed.stage.seen == ("open", "close")
