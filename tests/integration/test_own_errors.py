"""An error of the library's own ends what waits for it, and is not told as the network's."""

import pytest

from rabbit import MessageQueue
from rabbit.errors import RabbitError
from rabbit.messaging.consumer import QueueConsumer
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.background import InBackground
from tests.variations import variations
from tests.waiting import wait_until

#: Where the error is put: in what the network brings, in what ends a turn, in a timer, and where a
#: connection opens.
PLACES = {
    "delivery": "rabbit.messaging.consumer.QueueConsumer.delivered",
    "turn": "rabbit.runtime.dispatcher.Dispatcher.turn",
    "timer": "rabbit.runtime.dispatcher.Dispatcher.tick",
    "opening": "rabbit.messaging.consumer.QueueConsumer.opened",
    "registration": "rabbit.messaging.consumer.QueueConsumer._registered",
}

PROGRAM = """
import pkgutil
def fail(*_arguments, **_options):
    raise {error}("a bug of ours")
place, name = {place!r}.rsplit(".", 1)
setattr(pkgutil.resolve_name(place), name, fail)
import runpy
runpy.run_module("tests.integration.stages.recorder", run_name="__main__")
"""


def is_told(log: str, outage: str = "broker unavailable") -> None:
    """Check that it is told once with its traceback, and in the last line; not as an outage."""
    assert log.count("Traceback (most recent call last)") == 1, log
    assert outage not in log
    assert "a bug of ours" in log.splitlines()[-1]
    assert "recorder: failed by an error of the library's" in log.splitlines()[-1]


@pytest.mark.parametrize("error", variations(["RuntimeError", "BlockingIOError"]))
@pytest.mark.parametrize("place", variations(PLACES.values(), first=2), ids=PLACES)
def test_a_stage_ends(broker: Broker, unique: Unique, start: Start, place: str, error: str) -> None:
    """Exit code 1, and the message is queued."""
    broker.put(unique("in"), ["a"])
    program = PROGRAM.format(place=place, error=error)
    sink = start("-c", program, ready=False, INPUT_QUEUE=unique("in"))

    assert sink.wait() == 1
    is_told(sink.log)
    assert sink.lines == []
    assert [each.text for each in broker.take(unique("in"), 1)] == ["a"]


@pytest.mark.thorough
def test_a_stage_ends_that_makes_an_error_of_a_loss(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It is not taken for a failed attempt to come back."""
    program = PROGRAM.format(
        place="rabbit.messaging.consumer.QueueConsumer.lost", error="RuntimeError"
    )
    sink = start("-c", program, REPLICA=unique("replica"), INPUT_QUEUE=unique("in"))
    wait_until(lambda: broker.close_connections(unique("replica")), 20, "it is cut off")

    assert sink.wait() == 1
    is_told(sink.log, "lost: a bug of ours")


def test_a_handler_thread_that_ends_is_heard_of(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """The stage ends with 1, and says why."""
    broker.put(unique("in"), ["a"])
    program = PROGRAM.format(place="rabbit.runtime.handler.Handler.run", error="RuntimeError")
    sink = start("-c", program, ready=False, INPUT_QUEUE=unique("in"), DRAIN_TIMEOUT=1)

    assert sink.wait() == 1
    told = "recorder: a handler thread has failed: RuntimeError('a bug of ours')"
    assert sink.log.splitlines()[-1] == told
    assert "broker unavailable" not in sink.log


def test_a_source_that_waits_to_write_ends(broker: Broker, unique: Unique, start: Start) -> None:
    """It waits for room that nobody will make: exit code 1."""
    program = """
import rabbit.runtime.source
def fail(*_arguments):
    raise RuntimeError("a bug of ours")
rabbit.runtime.source.Source._count = fail
from rabbit import Halted, Producer
class Endless(Producer):
    def work(self):
        try:
            while True:
                self.write("x")
        except Halted:
            print("halted", flush=True)
            raise
Endless.main()
"""
    source = start("-c", program, ready=False, OUTPUT_QUEUE=unique("out"))

    assert source.wait() == 1
    assert source.lines == ["halted"]
    assert "broker unavailable" not in source.log
    assert broker.depth(unique("out")) > 0


def test_callers_of_a_message_queue_get_it(
    broker: Broker,
    unique: Unique,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever waits for messages gets the error; it is logged once."""

    def fail(*_arguments: object) -> None:
        raise BlockingIOError("a bug of ours")

    monkeypatch.setattr(QueueConsumer, "delivered", fail)
    with MessageQueue(unique("in"), **broker.settings) as queue:
        queue.register(print)
        call = InBackground(queue.start)
        broker.put(queue.name, ["a"])

        with pytest.raises(RabbitError, match="a bug of ours"):
            call.join()

    log = capsys.readouterr().err
    assert log.count("Traceback (most recent call last)") == 1, log
    assert "broker unavailable" not in log
