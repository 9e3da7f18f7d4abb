"""Batches: when one is complete, and what becomes of one that fails."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from rabbit.amqp.properties import with_headers
from rabbit.errors import TooLargeError
from rabbit.message import Message
from rabbit.messaging.delivery import Again, Delivery
from rabbit.output import new_output
from rabbit.runtime.batches import BatchHandler, BatchSize, BatchThreads
from rabbit.runtime.handler import Call
from tests.unit.scripted import log
from tests.waiting import wait_until

PATIENCE_SECONDS = 30.0
NEVER = 86400.0


def text_properties(message_id: str) -> bytes:
    """Return those of a text of ours."""
    return new_output(b"", message_id, "c").properties


def delivery(text: str, tag: int = 1) -> Delivery:
    """Return a message as it comes."""
    return Delivery(1, tag, "", text_properties(text), text.encode(), False)


def handler_of(work: Callable[[list[str]], Any], size: BatchSize | None = None) -> BatchHandler:
    """Return what runs `work`."""
    return BatchHandler(work, "stage", 100, size=size or BatchSize(500, 0.0), log=log)


class Desk:
    """BatchThreads, and the batches that `work` has been called with."""

    def __init__(self, size: BatchSize, concurrency: int, limit: float | None) -> None:
        """Start the threads."""
        self.wakes = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.may_end.set()
        self.held: list[str] | None = None  # which waits for `may_end`; None: all
        self.batches: list[list[str]] = []
        self.threads: BatchThreads[Delivery] = BatchThreads(
            handler_of(self._work, size),
            limit=limit,
            concurrency=concurrency,
            wake=self.wakes.release,
            fail=lambda error: pytest.fail(repr(error)),
        )

    def _work(self, messages: list[str]) -> None:
        self.batches.append(messages)
        self.begun.release()
        if self.held in (None, messages):
            assert self.may_end.wait(PATIENCE_SECONDS)
        if "bad" in messages:
            raise ValueError("bad")

    def submit(self, *texts: str) -> None:
        """Have messages come."""
        self.threads.submit([delivery(text, tag) for tag, text in enumerate(texts)])

    def take(self, count: int) -> list[Call[Delivery]]:
        """Return the next results."""
        calls: list[Call[Delivery]] = []
        while len(calls) < count:
            assert self.wakes.acquire(timeout=PATIENCE_SECONDS), f"not woken up after {calls}"
            calls += self.threads.take_results()[0]
        return calls

    def wait_begun(self) -> None:
        """Wait for a call of `work`."""
        assert self.begun.acquire(timeout=PATIENCE_SECONDS)


@contextmanager
def desk(
    messages: int = 3, seconds: float = NEVER, *, concurrency: int = 1, limit: float | None = None
) -> Iterator[Desk]:
    """Start threads, and stop them in the end."""
    made = Desk(BatchSize(messages, seconds), concurrency, limit)
    try:
        yield made
    finally:
        made.may_end.set()
        made.threads.take_unstarted()
        made.threads.stop()


def texts(calls: list[Call[Delivery]]) -> list[str]:
    """Return what was handled."""
    return [call.message.text for call in calls]


def test_a_batch_is_complete_by_its_size() -> None:
    """Not before, and never larger; what is left waits for more."""
    with desk() as at:
        at.submit("a", "b")
        assert not at.begun.acquire(timeout=0.05)

        at.submit("c", "d", "e", "f", "g")
        assert texts(at.take(6)) == ["a", "b", "c", "d", "e", "f"]
        assert at.batches == [["a", "b", "c"], ["d", "e", "f"]]
        assert at.threads.busy == 1


def test_a_batch_is_complete_by_the_age_of_its_first_message() -> None:
    """Not of its last one: those that come all the time do not put it off."""
    with desk(seconds=0.1) as at:
        began = monotonic()
        at.submit("a")
        at.submit("b")

        assert texts(at.take(2)) == ["a", "b"]
        assert monotonic() - began >= 0.1
        assert at.batches == [["a", "b"]]


def test_the_age_of_what_is_left_counts_from_when_it_came() -> None:
    """It is handed over though nothing more comes, by whichever thread is free."""
    with desk(seconds=0.05, concurrency=2) as at:
        at.submit("a", "b", "c", "d")

        assert sorted(texts(at.take(4))) == ["a", "b", "c", "d"]
        assert at.batches == [["a", "b", "c"], ["d"]]


def test_a_batch_is_complete_when_nothing_more_can_come() -> None:
    """But what has ended and is not settled yet makes room for more."""
    with desk() as at:
        at.submit("a", "b")
        at.threads.expect_more(more=False)
        at.wait_begun()
        assert at.wakes.acquire(timeout=PATIENCE_SECONDS)
        at.submit("c")
        assert not at.begun.acquire(timeout=0.05)

        assert texts(at.threads.take_results()[0]) == ["a", "b"]
        at.threads.expect_more(more=True)
        assert not at.begun.acquire(timeout=0.05)
        at.threads.expect_more(more=False)
        assert texts(at.take(1)) == ["c"]


def test_without_a_time_to_wait_a_batch_is_what_is_there() -> None:
    """A lone message at once, and all that has come while that was handled."""
    with desk(messages=500, seconds=0.0) as at:
        at.may_end.clear()
        at.submit("a")
        at.wait_begun()
        at.submit("b")
        at.submit("c")
        at.may_end.set()
        at.take(3)

        assert at.batches == [["a"], ["b", "c"]]


def test_a_batch_that_fails_is_taken_one_by_one() -> None:
    """The bad one fails, alone; the others do not. With one thread they keep their order."""
    with desk() as at:
        at.submit("a", "bad", "c", "d", "e", "f")
        calls = at.take(6)

        assert texts(calls) == ["a", "bad", "c", "d", "e", "f"]
        assert [repr(call.error) for call in calls if call.error] == ["ValueError('bad')"]
        assert at.batches == [["a", "bad", "c"], ["a"], ["bad"], ["c"], ["d", "e", "f"]]
        assert at.threads.busy == 0


def test_what_is_in_no_call_is_taken_back_in_order() -> None:
    """What has come together, and what of a failed batch is not handled yet."""
    with desk(seconds=0.0) as at:
        at.held = ["a"]
        at.may_end.clear()
        at.submit("a", "bad", "c")
        at.wait_begun()
        at.wait_begun()  # of "a", alone
        at.submit("d")
        unstarted = at.threads.take_unstarted()

        assert [message.text for message in unstarted] == ["bad", "c", "d"]
        assert at.threads.busy == 1
        at.may_end.set()
        assert texts(at.take(1)) == ["a"]


def test_a_call_that_takes_too_long_is_overdue_with_all_its_messages() -> None:
    """Each of them once. It is not taken one by one when it has failed after that."""
    with desk(limit=0.001) as at:
        at.may_end.clear()
        at.submit("a", "bad", "c")
        at.wait_begun()
        overdue: list[Delivery] = []
        deadline = monotonic() + PATIENCE_SECONDS
        while not overdue and monotonic() < deadline:
            overdue = at.threads.overdue()
        assert [message.text for message in overdue] == ["a", "bad", "c"]
        assert at.threads.overdue() == []
        assert at.threads.longest_running() > 0

        at.may_end.set()
        assert texts(at.take(3)) == ["a", "bad", "c"]
        assert at.batches == [["a", "bad", "c"]]


class Interrupted(dict[int, Any]):
    """Has something happen once it was looked through, as another thread may."""

    def __init__(self, happens: Callable[[], None]) -> None:
        """Be empty."""
        super().__init__()
        self._happens = happens

    def items(self) -> Any:
        """Return what there was."""
        seen = list(super().items())
        self._happens()
        return seen


def test_a_batch_that_begins_while_overdue_ones_are_looked_for_is_not_overdue() -> None:
    """In the thread of one that was: that has ended just then, so nothing is overdue."""
    may_end = {"late": threading.Event(), "next": threading.Event()}

    def work(messages: list[str]) -> None:
        at.wakes.release()
        assert may_end[messages[0]].wait(PATIENCE_SECONDS)

    def ends_just_then() -> None:
        may_end["late"].set()
        assert at.wakes.acquire(timeout=PATIENCE_SECONDS), "the next one begins"

    with desk(messages=1, limit=0.001) as at:
        at.threads._handler._work = work  # noqa: SLF001
        at.threads._timed = Interrupted(ends_just_then)  # noqa: SLF001
        at.threads._wake = lambda: None  # noqa: SLF001
        at.submit("late", "next")
        assert at.wakes.acquire(timeout=PATIENCE_SECONDS)
        wait_until(lambda: at.threads.longest_running() > 0.001, PATIENCE_SECONDS, "it is late")

        overdue = at.threads.overdue()

        may_end["next"].set()
        assert overdue == []


@pytest.mark.parametrize(("limit", "batches"), [(None, 1), (NEVER, 3)])
def test_what_has_failed_before_is_handled_alone_if_time_is_limited(
    limit: float | None, batches: int
) -> None:
    """A batch that takes too long fails as a whole, and would again, until all is given up."""
    with desk(messages=4, limit=limit) as at:
        messages = [delivery(text) for text in "abcd"]
        for number in (1, 3):
            body = messages[number].body
            counted = with_headers(text_properties(body.decode()), {"x-attempts": 1}, str.isspace)
            messages[number] = Again(1, 1, "", counted, body, False)
        at.threads.submit(messages)
        at.take(4)

        assert len(at.batches) == batches
        assert sorted(text for batch in at.batches for text in batch) == ["a", "b", "c", "d"]
        assert limit is None or at.batches == [["a", "c"], ["b"], ["d"]]


def test_all_messages_of_a_long_call_are_known() -> None:
    """For who asks why the loop stands still."""
    with desk() as at:
        at.may_end.clear()
        at.submit("a", "b", "c")
        at.wait_begun()
        assert [message.text for message, _ in at.threads._calls()] == ["a", "b", "c"]  # noqa: SLF001


def test_every_message_is_handled_once_by_many_threads() -> None:
    """Whatever the sizes in which they come."""
    with desk(messages=7, seconds=0.0, concurrency=4) as at:
        for first in range(0, 1000, 50):
            at.submit(*[str(number) for number in range(first, first + 50)])

        assert sorted(map(int, texts(at.take(1000)))) == list(range(1000))
        assert max(map(len, at.batches)) <= 7


def test_threads_end_when_stopped() -> None:
    """With or without something to do."""
    before = set(threading.enumerate())
    with desk(concurrency=3):
        started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(PATIENCE_SECONDS)

    assert len(started) == 3
    assert not any(thread.is_alive() for thread in started)


# The handler


def test_work_gets_the_messages_in_order_and_knows_more_of_each() -> None:
    """There are `messages` within `work` only, and no `message`."""
    seen: list[list[str]] = []

    def work(_values: list[str]) -> None:
        seen.append([message.id for message in handler.messages])
        with pytest.raises(RuntimeError, match=r"self\.messages"):
            _ = handler.message

    handler = handler_of(work)
    calls, alone = handler.run_batch([delivery("a"), delivery("b")])

    assert seen == [["a", "b"]]
    assert ([call.error for call in calls], alone) == ([None, None], [])
    with pytest.raises(RuntimeError, match=r"only within work\(\)"):
        _ = handler.messages


def test_what_cannot_be_read_fails_alone() -> None:
    """`work` never sees it, and gets the others."""
    seen: list[list[str]] = []
    handler = handler_of(seen.append)
    bad = Delivery(1, 2, "", text_properties("bad"), b"\xff", False)
    large = delivery(101 * "x")
    calls, alone = handler.run_batch([delivery("a"), bad, large, delivery("b")])

    errors = {call.message.id: type(call.error) for call in calls}
    assert errors == {
        "bad": UnicodeDecodeError,
        large.id: TooLargeError,
        "a": type(None),
        "b": type(None),
    }
    assert (seen, alone) == ([["a", "b"]], [])


def test_a_batch_of_nothing_that_can_be_read_calls_nothing() -> None:
    """Nobody needs an empty list."""
    seen: list[list[str]] = []
    bad = Message(b"\xff", text_properties("bad"), redelivered=False, routing_key="")
    call = handler_of(seen.append).run(bad)

    assert isinstance(call.error, UnicodeDecodeError)
    assert seen == []


def test_a_value_that_is_returned_is_an_error() -> None:
    """As of any other `work`."""
    call = handler_of(lambda messages: messages).run(delivery("a"))

    assert isinstance(call.error, TypeError)
    assert "list, which goes nowhere" in str(call.error)


def test_a_log_line_tells_how_many_messages_are_handled() -> None:
    """And which, if it is one."""
    fields: list[dict[str, object]] = []
    handler = handler_of(lambda _: fields.append(handler.log_fields()))
    handler.run_batch([delivery("a"), delivery("b")])
    handler.run(delivery("a"))

    assert fields == [{"messages": 2}, {"message_id": "a", "correlation_id": "c"}]
    assert handler.log_fields() == {}


def test_a_batch_is_timed_as_one_call() -> None:
    """However many messages it has."""
    with desk(messages=3) as at:
        at.submit("a", "b", "c")
        at.wait_begun()
        at.may_end.set()
        at.take(3)

        assert sum(at.threads.times().buckets) == 1
