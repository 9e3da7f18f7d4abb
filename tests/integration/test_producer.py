"""A source has the life cycle of any stage."""

from functools import partial

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.proxy import Proxy
from tests.ports import free_port
from tests.variations import variations
from tests.waiting import wait_until

COUNTER = ("-m", "tests.integration.stages.counter")


def test_a_source_ends_when_all_is_confirmed(broker: Broker, unique: Unique, start: Start) -> None:
    """Exit code 0; every message is in the queue, in order, each with ids of its own."""
    source = start(*COUNTER, ready=False, COUNT=3000, OUTPUT_QUEUE=unique("out"))

    assert source.wait() == 0
    messages = broker.take_all(unique("out"))
    assert [each.text for each in messages] == [str(number) for number in range(3000)]
    assert len({each.id for each in messages}) == 3000
    assert all(each.id == each.correlation_id for each in messages)


def test_a_source_obeys_sigterm_in_mid_stream(broker: Broker, unique: Unique, start: Start) -> None:
    """Exit code 0; what it has written is confirmed, all of that is in the queue and no more."""
    source = start(*COUNTER, OUTPUT_QUEUE=unique("out"))
    wait_until(lambda: broker.depth(unique("out")) > 500, 20, "it is in mid-stream")

    assert source.halt() == 0, source.log
    confirmed = int(source.out)
    texts = [each.text for each in broker.take_all(unique("out"))]
    assert texts == [str(number) for number in range(confirmed)]


def test_a_source_obeys_a_halt_in_mid_stream(
    broker: Broker, unique: Unique, start: Start, vhost: str
) -> None:
    """The broadcast reaches sources too, and they are named in the proof."""
    source = start(*COUNTER, OUTPUT_QUEUE=unique("out"), DELAY=0.001, RABBITMQ_VHOST=vhost)

    halt = start("-m", "services.control", "halt", ready=False, RABBITMQ_VHOST=vhost)

    assert source.wait() == 0
    assert halt.wait() == 0
    assert halt.out.startswith("halted 1/1 counter/")
    assert int(source.out) == broker.depth(unique("out"), vhost) > 0


def test_a_source_obeys_sigterm_while_its_messages_are_refused(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """With nobody to take what it has written, it gives up after DRAIN_TIMEOUT: exit code 1."""
    broker.fill(broker.declare(unique("out")))
    source = start(*COUNTER, ready=False, OUTPUT_QUEUE=unique("out"), DRAIN_TIMEOUT=1)
    source.wait_log("output refused")

    assert source.halt() == 1
    assert source.log.count("gave up after DRAIN_TIMEOUT=1 s") == 1
    assert "Traceback" not in source.log


def test_a_source_gives_up_when_its_messages_are_refused_for_too_long(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """After PUBLISH_TIMEOUT: exit code 1, and the last line says how much is confirmed and why."""
    broker.fill(broker.declare(unique("out")))

    source = start(
        *COUNTER,
        ready=False,
        COUNT=500,
        PUBLISH_TIMEOUT=1,
        DRAIN_TIMEOUT=1,
        OUTPUT_QUEUE=unique("out"),
    )

    assert source.wait() == 1
    last = source.log.splitlines()[-1]
    assert last.startswith("counter: 0 messages confirmed, 500 not")
    assert "is its queue full" in last
    assert "Traceback" not in source.log


def test_a_source_gives_up_when_the_broker_is_away_for_too_long(
    unique: Unique, start: Start
) -> None:
    """After PUBLISH_TIMEOUT without a broker: exit code 1 and one clear line."""
    source = start(
        *("-m", "services.producer"),
        ready=False,
        PUBLISH_TIMEOUT=1,
        OUTPUT_QUEUE=unique("out"),
        RABBITMQ_PORT=free_port(),
    )

    assert source.wait() == 1
    assert source.log.splitlines()[-1].startswith("producer: 0 messages confirmed")
    assert "Traceback" not in source.log


def test_a_source_survives_lost_connections(broker: Broker, unique: Unique, start: Start) -> None:
    """Connections cut in mid-stream: every message is queued, duplicates have the same id."""
    broker.declare(unique("out"))

    def is_filled(enough: int) -> bool:
        return broker.depth(unique("out")) >= enough

    with Proxy(broker.port) as proxy:
        source = start(*COUNTER, DELAY=0.001, OUTPUT_QUEUE=unique("out"), RABBITMQ_PORT=proxy.port)
        for enough in (200, 500):
            wait_until(partial(is_filled, enough), 20, "it is in mid-stream")
            assert proxy.cut() == 2
        wait_until(partial(is_filled, 800), 20, "it goes on")
        assert source.halt() == 0, source.log

    confirmed = int(source.out)
    messages = broker.take_all(unique("out"))
    assert {each.text for each in messages} == {str(number) for number in range(confirmed)}
    assert len({each.id for each in messages}) == confirmed


def test_the_producer_publishes_what_it_is_given(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """MESSAGES are words; MESSAGE is one message, whatever is in it."""
    producer = ("-m", "services.producer")
    words = start(*producer, ready=False, MESSAGES="hello  world", OUTPUT_QUEUE=unique("out"))
    assert words.wait() == 0
    text = "-x 'quoted' \"$HOME\"\nsecond line ü"
    one = start(*producer, ready=False, MESSAGE=text, OUTPUT_QUEUE=unique("out"))
    assert one.wait() == 0

    assert [each.text for each in broker.take_all(unique("out"))] == ["hello", "world", text]
    assert "published 2 messages" in words.log
    assert "published 1 message " in one.log


WAITS = """
import os, time
from contextlib import contextmanager
from rabbit import Halted, Producer
class Waits(Producer):
    endless = {endless}
    @contextmanager
    def resources(self):
        yield
        print("closed", flush=True)
    def work(self):
        self.write("a")
        try:
            {wait}
        finally:
            time.sleep({cleanup})
            print("cleaned up", flush=True)
Waits.main()
"""

#: How it is halted; where; how long it takes to clean up, which may be longer than what does not
#: notice a halt is given; whether it is endless; its exit code.
HALTS = [
    ("SIGTERM", "self.wait(3600)", 2.5, False, 1),
    ("SIGTERM", "self.wait(float('inf'))", 0, True, 0),
    ("SIGTERM", "while True: self.write('b'); self.wait(0.001)", 0, False, 1),
    ("broadcast", "self.wait(3600)", 0, False, 0),
]


@pytest.mark.parametrize("given", variations([(each,) for each in HALTS], first=2))
def test_a_source_that_waits_notices_a_halt(
    broker: Broker,
    unique: Unique,
    start: Start,
    vhost: str,
    given: tuple[str, str, float, bool, int],
) -> None:
    """Its `finally` is waited for, however long; the exit code says whether it had an end."""
    how, wait, cleanup, endless, code = given
    program = WAITS.format(wait=wait, endless=endless, cleanup=cleanup)
    source = start("-c", program, OUTPUT_QUEUE=unique("out"), RABBITMQ_VHOST=vhost)
    wait_until(lambda: broker.depth(unique("out"), vhost), 20, "it has begun")
    if how == "broadcast":
        halt = start("-m", "services.control", "halt", ready=False, RABBITMQ_VHOST=vhost)
        assert halt.wait() == 0, halt.out
    else:
        source.terminate()

    assert source.wait() == code, source.log
    assert source.lines == ["cleaned up", "closed"]
    said = f"waits: halted: {broker.depth(unique('out'), vhost)} messages are published"
    assert (said in source.log) == (not endless)
    assert source.log.count("ends with 0 all the same") == (how == "broadcast")


def test_a_source_whose_finally_hangs_is_given_up(unique: Unique, start: Start) -> None:
    """At DRAIN_TIMEOUT: exit code 1."""
    program = WAITS.format(wait="self.wait(3600)", endless=True, cleanup=3600)
    source = start("-c", program, OUTPUT_QUEUE=unique("out"), DRAIN_TIMEOUT=0.5)

    assert source.halt() == 1
    assert source.log.count("gave up after DRAIN_TIMEOUT=0.5 s") == 1
    assert "cleaned up" not in source.lines


def test_words_that_a_halt_cuts_short_are_told(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """MESSAGES as well as a file: exit code 1, and how many are published."""
    queue = broker.declare(unique("out"))
    source = start(
        *("-m", "services.producer"),
        MESSAGES="x " * 60_000,
        OUTPUT_QUEUE=queue,
    )
    source.terminate()

    assert source.wait() == 1, source.log
    count = broker.depth(queue)
    assert 0 < count < 60_000
    said = f"producer: halted: {count} messages are published and confirmed, the rest is not"
    assert source.log.splitlines()[-1] == said


FAILS = """
from rabbit import Producer
class Fails(Producer):
    def work(self):
        self.write("a")
        raise ValueError("the cause")
Fails.main()
"""


def test_what_work_raises_is_told_while_messages_are_not_confirmed(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It does not wait for a queue that may be full for ever: exit code 1, and the cause."""
    broker.fill(broker.declare(unique("out")))

    source = start("-c", FAILS, ready=False, OUTPUT_QUEUE=unique("out"), DRAIN_TIMEOUT=1)

    assert source.wait() == 1
    assert "ValueError: the cause" in source.log


UNSPEAKABLE = """
from rabbit import Producer
class Unspeakable({base}):
    def __str__(self):
        raise {raised}
class Fails(Producer):
    def work(self):
        self.write("a")
        raise Unspeakable
Fails.main()
"""


@pytest.mark.parametrize("base", variations(["Exception", "BaseException"]))
@pytest.mark.parametrize("raised", variations(["ValueError", "KeyboardInterrupt"]))
def test_what_work_raises_need_not_be_speakable(
    broker: Broker, unique: Unique, start: Start, base: str, raised: str
) -> None:
    """Its class is told; what was written before is confirmed all the same: exit code 1."""
    program = UNSPEAKABLE.format(base=base, raised=raised)
    source = start("-c", program, ready=False, OUTPUT_QUEUE=broker.declare(unique("out")))

    assert source.wait() == 1, source.log
    assert [each.text for each in broker.take_all(unique("out"))] == ["a"]
    assert "reason='Unspeakable: (an error that cannot be shown)'" in source.log
    assert "error of the library" not in source.log


def test_a_source_that_exits_says_so(broker: Broker, unique: Unique, start: Start) -> None:
    """What it exits with is the exit code; the log says why it halts."""
    program = FAILS.replace('ValueError("the cause")', "SystemExit(3)")
    source = start("-c", program, ready=False, OUTPUT_QUEUE=broker.declare(unique("out")))

    assert source.wait() == 3
    assert "reason='SystemExit: 3'" in source.log


IDLE = """
from rabbit import Producer
class Idle(Producer):
    def start(self):
        self.begun = True
    def work(self):
        pass
Idle.main()
"""


def test_a_start_that_starts_nothing_is_told(start: Start) -> None:
    """Exit code 0 would say that all is done."""
    source = start("-c", IDLE, ready=False, OUTPUT_QUEUE="out")

    assert source.wait() == 2
    assert source.log == "idle: start() is overridden and does not call super().start()\n"
