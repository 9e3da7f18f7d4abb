"""What becomes of a message whose handler failed."""

import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from rabbit import ConfigurationError, Consumer, Worker
from rabbit.amqp import frames
from rabbit.amqp.pika_types import Properties, decode_properties, encode_properties
from rabbit.errors import HandlerTimeoutError, Reject, Retry, TooLargeError, UndecodableError
from rabbit.message import Message
from rabbit.messaging.retry import LONGEST_ERROR, Disposition, RetryPolicy
from rabbit.testing import harness
from rabbit.topology import Edge

DELAYS = (1.0, 5.0, 30.0)
MOST = frames.most_property_bytes(frames.FRAME_MAX)
KEPT = {"x-failed-stage", "x-failed-replica", "x-failed-at", "x-error-type", "x-error-message"}


def message(body: bytes = b"a", **properties: Any) -> Message:
    """Return a message that was published with a routing key and these properties."""
    raw = encode_properties(Properties(**properties))  # type: ignore[no-untyped-call]
    return Message(body, raw, redelivered=False, routing_key="red")


def decide(
    of: Message,
    error: BaseException,
    delays: tuple[float, ...] = DELAYS,
    most: int = MOST,
    give_up_on: tuple[type[BaseException], ...] = (),
) -> Disposition:
    """Decide as the replica `printer/host-1` that reads `upper`."""
    policy = RetryPolicy(Edge("upper", delays=delays), "printer", "host-1", give_up_on)
    return policy.decide(of, error, most)


def headers(decided: Disposition) -> dict[str, Any]:
    """Return what the message is sent away with."""
    return dict(decode_properties(decided.output.properties).headers or {})


@pytest.mark.parametrize(
    ("failures", "exchange", "delay"),
    [(0, "retry.1s", 1.0), (1, "retry.5s", 5.0), (2, "retry.30s", 30.0), (3, "dead", None)],
)
def test_each_failure_waits_for_the_next_delay(
    failures: int, exchange: str, delay: float | None
) -> None:
    """After the last of them the message is given up; the count travels with it."""
    decided = decide(message(headers={"x-attempts": failures}), ValueError("no"))

    assert decided.output.exchange == f"upper.{exchange}"
    assert (decided.delay, decided.attempt) == (delay, failures + 1)
    assert headers(decided)["x-attempts"] == failures + 1


@pytest.mark.parametrize(
    ("after", "delay"), [(0, 1.0), (1, 1.0), (1.5, 5.0), (30, 30.0), (31, 30.0), (10**9, 30.0)]
)
@pytest.mark.parametrize("failures", [0, 2])
def test_retry_takes_the_shortest_delay_that_is_long_enough(
    after: float, delay: float, failures: int
) -> None:
    """Whichever attempt it is, and however the delays are ordered; none is: the longest."""
    of = message(headers={"x-attempts": failures})
    decided = decide(of, Retry(after=after), (5.0, 30.0, 1.0))

    assert (decided.delay, decided.attempt, decided.trace) == (delay, failures + 1, False)


def test_retry_has_no_more_attempts_than_any_other() -> None:
    """After the last of them it is a dead letter, which says so."""
    decided = decide(message(headers={"x-attempts": 3}), Retry("closed", after=60))

    assert decided.delay is None
    assert headers(decided)["x-error-message"] == "closed (after 60 s)"
    assert decide(message(), Retry(after=0), ()).delay is None


def test_retry_from_an_error_shows_where_that_was_raised() -> None:
    """The cause is of interest; the order alone is not."""
    error = Retry(after=1)
    error.__cause__ = ValueError("the cause")

    assert decide(message(), error).trace


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), 10**400])
def test_retry_after_what_is_no_time_is_refused(after: float) -> None:
    """Where it is raised."""
    with pytest.raises(
        ValueError, match=r"^Retry\(after=...\) takes seconds, 0 or more and finite"
    ):
        Retry(after=after)


@pytest.mark.parametrize("after", ["60", None, True])
def test_retry_after_what_is_no_number_is_refused(after: Any) -> None:
    """Likewise."""
    with pytest.raises(TypeError, match="takes a number of seconds, not a "):
        Retry(after=after)


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (UnicodeError("a subclass"), None),
        (HandlerTimeoutError(), None),
        (KeyError("another"), 1.0),
        (Retry(after=0), 1.0),
    ],
)
def test_what_a_class_gives_up_on_is_a_dead_letter_at_once(
    error: Exception, delay: float | None
) -> None:
    """An order to try it again is no error."""
    given = (ValueError, HandlerTimeoutError, Retry)
    decided = decide(message(), error, give_up_on=given)

    assert decided.delay == delay
    assert decided.trace == isinstance(error, ValueError | KeyError)


class Picky(Worker):
    """Gives up on what is wrong with the text, not on what it raises because of it."""

    give_up_on = (ValueError,)

    def work(self, message: str) -> None:
        """Fail in one of three ways."""
        if message == "later":
            raise Retry(after=2)
        try:
            int(message)
        except ValueError as error:
            if message == "wrapped":
                raise RuntimeError from error
            raise


def test_the_harness_gives_up_as_a_running_stage() -> None:
    """It decides by the same policy."""
    fed = harness(Picky, retry_delays=DELAYS)

    assert fed.send("x").settled == "dead-lettered"
    assert fed.send("wrapped").delay == 1.0
    assert fed.send("later").delay == 5.0


@pytest.mark.parametrize("given", [ValueError, [ValueError], (3,), ("ValueError",), (int,), None])
def test_a_wrong_give_up_on_is_refused(given: object) -> None:
    """When the stage is built: exit code 2, and how it is written."""
    odd = type("Odd", (Consumer,), {"work": lambda _self, _message: None, "give_up_on": given})

    with pytest.raises(ConfigurationError, match=r"^Odd: give_up_on is no tuple .*\(ValueError,\)"):
        harness(odd)


def test_without_delays_the_first_failure_is_the_last() -> None:
    """RETRY_DELAYS may be empty."""
    assert decide(message(), ValueError("no"), ()).output.exchange == "upper.dead"


def test_fewer_delays_than_attempts_end_it() -> None:
    """RETRY_DELAYS may have been shortened while the message waited."""
    assert decide(message(headers={"x-attempts": 9}), ValueError("no")).delay is None


@pytest.mark.parametrize(
    "error",
    [
        Reject("never"),
        TooLargeError("far too large"),
        UndecodableError("what is this?"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_what_no_attempt_can_cure_is_given_up_at_once(error: Exception) -> None:
    """The reason is kept; where in our code it was raised is of no interest."""
    decided = decide(message(b"\xff"), error)

    assert (decided.delay, decided.trace) == (None, False)
    assert headers(decided)["x-error-type"] == type(error).__name__
    assert headers(decided)["x-error-message"] == str(error)
    assert headers(decided)["x-attempts"] == 1


def test_a_handler_that_cannot_decode_something_else_is_tried_again() -> None:
    """It is not the message's fault."""
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    assert decide(message(b"fine"), error).delay == 1.0


def test_a_handler_out_of_time_is_tried_again_without_a_trace() -> None:
    """It counts as any other failure."""
    decided = decide(message(), HandlerTimeoutError())

    assert (decided.delay, decided.trace) == (1.0, False)


def test_a_dead_letter_says_what_happened_where_and_when() -> None:
    """All of it in headers, beside those that it came with."""
    before = datetime.now(UTC)
    said = headers(decide(message(headers={"mine": "kept"}), Reject("why")))

    assert before <= datetime.fromisoformat(said.pop("x-failed-at")) <= datetime.now(UTC)
    assert said == {
        "mine": "kept",
        "x-attempts": 1,
        "x-error-type": "Reject",
        "x-error-message": "why",
        "x-failed-stage": "printer",
        "x-failed-replica": "host-1",
    }


def test_everything_else_stays_byte_for_byte() -> None:
    """Body, routing key, properties: only the headers that were added differ."""
    given = {"message_id": "m", "priority": 3, "type": "t", "app_id": "ü", "reply_to": "r"}
    before = message(b"\x00\xff", **given, headers={"mine": {"a": [1, None]}})
    for error in (ValueError("no"), Reject("no")):
        output = decide(before, error).output
        after = decode_properties(output.properties)
        for name in {"x-attempts", *KEPT} & set(after.headers or {}):
            del after.headers[name]

        assert (output.body, output.key, output.id) == (b"\x00\xff", "red", "m")
        assert encode_properties(after) == before.properties


def test_what_the_broker_has_added_is_left_behind() -> None:
    """It is no part of what was published, and brokers have taken it for a circle."""
    added = {
        "x-death": [{"queue": "upper.retry.1s"}],
        "x-first-death-queue": "q",
        "x-last-death-reason": "expired",
        "x-delivery-count": 2,
        "x-acquired-count": 4,
        "mine": 1,
    }

    assert set(headers(decide(message(headers=added), ValueError("no")))) == {"mine", "x-attempts"}


def test_old_reasons_are_replaced() -> None:
    """A dead letter that somebody has moved back by hand fails for another reason now."""
    old = {"x-error-type": "KeyError", "x-failed-stage": "old"}
    said = headers(decide(message(headers=old), Reject("new")))

    assert (said["x-error-type"], said["x-failed-stage"]) == ("Reject", "printer")


def test_a_senders_headers_that_begin_like_ours_stay() -> None:
    """Only what is known to have been added is taken away."""
    theirs = {"x-error-budget": 1, "x-failed-over": "b", "x-first-death-wish": 2, "x-attempts-": 3}
    for error in (ValueError("no"), Reject("no")):
        assert theirs.items() <= headers(decide(message(headers=theirs), error)).items()


@pytest.mark.parametrize("given", [{}, {"message_id": ""}, {"correlation_id": "c", "priority": 3}])
def test_a_message_without_an_id_keeps_the_one_it_was_given(given: dict[str, Any]) -> None:
    """So that log, further attempts, dead letter and outputs agree; all else stays."""
    for error in (ValueError("no"), Reject("no")):
        before = message(**given)
        output = decide(before, error).output
        again = Message(b"a", output.properties, redelivered=False, routing_key="red")
        after = vars(decode_properties(output.properties))

        assert output.id == again.id == before.id
        assert again.correlation_id == before.correlation_id
        kept = {"priority", "correlation_id"} & set(given)
        assert {name: after[name] for name in kept} == {name: given[name] for name in kept}


@pytest.mark.parametrize("forged", [10**9, -3, "many", None])
def test_forged_attempts_give_a_message_up_earlier_at_worst(forged: object) -> None:
    """It is kept as a dead letter, whatever the header says."""
    decided = decide(message(headers={"x-attempts": forged}), ValueError("no"))

    assert decided.output.exchange in {"upper.retry.1s", "upper.dead"}


class UnspeakableError(Exception):
    """Cannot be shown."""

    def __init__(self, cause: BaseException) -> None:
        """Have `str` raise this."""
        super().__init__()
        self.cause = cause

    def __str__(self) -> str:
        """Fail."""
        raise self.cause


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError(1000 * "ü"), LONGEST_ERROR * "ü"),
        (ValueError("\udcff"), "\\udcff"),
        (UnspeakableError(RuntimeError()), "(an error that cannot be shown)"),
        (UnspeakableError(KeyboardInterrupt()), "(an error that cannot be shown)"),
    ],
)
def test_any_error_can_be_told(error: Exception, shown: str) -> None:
    """However long it is, whatever is in it: it is sent."""
    assert headers(decide(message(), error, ()))["x-error-message"] == shown


def test_headers_that_cannot_be_decoded_are_kept() -> None:
    """A timestamp that pika cannot decode: the reason is added, the bytes are there still."""
    entry = b"\x04when" + b"T" + struct.pack(">Q", 2**62)
    raw = struct.pack(">H", 1 << 13) + struct.pack(">I", len(entry)) + entry
    odd = Message(b"a", raw, redelivered=False, routing_key="red")

    properties = decide(odd, UndecodableError("no")).output.properties

    assert entry in properties
    assert b"UndecodableError" in properties


@pytest.mark.parametrize("most", [frames.most_property_bytes(8192), MOST])
def test_properties_without_room_are_left_as_they_are(most: int) -> None:
    """They have to fit in one frame; what has no room for a count is given up."""
    almost = message(headers={"mine": (most - 400) * "x"})
    full = message(headers={"mine": most * "x"})

    assert "x-attempts" in headers(decide(almost, ValueError("no"), most=most))
    assert "x-error-type" not in headers(decide(almost, Reject(500 * "x"), most=most))
    assert headers(decide(almost, Reject(500 * "x"), most=most))["x-failed-stage"] == "printer"
    decided = decide(full, ValueError("no"), most=most)
    assert (decided.delay, decided.output.properties) == (None, full.properties)
