"""Stages without a broker."""

import pytest

from rabbit import ConfigurationError, MessageQueue, Reject, Worker
from rabbit.message import derived_id
from rabbit.testing import harness
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

    assert fed.send("bad", headers={"x-attempts": 1}).settled == "retried"
    assert fed.send("bad", headers={"x-attempts": 2}).settled == "dead-lettered"


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


def test_the_stage_sees_its_message() -> None:
    """Id, headers and whether it was delivered before are as given."""
    fed = harness(Picky)
    fed.send("hello", message_id="m", headers={"a": 1}, redelivered=True)

    assert fed.stage.seen == "m True 1"


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
