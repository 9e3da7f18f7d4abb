"""What a connection knows of itself, with pika's part played by hand; see integration, too."""

from types import SimpleNamespace
from typing import Any

from pika import frame, spec

from rabbit.amqp.connection import Connection
from rabbit.amqp.outage_log import OutageLog
from rabbit.settings import Settings
from tests.unit.scripted import ScriptedLoop, as_loop, log


def connection() -> Connection:
    """Return one that has not begun to connect."""
    return Connection(as_loop(ScriptedLoop()), Settings.load(), "test", OutageLog(log))


class Raw:
    """A channel of pika's."""

    channel_number = 1

    def __init__(self, *, is_open: bool) -> None:
        """Be open, or not."""
        self.is_open = is_open

    def close(self) -> None:
        """As pika does it."""
        assert self.is_open, "pika raises ChannelWrongStateError"
        self.is_open = False


def test_a_channel_that_is_being_closed_is_not_closed_again() -> None:
    """But what still arrives on it is for nobody, as with any other."""
    made = connection()
    for raw in (Raw(is_open=True), Raw(is_open=False)):
        wire: Any = SimpleNamespace(listeners={1: object()})
        made._pika = wire  # noqa: SLF001
        made.close_channel(raw)  # type: ignore[arg-type]
        assert (raw.is_open, wire.listeners) == (False, {})


def test_an_alarm_is_not_known_any_more_when_its_connection_is_lost() -> None:
    """Else a replica would be ready, and wait for the end of an alarm, while the broker is gone."""
    made = connection()
    blocked = frame.Method(0, spec.Connection.Blocked("low on memory"))  # type: ignore[no-untyped-call]
    made._block(made, blocked)  # noqa: SLF001
    assert made.blocked

    made._failed(made, OSError("the broker is gone"))  # noqa: SLF001

    assert not made.blocked
