"""A source, with the broker's part played by hand."""

from collections.abc import Callable

from rabbit.runtime.runner import Connections
from rabbit.runtime.source import Source
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection, as_loop, log


def made(work: Callable[[], None]) -> tuple[Source, ScriptedConnection]:
    """Return a source, and the connection that it is to publish on."""
    loop = ScriptedLoop()
    publishing = ScriptedConnection(loop)
    connections = Connections(as_loop(loop), as_connection(publishing), as_connection(publishing))
    return Source(connections, Edge("out"), Settings.load(), work, log), publishing


def test_one_that_is_halted_before_it_begins_never_does() -> None:
    """Its channel opens while it halts: nothing is written, and there is nothing to wait for."""
    begun: list[str] = []
    source, publishing = made(lambda: begun.append("work"))
    source.turn()

    for _ in source.halt():
        publishing.users[0].open()
        source.turn()
    publishing.users[0].open()
    source.turn()

    assert begun == []
    assert not source.is_ready
    assert (source.in_flight, source.handled, source.end) == (0, 0, None)


def test_one_begins_when_the_broker_takes_messages() -> None:
    """Not before: what it wrote would wait in memory."""
    source, publishing = made(lambda: None)
    source.turn()
    assert not source.is_ready

    publishing.users[0].open()
    source.turn()

    assert source.is_ready
