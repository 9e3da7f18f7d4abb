"""The mark of a paused stage, seen and overlooked: the broker's part is played by hand."""

from rabbit.control.listener import ControlListener
from rabbit.topology import pause_mark
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection, log

MARK = pause_mark("printer")


class Stage:
    """A listener that is connected, and what its replica is told."""

    def __init__(self, *, is_marked: bool) -> None:
        """Have the broker count the mark, or not."""
        self.loop = ScriptedLoop()
        self.told: list[bool] = []
        connection = ScriptedConnection(self.loop)
        self.listener = ControlListener(
            as_connection(connection),
            "printer",
            "1",
            log,
            on_command=lambda *_: None,
            on_told=self.told.append,
            on_failed=lambda _: None,
        )
        [self.channel] = connection.users
        self.channel.ready[MARK] = int(is_marked)
        self.channel.open()


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
