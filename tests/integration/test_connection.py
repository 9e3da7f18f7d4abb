"""What is promised of connections: never starved, and a reconnect restores everything."""

import re
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from pika import frame, spec

from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.loop_thread import LoopThread
from rabbit.logs import logger
from rabbit.messaging.publisher import Publisher
from rabbit.output import new_output
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.proxy import Proxy
from tests.variations import variations
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
RECORDER = ("-m", "tests.integration.stages.recorder")

#: One that lets the broker take away what it holds for a second.
IMPATIENT_RELAY = """
from rabbit.amqp import channel
from tests.integration.stages.relay import Relay
channel.CONSUMER_TIMEOUT_MILLISECONDS = 1000
Relay.main()
"""

#: One that computes, in Python, for three times its heartbeat.
COMPUTING_RELAY = """
import time
from rabbit import Worker
class Computing(Worker):
    def work(self, message):
        began = time.monotonic()
        while time.monotonic() - began < 6:
            pass
        self.write(message)
Computing.main()
"""

#: One that holds the interpreter, as a long regular expression does: five times its heartbeat,
#: with a message that comes for the first time. `PyDLL` keeps the lock that `CDLL` would release.
GREEDY = """
import ctypes
from rabbit import Consumer
class Greedy(Consumer):
    def work(self, message):
        print(self.message.id, self.message.headers.get("x-delivery-count", 0), flush=True)
        if message == "hold" and not self.message.redelivered:
            ctypes.PyDLL(None).sleep(5)
Greedy.main()
"""

#: A callback, and a source's work, that do the same.
GREEDY_CALLBACK = """
import ctypes, os
from rabbit import MessageQueue
queue = MessageQueue(os.environ["INPUT_QUEUE"])
def callback(channel, method, properties, message):
    print(properties.message_id, (properties.headers or {}).get("x-delivery-count", 0), flush=True)
    if message == "hold" and not method.redelivered:
        ctypes.PyDLL(None).sleep(5)
    queue.ack(method)
    if message == "hold" and method.redelivered:
        queue.stop()
queue.register(callback)
with queue:
    queue.start()
"""
GREEDY_SOURCE = """
import ctypes
from rabbit import Producer
class Greedy(Producer):
    def work(self):
        self.write("a")
        ctypes.PyDLL(None).sleep(5)
        self.write("b")
Greedy.main()
"""

STOOD_STILL = "connection lost after the loop had stood still while work was running"


@pytest.mark.parametrize(
    "program", variations([(RELAY,), (("-c", COMPUTING_RELAY),)]), ids=["sleeps", "computes"]
)
def test_a_slow_handler_does_not_starve_the_connection(
    broker: Broker, unique: Unique, start: Start, program: tuple[str, str]
) -> None:
    """A handler that takes three times the heartbeat keeps the very same connections."""
    broker.put(unique("in"), ["a"])
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    with Proxy(broker.port) as proxy:
        worker = start(*program, DELAY=6, RABBITMQ_HEARTBEAT=2, RABBITMQ_PORT=proxy.port, **edges)
        broker.take(broker.declare(unique("out")), 1)

        assert proxy.accepted == 2
        assert worker.halt() == 0
        assert "unavailable" not in worker.log


@pytest.mark.thorough
def test_a_handler_that_holds_the_interpreter_loses_its_connection(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It is said once, with the message and what to do; the message comes again, and counts."""
    queue = unique("in")
    broker.put(queue, ["a", "hold"])
    sink = start("-c", GREEDY, INPUT_QUEUE=queue, RABBITMQ_HEARTBEAT=1)
    wait_until(lambda: f"{queue}-1 1" in sink.lines, 60, lambda: f"it comes again\n{sink.log}")

    assert sink.halt() == 0
    assert f"{queue}-1 0" in sink.lines
    [line] = [line for line in sink.log.splitlines() if STOOD_STILL in line]
    assert f"message_id={queue}-1 " in line
    (seconds,) = re.findall(r" seconds=([\d.]+)", line)
    assert float(seconds) > 1  # what is less than a heartbeat is not told
    assert "subprocess" in line
    assert "RABBITMQ_HEARTBEAT" in line


@pytest.mark.thorough
def test_a_callback_that_holds_the_interpreter_loses_its_connection(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It is said as for a handler; what it acks too late comes again."""
    queue = unique("in")
    broker.put(queue, ["a", "hold"])
    consumer = start(
        "-c", GREEDY_CALLBACK, ready=False, INPUT_QUEUE=queue, RABBITMQ_HEARTBEAT=1, REPLICA="one"
    )

    assert consumer.wait(60) == 0, consumer.log
    assert consumer.lines[:2] == [f"{queue}-0 0", f"{queue}-1 0"]
    assert consumer.lines[-1] == f"{queue}-1 1"
    [line] = [line for line in consumer.log.splitlines() if STOOD_STILL in line]
    assert f"message_id={queue}-1 " in line
    assert "subprocess" in line


@pytest.mark.thorough
def test_a_source_that_holds_the_interpreter_loses_its_connection(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It is said likewise, without a message; what it writes before and after is queued."""
    source = start(
        "-c", GREEDY_SOURCE, ready=False, OUTPUT_QUEUE=unique("out"), RABBITMQ_HEARTBEAT=1
    )

    assert source.wait(60) == 0, source.log
    assert {each.text for each in broker.take_all(unique("out"))} == {"a", "b"}
    [line] = [line for line in source.log.splitlines() if STOOD_STILL in line]
    assert "message_id" not in line
    assert "subprocess" in line


@pytest.mark.thorough
def test_a_stage_that_stands_still_by_itself_does_not_blame_work(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """The process is stopped for more than a heartbeat: no handler runs, though one has."""
    broker.put(unique("in"), ["a"])
    with Proxy(broker.port) as proxy:
        environment: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "RABBITMQ_PORT": proxy.port}
        sink = start("-c", GREEDY, RABBITMQ_HEARTBEAT=1, **environment)
        sink.wait_printed(f"{unique('in')}-0 0")
        wait_until(lambda: broker.depth(unique("in")) == 0, 20, "it is handled")
        sink.send(signal.SIGSTOP)
        began = monotonic()
        wait_until(lambda: monotonic() > began + 2, 4, "a heartbeat is due")
        assert proxy.cut() == 2
        sink.send(signal.SIGCONT)
        sink.wait_log("broker available again")

        assert sink.halt() == 0
    assert "broker unavailable" in sink.log
    assert STOOD_STILL not in sink.log


@pytest.mark.thorough
def test_connections_cut_under_load_lose_nothing(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Duplicates carry the same ids, nothing is missing, and the worker is ready again."""
    texts = [str(number) for number in range(2000)]
    broker.put(unique("in"), texts)
    broker.declare(unique("out"))
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}

    def is_filled(enough: int) -> bool:
        return broker.depth(unique("out")) >= enough

    with Proxy(broker.port) as proxy:
        worker = start(*RELAY, DELAY=0.001, RABBITMQ_PORT=proxy.port, **edges)
        for number in range(1, 6):
            wait_until(partial(is_filled, 250 * number), 60, f"the worker goes on, {number}")
            proxy.cut()
        wait_until(lambda: broker.depth(unique("in")) == 0, 60, "all inputs are delivered")
        wait_until(lambda: worker.is_ready, 20, "the worker is ready")
        worker.wait_log("broker available again")
        assert worker.halt() == 0, worker.log

    ids = defaultdict(set)
    for output in broker.take_all(unique("out")):
        ids[output.text].add(output.id)
    given_back = {message.text for message in broker.take_all(unique("in"))}
    assert set(texts) == set(ids) | given_back
    assert all(len(each) == 1 for each in ids.values())
    # One outage, in which each kind of reason is told once: cut while open, and in the handshake.
    assert 1 <= worker.log.count("broker unavailable") <= 2
    assert "Traceback" not in worker.log


@pytest.mark.thorough
def test_an_ack_for_an_older_connection_is_dropped(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """A handler ends after its connection is lost: its ack settles no message on the new one.

    The delivery tag that `a` had on the old channel is the one that `b` has on the new channel.
    """
    broker.put(unique("in"), ["x", "a", "b"])

    def handled() -> list[str]:
        return [each["text"] for each in sink.objects]

    with Proxy(broker.port) as proxy:
        sink = start(
            *RECORDER, PREFETCH=3, DELAY=1, INPUT_QUEUE=unique("in"), RABBITMQ_PORT=proxy.port
        )
        wait_until(lambda: handled() == ["x", "a"], 20, "a is running")
        assert proxy.cut() == 2
        wait_until(lambda: handled().count("a") == 2, 20, lambda: f"a comes again: {handled()}")
        assert sink.halt() == 0, sink.log

    # The ack of x may have been on its way when the connection was cut: then x comes again, too.
    assert handled() in (["x", "a", "a"], ["x", "a", "x", "a"])
    assert [message.text for message in broker.take_all(unique("in"))] == ["b"]


def test_a_stage_consumes_and_hears_a_halt_after_a_lost_connection(
    broker: Broker, unique: Unique, start: Start, vhost: str
) -> None:
    """Connections closed by force: channels, consumer and control subscription are restored."""
    replica = unique("replica")
    queue = unique("in")
    sink = start(*RECORDER, REPLICA=replica, INPUT_QUEUE=queue, RABBITMQ_VHOST=vhost)
    wait_until(lambda: broker.close_connections(replica) == 2, 10, "two connections are closed")
    sink.wait_log("broker available again")
    broker.put(queue, ["a"], vhost)
    wait_until(lambda: sink.lines, 20, "it consumes again")

    halt = start("-m", "services.control", "halt", ready=False, RABBITMQ_VHOST=vhost)

    assert sink.wait() == 0
    assert halt.wait() == 0
    assert halt.out.startswith("halted 1/1")


@pytest.mark.thorough
def test_a_worker_is_not_ready_while_the_broker_is_away(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """The ready file goes away with the connection and comes back with the consumer."""
    with Proxy(broker.port) as proxy:
        port = proxy.port
        sink = start(*RECORDER, INPUT_QUEUE=unique("in"), RABBITMQ_PORT=port)

    wait_until(lambda: not sink.is_ready, 10, "it is not ready")
    assert sink.log.count("nothing listens") <= 1

    with Proxy(broker.port, port):
        wait_until(lambda: sink.is_ready, 30, "it is ready again")
        broker.put(unique("in"), ["a"])
        wait_until(lambda: sink.lines, 20, "it consumes again")


@pytest.mark.thorough
def test_a_network_that_swallows_everything_is_noticed(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """A connection on which no heartbeat comes any more is given up, and a new one is made."""
    port = 0
    with Proxy(broker.port) as proxy:
        port = proxy.port
        sink = start(*RECORDER, INPUT_QUEUE=unique("in"), RABBITMQ_PORT=port, RABBITMQ_HEARTBEAT=1)
        proxy.freeze()
        sink.wait_log("broker unavailable", 20)

    with Proxy(broker.port, port):
        broker.put(unique("in"), ["a"])
        wait_until(lambda: sink.lines, 30, "it consumes again")


def test_a_close_that_crosses_the_brokers_is_no_news(broker: Broker) -> None:
    """The broker closes a channel for a wrong ack while we close it, too: we have gone on."""
    settings = Settings(**broker.settings)
    loop_thread = LoopThread(settings, logger(settings), lambda: None)
    connection = loop_thread.connection("crosses")
    news: list[int] = []
    closed = threading.Event()

    class Crossing(ChannelListener):
        def opened(self) -> None:
            channel.ack(99)
            channel.close()

        def lost(self) -> None:
            closed.set()

        def closed_by_broker(self, code: int, text: str) -> bool:
            news.append(code)
            return super().closed_by_broker(code, text)

    channel = connection.channel(Crossing(), "cross")
    try:
        loop_thread.call(connection.connect)
        assert closed.wait(20), "the channel is closed"
    finally:
        loop_thread.close()

    assert news == []


@pytest.mark.thorough
def test_the_loop_sleeps_while_a_handler_works(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It looks for results that are quick; one that takes long will be announced."""
    broker.put(unique("in"), ["a", "b"])
    sink = start(*RECORDER, DELAY=3, INPUT_QUEUE=unique("in"), ready=False)

    def naps() -> int:
        status = Path(f"/proc/{sink.pid}/task/{sink.pid}/status").read_text()
        return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

    wait_until(lambda: len(sink.lines) == 1, 20, "a is running")
    before = naps()
    wait_until(lambda: len(sink.lines) == 2, 20, "b is running")

    assert naps() - before < 100


def test_a_deleted_queue_is_made_and_consumed_again(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """When the broker cancels the consumer, it is registered again."""
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"))
    broker.delete_queue(unique("in"))
    sink.wait_log("is consumed no more")

    wait_until(lambda: broker.consumers(unique("in")) == 1, 20, "it consumes again")
    broker.put(unique("in"), ["a"])

    wait_until(lambda: sink.lines, 20, "the message is handled")
    assert sink.halt() == 0


def test_a_deleted_control_queue_is_subscribed_again(
    broker: Broker, unique: Unique, start: Start, vhost: str
) -> None:
    """A replica whose control queue somebody has deleted still hears a halt."""
    replica = unique("replica")
    sink = start(*RECORDER, REPLICA=replica, INPUT_QUEUE=unique("in"), RABBITMQ_VHOST=vhost)
    control = f"control.recorder.{replica}"
    broker.delete_queue(control, vhost)
    wait_until(lambda: broker.consumers(control, vhost) == 1, 20, "it is subscribed again")

    halt = start("-m", "services.control", "halt", ready=False, RABBITMQ_VHOST=vhost)

    assert sink.wait() == 0
    assert halt.wait() == 0


@pytest.mark.thorough
def test_a_killed_broker_loses_nothing(broker: Broker, unique: Unique, start: Start) -> None:
    """What it has confirmed is on its disk, and the worker goes on by itself."""
    texts = [str(number) for number in range(500)]
    broker.put(unique("in"), texts)
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    worker = start(*RELAY, DELAY=0.01, **edges)
    wait_until(lambda: broker.depth(unique("out")) > 50, 20, "the worker is in mid-stream")

    broker.kill()
    broker.start()

    worker.wait_log("broker available again")
    wait_until(lambda: broker.depth(unique("out")) >= 500, 60, "all outputs are there")
    wait_until(lambda: worker.is_ready, 20, "the worker is ready")
    assert worker.halt() == 0
    outputs = broker.take_all(unique("out"))
    assert set(texts) == {output.text for output in outputs}
    assert len(texts) == len({output.id for output in outputs})


@contextmanager
def consumer_timeout(broker: Broker, milliseconds: int) -> Iterator[None]:
    """Have the broker allow consumers only so much time, for the time of a `with`."""
    variable = "application:{}(rabbit, consumer_timeout{})."
    before = broker.control("eval", variable.format("get_env", "")).strip()
    broker.control("eval", variable.format("set_env", f", {milliseconds}"))
    try:
        yield
    finally:
        (digits,) = re.findall(r"\d+", before)
        broker.control("eval", variable.format("set_env", f", {digits}"))


@pytest.mark.thorough
def test_a_handler_may_take_longer_than_the_broker_allows_others(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """The broker's consumer_timeout is for consumers that ask for no other.

    Classic queues have none since RabbitMQ 4.3.
    """
    queue = broker.declare(unique("in"))
    edges: dict[str, Any] = {"INPUT_QUEUE": queue, "OUTPUT_QUEUE": unique("out")}
    with consumer_timeout(broker, 1000):
        worker = start(*RELAY, DELAY=6, **edges)
        with broker.channel() as channel:
            broker.send(channel, queue, queue, "slow")

        assert [output.text for output in broker.take(unique("out"), 1)] == ["slow"]

        wait_until(lambda: broker.api("GET", f"queues/%2F/{queue}")["messages"] == 0, 10, "acked")
        assert worker.halt() == 0
    assert "is consumed no more" not in worker.log


@pytest.mark.thorough
def test_a_consumer_that_is_cancelled_many_times_is_registered_once(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """A frozen worker finds a cancel for each thing that it held too long: one consumer is enough.

    With more of them, on channels of their own, deliveries and acks would be mixed up.
    """
    queue = unique("in")
    edges: dict[str, Any] = {"INPUT_QUEUE": queue, "OUTPUT_QUEUE": unique("out")}
    worker = start("-c", IMPATIENT_RELAY, PREFETCH=20, RABBITMQ_HEARTBEAT=600, **edges)
    worker.send(signal.SIGSTOP)
    try:
        for number in range(10):
            broker.put(queue, [str(number)])
        begun = monotonic()  # nothing but its log tells what the broker has cancelled
        wait_until(lambda: monotonic() > begun + 8, 10, "eight times what is allowed")
    finally:
        worker.send(signal.SIGCONT)

    wait_until(lambda: broker.depth(unique("out")) >= 10, 30, "all are handled")
    assert broker.consumers(queue) == 1
    assert worker.log.count("is consumed no more") == 1
    assert worker.halt() == 0
    assert broker.depth(queue) == 0


@pytest.mark.thorough
def test_a_line_that_is_cut_again_and_again_kills_no_message(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Connects become rare, and what takes longer than the line lasts is not delivered each time.

    Each delivery that is lost with its connection counts towards the delivery limit. It is one
    outage: one line, until a connection has lasted.
    """
    broker.put(unique("in"), ["a", "b"])
    with Proxy(broker.port) as proxy:
        worker = start(*RELAY, DELAY=0.6, RABBITMQ_PORT=proxy.port, ready=False, **edges)
        wait_until(lambda: proxy.accepted >= 2, 20, "it connects")
        begun, cuts = monotonic(), 0

        def cut() -> bool:
            nonlocal cuts
            if monotonic() - begun > 0.25 * cuts:
                proxy.cut()
                cuts += 1
            return cuts > 60

        wait_until(cut, 60, "60 cuts, four a second")
        assert proxy.accepted <= 40, "of two connections, in 15 s"
        wait_until(lambda: broker.depth(unique("out")) >= 2, 60, lambda: worker.log)
        worker.wait_log("broker available again")
        assert worker.halt() == 0

    assert {each.text for each in broker.take_all(unique("out"))} == {"a", "b"}
    assert broker.depth(f"{unique('in')}.dead") == 0
    assert worker.log.count("broker available again") == 1
    reasons = [
        line.partition("reason=")[2].partition("' replica=")[0]
        for line in worker.log.splitlines()
        if "broker unavailable" in line
    ]
    assert len(reasons) == len(set(reasons))


def test_a_late_nack_of_a_channel_that_was_left_is_no_news(broker: Broker, unique: Unique) -> None:
    """Its numbers are not those of the channel that what it carried is published again on."""
    settings = Settings(**broker.settings)
    log = logger(settings)
    loop_thread = LoopThread(settings, log, lambda: None)
    connection = loop_thread.connection("leaves a channel")
    confirmed: list[str] = []
    refused: list[object] = []
    publisher: Publisher[str] = Publisher(
        connection,
        Edge(broker.declare(unique("out"))),
        log,
        on_confirmed=confirmed.extend,
        on_nacked=lambda _publication, error: refused.append(error),
        on_failed=refused.append,
    )
    channels: list[Any] = []
    channel: Any = publisher._channel  # noqa: SLF001
    publisher._begin = lambda: channels.append(channel._raw)  # type: ignore[method-assign]  # noqa: SLF001

    def leave() -> None:
        channel.lost()
        channel.open()

    def publish() -> None:
        Publisher._begin(publisher)  # noqa: SLF001
        publisher.send([new_output(b"a", "id", "id")], "a")
        nack = spec.Basic.Nack(1)  # type: ignore[no-untyped-call]
        late = frame.Method(channels[0].channel_number, nack)
        connection._pika._process_frame(late)  # type: ignore[union-attr]  # noqa: SLF001

    try:
        loop_thread.call(connection.connect)
        wait_until(lambda: len(channels) == 1, 20, "a channel is ready")
        loop_thread.call(leave)
        wait_until(lambda: len(channels) == 2, 20, "another channel is ready")
        loop_thread.call(publish)
        wait_until(lambda: confirmed or refused, 20, "the broker confirms")
    finally:
        loop_thread.close()

    assert (confirmed, refused) == (["a"], [])


def test_a_channel_that_is_asked_for_too_late(broker: Broker) -> None:
    """Its connection closes: there is none, and that is no error, say of a pause that is over."""
    settings = Settings(**broker.settings)
    loop_thread = LoopThread(settings, logger(settings), lambda: None)
    connection = loop_thread.connection("closes")
    heard: list[object] = []

    def ask_too_late() -> None:
        connection.close()
        connection.open_channel(
            heard.append, lambda *reason: heard.append(reason), ChannelListener()
        )

    try:
        loop_thread.call(connection.connect)
        wait_until(lambda: connection.is_open, 20, "it is open")
        loop_thread.call(ask_too_late)
        wait_until(lambda: connection.is_closed or loop_thread.has_ended, 20, "it is closed")
        assert not loop_thread.has_ended
    finally:
        loop_thread.close()

    assert heard == []


def test_a_classic_queue_is_consumed(broker: Broker, unique: Unique, start: Start) -> None:
    """It takes fewer arguments of a consumer than a quorum queue does, and refuses the others."""
    broker.put(unique("in"), ["a"], queue_type="classic")

    sink = start(*RECORDER, QUEUE_TYPE="classic", INPUT_QUEUE=unique("in"))

    wait_until(lambda: sink.lines, 20, "it is handled")
    assert sink.halt() == 0
    assert "refuses" not in sink.log
