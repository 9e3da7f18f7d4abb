"""A loop in a thread of its own, and those who wait for it."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from rabbit import MessageQueue, message_queue
from rabbit.amqp import loop_thread as module
from rabbit.amqp.loop_thread import LoopThread
from rabbit.errors import RabbitError
from rabbit.logs import logger
from rabbit.settings import Settings
from tests.ports import free_port
from tests.process import ROOT
from tests.waiting import wait_until

PATIENCE_SECONDS = 10.0


def made() -> LoopThread:
    """Return one that connects to nothing."""
    settings = Settings.load(log_level="error")
    return LoopThread(settings, logger(settings), lambda: None)


class At:
    """Calls a function when the present thread comes to its line number `count`, as a signal does.

    Attributes:
        is_reached: whether it has come so far.
        place: where that was.
    """

    def __init__(self, count: int, function: Any) -> None:
        """Begin to count."""
        self.is_reached = False
        self.place = ""
        self._left = count
        self._function = function

    def __enter__(self) -> None:
        """Count, in this thread."""
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        """Count no more."""
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and not self.is_reached:
            self._left -= 1
            if self._left < 0:
                self.is_reached = True
                self.place = f"{frame.f_code.co_name}:{frame.f_lineno}"
                self._function()
        return self._trace


def test_a_signals_handler_may_close_what_waits_at_any_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is called in the thread that waits, between any two lines, whatever that holds."""
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(module, "_MARGIN_SECONDS", 0.1)

    def wait(loop_thread: LoopThread, at: At) -> None:
        with suppress(RabbitError), at:
            loop_thread.see_through(iter(()), None)

    for count in range(1000):
        loop_thread = made()
        at = At(count, loop_thread.close)
        waiting = threading.Thread(target=wait, args=(loop_thread, at), daemon=True)
        waiting.start()
        waiting.join(PATIENCE_SECONDS)
        assert not waiting.is_alive(), f"it hangs when closed at line {count}: {at.place}"
        loop_thread.close()
        if not at.is_reached:
            break
    assert count > 10


def queue() -> MessageQueue:
    """Return one whose broker is not there."""
    return MessageQueue("queue", rabbitmq_port=free_port(), log_level="error")


def call_publish(it: MessageQueue) -> None:
    """Publish."""
    it.publish("a")


def call_publish_many(it: MessageQueue) -> None:
    """Publish several."""
    it.publish_many(["a", "b"])


def call_start(it: MessageQueue) -> None:
    """Consume."""
    it.register(print)
    it.start()


@pytest.mark.parametrize("call", [call_publish, call_publish_many, call_start])
@pytest.mark.parametrize("is_own", [True, False])
def test_what_waits_is_refused_in_a_loops_thread(call: Any, *, is_own: bool) -> None:
    """A finaliser may be run there: it would wait for itself, without heartbeats."""
    told: list[str] = []
    over = threading.Event()

    def run() -> None:
        try:
            call(used if is_own else other)
        except RabbitError as error:
            told.append(str(error))
        over.set()

    with queue() as used, queue() as other:
        used._open().call(run)  # noqa: SLF001 - as the collector may do
        assert over.wait(PATIENCE_SECONDS)

    assert len(told) == 1
    assert "cannot wait for itself" in told[0]


@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize("consumes", [True, False])
def test_close_in_a_loops_thread_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, *, is_own: bool, consumes: bool
) -> None:
    """It is closed as soon as its own loop gets to it."""
    monkeypatch.setattr(message_queue, "CLOSE_SECONDS", 10 * PATIENCE_SECONDS)
    over = threading.Event()
    used, other = queue(), queue()
    opened = used._open()  # noqa: SLF001 - as the collector may do
    if consumes:
        starting = threading.Thread(target=call_start, args=(used,), daemon=True)
        starting.start()
        wait_until(lambda: used._consuming is not None, 10, "it consumes")  # noqa: SLF001

    def run() -> None:
        used.close()
        over.set()

    (opened if is_own else other._open()).call(run)  # noqa: SLF001 - likewise
    assert over.wait(PATIENCE_SECONDS)
    opened._thread.join(PATIENCE_SECONDS)  # noqa: SLF001 - nobody else has it
    assert opened.has_ended
    other.close()


#: What is open by then stays open, and nothing more can be.
WITHOUT_DESCRIPTORS = """
import os, resource, sys
from rabbit.amqp.loop_thread import LoopThread
from rabbit.logs import logger
from rabbit.settings import Settings
from tests.waiting import wait_until

settings = Settings.load(log_level="error")
loop_thread = LoopThread(settings, logger(settings), lambda: None)
connection = loop_thread.connection("connects")

def tells(text):
    wait_until(lambda: text in (loop_thread.outage_log.reason or ""), 30, text)

loop_thread.call(connection.connect)
tells("nothing listens")
before = resource.getrlimit(resource.RLIMIT_NOFILE)
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
tells("no file descriptor left for 127.0.0.1")
resource.setrlimit(resource.RLIMIT_NOFILE, before)
tells("nothing listens")
loop_thread.close()
print("ended")
"""


def test_no_descriptor_for_a_connection_is_a_failed_attempt() -> None:
    """It is told, and tried again: a process that runs goes on."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}",
        "RABBITMQ_HOST": "127.0.0.1",
        "RABBITMQ_PORT": str(free_port()),
    }
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert ended.stdout == "ended\n", ended.stderr
