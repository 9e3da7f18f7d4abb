"""The mark of a paused stage, seen and overlooked: the broker's part is played by hand."""

import pytest

from rabbit.amqp.frames import Arrival
from rabbit.amqp.pika_types import Properties, encode_properties
from rabbit.control.listener import ControlListener
from rabbit.control.messages import Command, State
from rabbit.topology import control_queue, pause_mark
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection, log

MARK = pause_mark("printer")
QUEUE = control_queue("printer", "1")


def arrival_of(command: Command) -> Arrival:
    """Return a command as it comes."""
    properties = encode_properties(Properties())  # type: ignore[no-untyped-call]
    return 7, "", properties, command.model_dump_json().encode(), False


class Stage:
    """A listener that is connected, and what its replica is told."""

    def __init__(self, *, is_marked: bool) -> None:
        """Have the broker count the mark, or not."""
        self.loop = ScriptedLoop()
        self.told: list[bool] = []
        self.commands: list[str] = []
        connection = ScriptedConnection(self.loop)
        self.listener = ControlListener(
            as_connection(connection),
            "printer",
            "1",
            log,
            on_command=lambda command, _: self.commands.append(command.command),
            on_told=self.told.append,
            on_failed=lambda _: None,
        )
        [self.channel] = connection.users
        self.channel.ready[MARK] = int(is_marked)
        self.channel.open()

    def waits(self, command: Command, *, empty_before: int = 0) -> None:
        """Have a command wait in the control queue, of which nothing is counted.

        Args:
            command: that one.
            empty_before: how often the queue says that it is empty before.
        """
        there = self.channel.to_get.setdefault(QUEUE, [])
        there += [*([None] * empty_before), arrival_of(command)]


def test_a_mark_that_was_overlooked_is_seen_later() -> None:
    """A broker that is slow counts nothing, and another replica may have it in hand."""
    stage = Stage(is_marked=False)
    stage.loop.pass_time()
    stage.loop.pass_time()
    assert set(stage.told) == {False}

    stage.channel.ready[MARK] = 1
    stage.loop.pass_time()

    assert stage.told[-1] is True


def test_a_mark_is_not_taken_to_be_gone() -> None:
    """Whoever takes it away says so; a broker that is slow would count nothing, too."""
    stage = Stage(is_marked=True)
    assert set(stage.told) == {True}

    stage.channel.ready[MARK] = 0
    stage.loop.pass_time()
    stage.loop.pass_time()

    assert set(stage.told) == {True}


def test_who_leaves_is_not_paused_any_more() -> None:
    """It ends."""
    stage = Stage(is_marked=False)
    stage.listener.leave()

    stage.channel.ready[MARK] = 1
    stage.loop.pass_time()

    assert set(stage.told) == {False}


@pytest.mark.parametrize("empty_before", [0, 1])
def test_who_leaves_hears_what_is_left_though_nothing_is_counted(empty_before: int) -> None:
    """A broker that is slow counts nothing: the command would be deleted with the queue."""
    stage = Stage(is_marked=False)
    stage.waits(Command(command="halt"), empty_before=empty_before)

    stage.listener.leave()

    assert stage.commands == ["halt"]
    assert ("ack", 7) in stage.channel.sent
    assert stage.listener.is_heard


def test_who_has_said_its_last_word_hears_no_more() -> None:
    """Where that is a binding, in an alarm, more comes by it: it stays in the queue, unacked."""
    stage = Stage(is_marked=False)
    stage.listener.leave()
    stage.listener.remove(State.HALTED)
    before = list(stage.channel.sent)
    assert before[-1] == ("bind", f"{QUEUE} {State.HALTED.value}")

    stage.listener.delivered("", [arrival_of(Command(command="halt"))])

    assert (stage.commands, stage.channel.sent) == ([], before)


def test_who_is_back_hears_a_pause_that_has_waited_though_nothing_is_counted() -> None:
    """It is not told to go on before that."""
    stage = Stage(is_marked=False)
    stage.told.clear()
    stage.channel.lose()
    stage.waits(Command(command="pause", target="printer/1"))

    stage.channel.open()

    assert set(stage.told) == {True}
