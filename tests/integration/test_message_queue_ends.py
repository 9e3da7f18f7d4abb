"""What makes a call of MessageQueue wait, and what ends it: errors, close, stop, a fork."""

import gc
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rabbit import BrokerUnavailableError, ClosedError, MessageQueue, RabbitError, TopologyError
from rabbit.amqp.loop_thread import LoopThread
from rabbit.logs import logger
from rabbit.runtime.blocking_publisher import BlockingPublisher
from rabbit.settings import Settings
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.background import InBackground, Running
from tests.integration.proxy import Proxy
from tests.integration.test_kinds import collecting, wait_consuming
from tests.ports import free_port
from tests.waiting import wait_until


@pytest.fixture
def queue(broker: Broker, unique: Unique) -> MessageQueue:
    """Give a queue of this test's own."""
    return MessageQueue(unique("queue"), **broker.settings)


@pytest.fixture
def away(unique: Unique) -> MessageQueue:
    """Give a queue whose broker is not there."""
    return MessageQueue(unique("queue"), rabbitmq_port=free_port(), log_level="error")


def threads() -> int:
    """Count the threads of the library."""
    return sum(thread.name == "rabbit" for thread in threading.enumerate())


def descriptors() -> int:
    """Count what this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def declared_otherwise(broker: Broker, name: str) -> None:
    """Make a queue that the library does not get along with."""
    with broker.channel() as channel:
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "classic"})


# After a failure


def test_it_publishes_once_the_cause_is_gone(broker: Broker, queue: MessageQueue) -> None:
    """After a TopologyError the next `publish` starts afresh, twice too."""
    declared_otherwise(broker, queue.name)
    with queue:
        for _ in range(2):
            with pytest.raises(TopologyError):
                queue.publish("a", timeout=20)
        broker.delete_queue(queue.name)
        queue.publish("b", timeout=20)

    assert [message.text for message in broker.take_all(queue.name)] == ["b"]


def test_start_knows_nothing_of_an_old_error(broker: Broker, queue: MessageQueue) -> None:
    """The error of a `publish`, or of another `start`, is not raised again."""
    texts = collecting(queue)
    declared_otherwise(broker, queue.name)
    with queue:
        with pytest.raises(TopologyError):
            queue.publish("a", timeout=20)
        with pytest.raises(TopologyError):
            queue.start()
        broker.delete_queue(queue.name)
        with Running(queue):
            queue.publish("b", timeout=20)
            wait_until(lambda: texts == ["b"], 20, "the message arrives")


class BugError(Exception):
    """Something that nobody has thought of."""


def fail() -> None:
    """Do what nobody expects."""
    raise BugError


def inside(queue: MessageQueue, *names: str) -> Any:
    """Look at what is none of a user's business."""
    found: Any = queue
    for name in names:
        found = getattr(found, name, None)
    return found


def waiting(queue: MessageQueue) -> int:
    """Count the calls that wait to publish."""
    return len(inside(queue, "_outlet", "_batches") or ())


def test_a_bug_in_the_loop_fails_every_caller(
    unique: Unique, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that wait raise an error that names it; it is logged once, with its traceback."""
    away = MessageQueue(unique("queue"), rabbitmq_port=free_port(), log_level="error")
    collecting(away)
    with away:
        calls = [
            InBackground(lambda: away.publish("a")),
            InBackground(lambda: away.publish_many("ab" for _ in range(5))),
            InBackground(away.start),
        ]
        wait_until(lambda: waiting(away) == 2 and inside(away, "_consuming"), 20, "all wait")
        inside(away, "_loop_thread").call(fail)
        for call in calls:
            with pytest.raises(RabbitError, match=r"has failed: BugError\(\)"):
                call.join()
        with pytest.raises(BrokerUnavailableError, match="not confirmed"):  # with a new thread
            away.publish("a", timeout=0.2)

    told = ""

    def is_told() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return "BugError" in told

    wait_until(is_told, 20, "it is logged")
    assert told.count("Traceback (most recent call last)") == 1


def test_a_bug_in_the_loop_gives_back_what_was_held(broker: Broker, unique: Unique) -> None:
    """At once: the connection is not left open until its heartbeats are missed."""
    settings = {**broker.settings, "rabbitmq_heartbeat": 600}
    queue = MessageQueue(unique("queue"), **settings)
    seen: list[object] = []
    queue.register(lambda *given: seen.append(given))
    with queue:
        queue.publish("a", timeout=20)
        call = InBackground(queue.start)
        wait_until(lambda: seen, 20, "it is held")
        inside(queue, "_loop_thread").call(fail)
        with pytest.raises(RabbitError, match="BugError"):
            call.join()
        wait_until(lambda: broker.depth(queue.name) == 1, 20, "it is in its queue again")


@pytest.mark.thorough
def test_a_bug_in_the_loop_fails_what_waits_for_a_step_task() -> None:
    """`see_through`, by which others wait, raises it; later calls do as well."""
    settings = Settings.load()
    loop_thread = LoopThread(settings, logger(settings), lambda: None)

    def failing() -> Iterator[None]:
        yield
        raise BugError

    with pytest.raises(RabbitError, match=r"BugError\(\)"):
        loop_thread.see_through(failing(), None)
    with pytest.raises(RabbitError, match=r"BugError\(\)"):
        loop_thread.see_through(iter(()), None)
    with pytest.raises(RabbitError, match=r"BugError\(\)"):
        loop_thread.call(print)
    loop_thread.close()


# Closing


def test_close_ends_what_waits_to_publish(away: MessageQueue) -> None:
    """`publish` and `publish_many` raise that the queue was closed."""
    calls = [
        InBackground(lambda: away.publish("a")),
        InBackground(lambda: away.publish_many(["a", "b"])),
    ]
    wait_until(lambda: waiting(away) == 2, 20, "both wait")

    away.close()

    for call in calls:
        with pytest.raises(ClosedError, match="closed"):
            call.join()
    wait_until(lambda: threads() == 0, 20, "its thread has ended")


def test_close_ends_publish_many_between_two_messages(broker: Broker, queue: MessageQueue) -> None:
    """Also when it waits for its own iterable."""
    read, go_on = threading.Event(), threading.Event()

    def texts() -> Iterator[str]:
        yield "a"
        read.set()
        go_on.wait()
        yield "b"

    call = InBackground(lambda: queue.publish_many(texts()))
    assert read.wait(20)
    queue.close()
    go_on.set()

    with pytest.raises(ClosedError):
        call.join()
    assert broker.depth(queue.name) == 0


def test_leaving_ends_start(broker: Broker, queue: MessageQueue) -> None:
    """`start` in another thread returns as after `stop`; then the queue can be used again."""
    texts = collecting(queue)
    with queue:
        call = InBackground(queue.start)
        wait_consuming(queue)
    call.join()
    wait_until(lambda: threads() == 0, 20, "its thread has ended")

    with queue, Running(queue):
        queue.publish("a", timeout=20)
        wait_until(lambda: texts == ["a"], 20, "the message arrives")
    assert broker.consumers(queue.name) == 0


def test_close_waits_for_the_callback(broker: Broker, queue: MessageQueue) -> None:
    """What the callback is at when another thread closes, it can ack."""
    at_it, go_on = threading.Event(), threading.Event()

    def callback(channel: Any, method: Any, *_: object) -> None:
        at_it.set()
        go_on.wait(20)
        channel.basic_ack(method.delivery_tag)

    queue.register(callback)
    queue.publish_many(["a", "b"])
    call = InBackground(queue.start)
    assert at_it.wait(20)
    closing = InBackground(queue.close)
    wait_until(lambda: inside(queue, "_loop_thread") is None, 20, "it is being closed")
    go_on.set()
    closing.join()
    call.join()

    assert [message.text for message in broker.take_all(queue.name)] == ["b"]


def test_close_in_the_callback(broker: Broker, queue: MessageQueue) -> None:
    """`start` returns after it; an ack that follows counts still."""

    def callback(channel: Any, method: Any, *_: object) -> None:
        queue.close()
        channel.basic_ack(method.delivery_tag)

    queue.register(callback)
    queue.publish_many(["a", "b"])
    InBackground(queue.start).join()

    wait_until(lambda: threads() == 0, 20, "its thread has ended")
    assert [message.text for message in broker.take_all(queue.name)] == ["b"]


@pytest.mark.thorough
def test_a_broker_that_is_frozen_holds_up_no_close(broker: Broker, unique: Unique) -> None:
    """Neither `start` nor `publish` outlast it."""
    with Proxy(broker.port) as proxy:
        settings = {**broker.settings, "rabbitmq_port": proxy.port, "log_level": "error"}
        queue = MessageQueue(unique("queue"), **settings)
        collecting(queue)
        consuming = InBackground(queue.start)
        wait_consuming(queue)
        queue.publish("a")
        proxy.freeze()
        publishing = InBackground(lambda: queue.publish("b"))
        wait_until(lambda: waiting(queue), 20, "it waits")
        InBackground(queue.close).join()
        consuming.join()
        with pytest.raises(ClosedError):
            publishing.join()


# Starting and stopping


def test_stop_before_start(queue: MessageQueue) -> None:
    """The next `start` returns at once, the one after it consumes."""
    texts = collecting(queue)
    with queue:
        queue.publish("a")
        queue.stop()
        InBackground(queue.start).join()
        assert texts == []
        with Running(queue):
            wait_until(lambda: texts == ["a"], 20, "the message arrives")


def test_a_second_start_is_refused(queue: MessageQueue) -> None:
    """While one runs, another raises at once; so does one within the callback."""
    errors: list[str] = []

    def callback(channel: Any, method: Any, *_: object) -> None:
        with pytest.raises(RabbitError) as raised:
            queue.start()
        errors.append(str(raised.value))
        channel.basic_ack(method.delivery_tag)

    queue.register(callback)
    with queue, Running(queue):
        wait_consuming(queue)
        with pytest.raises(RabbitError, match="running already"):
            queue.start()
        queue.publish("a")
        wait_until(lambda: errors, 20, "the callback is called")
    assert "running already" in errors[0]


def test_stop_in_the_callback(broker: Broker, queue: MessageQueue) -> None:
    """`start` returns after it."""

    def callback(channel: Any, method: Any, *_: object) -> None:
        queue.stop()
        channel.basic_ack(method.delivery_tag)

    queue.register(callback)
    with queue:
        queue.publish_many(["a", "b"])
        InBackground(queue.start).join()

    assert [message.text for message in broker.take_all(queue.name)] == ["b"]


# Forgetting


def test_what_nobody_holds_closes_itself(broker: Broker, unique: Unique) -> None:
    """The README's one line, again and again, leaves neither threads nor file descriptors."""
    wait_until(lambda: threads() == 0, 20, "nobody else has any")
    gc.collect()
    before = descriptors()
    for _ in range(20):
        MessageQueue(unique("letters"), **broker.settings).publish("hello")

    wait_until(lambda: threads() == 0, 20, "the threads have ended")
    gc.collect()
    assert descriptors() <= before
    assert broker.depth(unique("letters")) == 20


def test_a_callback_keeps_no_queue(broker: Broker, unique: Unique) -> None:
    """A callback that knows its queue is a cycle, which the collector finds; in any thread."""
    queue: Any = MessageQueue(unique("queue"), **broker.settings)
    queue.register(lambda *_: queue.stop())  # noqa: F821 - deleted when it is not needed
    queue.publish("a")
    del queue
    gc.collect()

    wait_until(lambda: threads() == 0, 20, "its thread has ended")


EXHAUST = """
import resource, sys
from rabbit import MessageQueue, RabbitError

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
held = []
try:
    while True:
        held.append(MessageQueue(sys.argv[1]))
        held[-1].publish("a", timeout=5)
except RabbitError as error:
    print(type(error).__name__, str(error).replace("\\n", "?"), flush=True)
"""


def test_running_out_of_descriptors_is_told(start: Start, unique: Unique) -> None:
    """In one line that says so, and what to do; the process ends."""
    process = start("-c", EXHAUST, unique("queue"), ready=False)

    assert process.wait() == 0
    assert "Too many open files" in process.lines[-1]
    assert "ulimit" in process.lines[-1]
    assert "Traceback" not in process.log


# Forking

FORK = """
import os, sys, threading
from rabbit import MessageQueue

queue = MessageQueue(sys.argv[1])
queue.publish("before")
many = iter(lambda: "x", None)
busy = threading.Thread(target=lambda: queue.publish_many(next(many) for _ in range(2000)))
busy.start()
child = os.fork()
if not child:
    queue.publish("child", timeout=20)
    queue.publish("child again", timeout=20)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
busy.join()
queue.publish("parent", timeout=20)
queue.close()
print("ended", flush=True)
"""


def test_a_child_starts_anew(broker: Broker, start: Start, unique: Unique) -> None:
    """It publishes after a fork in the middle of a `publish_many`, and parent and child end."""
    process = start("-c", FORK, unique("queue"), ready=False)

    assert process.wait() == 0, process.log
    assert process.lines == ["ended"]
    assert process.log == ""  # the parent's connections were not closed, nor spoken on
    texts = [message.text for message in broker.take_all(unique("queue"))]
    assert sorted(text for text in texts if text != "x") == [
        "before",
        "child",
        "child again",
        "parent",
    ]
    assert texts.count("x") == 2000


FORK_LOCKED = """
import os, sys
from rabbit import MessageQueue

queue = MessageQueue(sys.argv[1])
queue.publish("before")
loop_thread = queue._loop_thread
loop_thread._network.loop._poller._waking_mutex.acquire()
queue._lock.acquire()
import threading
pids = []
def fork():
    child = os.fork()
    if not child:
        queue.publish("child", timeout=20)
        queue.close()
        os._exit(0)
    pids.append(child)
thread = threading.Thread(target=fork)
thread.start()
thread.join()
loop_thread._network.loop._poller._waking_mutex.release()
queue._lock.release()
print(os.waitpid(pids[0], 0)[1], flush=True)
"""


def test_locks_that_are_held_at_a_fork(start: Start, unique: Unique) -> None:
    """Of another thread, which the child does not have: it waits for none of them."""
    process = start("-c", FORK_LOCKED, unique("queue"), ready=False)

    assert process.wait() == 0, process.log
    assert process.lines == ["0"]


FORK_CALLBACK = """
import os, sys
from rabbit import MessageQueue, RabbitError

queue = MessageQueue(sys.argv[1])

def say(text):  # all of the line at once: `print` writes its end by itself
    os.write(1, f"{text}\\n".encode())

def callback(channel, method, properties, message):
    if os.fork():
        queue.ack(method)
        say(message)
        if message == "HALT":
            queue.stop()

queue.register(callback)
try:
    queue.start()
except RabbitError as error:
    say(f"child: {error}")
    sys.exit(0)
say("ended")
"""


def test_a_child_of_the_callback_consumes_nothing(
    broker: Broker, start: Start, unique: Unique
) -> None:
    """When it comes back from the callback, `start` ends with an error there."""
    broker.put(unique("queue"), ["a", "HALT"])

    process = start("-c", FORK_CALLBACK, unique("queue"), ready=False)

    assert process.wait() == 0, process.log
    wait_until(lambda: len(process.lines) == 5, 20, "the children have ended")
    assert [line for line in process.lines if "child" not in line] == ["a", "HALT", "ended"]
    assert process.log == ""
    assert broker.depth(unique("queue")) == 0


MULTIPROCESSING = """
import multiprocessing, sys
from rabbit import MessageQueue

queue = MessageQueue(sys.argv[1])
queue.publish("parent", timeout=20)

def publish():
    queue.publish("child", timeout=20)

child = multiprocessing.get_context("fork").Process(target=publish)
child.start()
child.join()
print(child.exitcode, flush=True)
"""


def test_multiprocessing(broker: Broker, start: Start, unique: Unique) -> None:
    """Its children, too, and nobody waits at exit."""
    process = start("-c", MULTIPROCESSING, unique("queue"), ready=False)

    assert process.wait() == 0, process.log
    assert process.lines == ["0"]
    assert process.log == ""
    assert broker.depth(unique("queue")) == 2


AT_EXIT = """
import sys, threading
from rabbit import MessageQueue

queues = [MessageQueue(sys.argv[1]) for _ in range(4)]
for queue in queues:
    queue.register(lambda *_: None)
    threading.Thread(target=queue.start, daemon=True).start()
    queue.publish("a")
print("waits", flush=True)
sys.stdin.read()
threading.Event().wait()
"""


def test_at_exit_all_are_closed_together(broker: Broker, start: Start, unique: Unique) -> None:
    """A daemon thread that waits keeps no process from ending, by Ctrl-C for instance."""
    process = start("-c", AT_EXIT, unique("queue"), ready=False)
    process.wait_printed("waits")

    process.send(signal.SIGINT)

    assert process.wait() != 0
    wait_until(lambda: broker.consumers(unique("queue")) == 0, 20, "nobody consumes")


NO_DAEMON = """
import os, threading
from rabbit import BrokerUnavailableError, MessageQueue

queue = MessageQueue(os.environ["OUTPUT_QUEUE"])

def publish():
    try:
        queue.publish("a", timeout=1)
    except BrokerUnavailableError:
        print("given up", flush=True)

threading.Thread(target=publish).start()
"""


def test_a_thread_that_is_no_daemon_is_waited_for_no_longer_than_it_publishes(
    start: Start, unique: Unique
) -> None:
    """Python joins it before it exits, so that what it publishes is not lost; with a time-out."""
    given: dict[str, Any] = {"OUTPUT_QUEUE": unique("queue"), "RABBITMQ_PORT": free_port()}
    process = start("-c", NO_DAEMON, ready=False, **given)

    assert process.wait() == 0
    assert process.lines == ["given up"]


#: The signal comes to another thread than the one that waits, which so is not woken by it. One that
#: comes just before the wait does the same.
INTERRUPTED = """
import os, signal, threading
from rabbit import MessageQueue
signal.signal(signal.SIGUSR1, signal.default_int_handler)
queue = MessageQueue(os.environ["INPUT_QUEUE"])
queue.register(print)
def interrupt():
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
threading.Timer(1, interrupt).start()
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("call", ["queue.start()", "queue.publish('a')"])
def test_a_signal_that_wakes_nobody_is_noticed(start: Start, unique: Unique, call: str) -> None:
    """Python runs its handler when the main thread does something: no wait is for ever."""
    program = INTERRUPTED.format(call=call)
    away = start("-c", program, ready=False, INPUT_QUEUE=unique("in"), RABBITMQ_PORT=free_port())

    away.wait_printed("interrupted", 20)
    assert away.wait() == 0


@pytest.mark.parametrize("place", ["start", "__init__"])
def test_ctrl_c_while_it_begins_leaves_no_thread(
    away: MessageQueue, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The thread has started, and the call does not get that far: nobody would ever close it."""
    before = threads()
    owner: Any = threading.Thread if place == "start" else BlockingPublisher
    begin = getattr(owner, place)

    def interrupted(self: Any, *arguments: Any) -> None:
        if place == "__init__" or self.name == "rabbit":
            begin(self, *arguments)
            raise KeyboardInterrupt
        begin(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, interrupted)
        with pytest.raises(KeyboardInterrupt):
            away.publish("a")

    away.close()
    wait_until(lambda: threads() == before, 20, "no thread is left")


def test_close_in_a_signal_handler_while_it_begins(
    queue: MessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever point it comes, what was to be published is told to be closed."""
    begin = weakref.finalize.__init__

    def closing(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        if arguments[0] is queue:
            queue.close()

    with monkeypatch.context() as patch:
        patch.setattr(weakref.finalize, "__init__", closing)
        with pytest.raises(ClosedError):
            queue.publish("a", timeout=20)
    queue.publish("b", timeout=20)
    queue.close()
