"""What a publisher that blocks says of an alarm, with the connection's part played by hand."""

from collections.abc import Iterator
from typing import Any, cast

from structlog.testing import CapturingLogger

from rabbit.amqp.loop_thread import LoopThread
from rabbit.amqp.outage_log import OutageLog
from rabbit.runtime.blocking_publisher import BlockingPublisher
from rabbit.topology import Edge
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, log


class Thread:
    """A loop's thread with one connection; the test says what becomes of that."""

    def __init__(self) -> None:
        """Have nothing to do."""
        self.outage_log = OutageLog(log)
        self.connected = ScriptedConnection(ScriptedLoop())
        self.task: Iterator[None] = iter(())

    def connection(self, _name: str) -> Any:
        """Return that one."""
        self.connected.connect = self.connection  # type: ignore[attr-defined]
        return self.connected

    def call(self, function: object, *arguments: object) -> None:
        """It is connected already."""

    def begin(self, task: Iterator[None]) -> None:
        """Go on with it when the test says so."""
        self.task = task


class Desk:
    """A publisher, and what it has said."""

    def __init__(self) -> None:
        """Be connected."""
        self.thread = Thread()
        self.connection = self.thread.connected
        self.log: Any = BindingLogger()
        thread = cast("LoopThread", self.thread)
        self.publisher = BlockingPublisher(thread, Edge("letters"), self.log)

    def said(self) -> list[str]:
        """Return what has been said until the end of this turn."""
        next(self.thread.task)
        return [str(call.args[0]) for call in self.log.calls]


class BindingLogger(CapturingLogger):
    """One that is itself whatever it is bound to."""

    def bind(self, **_: object) -> "BindingLogger":
        """Return itself."""
        return self


WAITS, GOES_ON = "broker takes no messages, waiting", "broker takes messages again"


def test_an_alarm_and_its_end_are_told() -> None:
    """Once each."""
    desk = Desk()
    desk.connection.blocked = True
    assert desk.said() == desk.said() == [WAITS]
    assert "alarm" in (desk.publisher.reason or "")

    desk.connection.blocked = False
    assert desk.said() == desk.said() == [WAITS, GOES_ON]
    assert desk.publisher.reason is None


def test_no_end_is_told_of_an_alarm_whose_connection_is_lost() -> None:
    """The broker takes nothing now; why, the outage tells."""
    desk = Desk()
    desk.connection.blocked = True
    desk.said()

    desk.connection.blocked = desk.connection.is_open = False
    desk.thread.outage_log.trouble(desk.connection, "the broker is gone", "gone")

    assert desk.said() == [WAITS]
    assert desk.publisher.reason == "the broker is gone"
