"""What a replica answers, and what it keeps of its answers while it cannot."""

import json
from types import SimpleNamespace
from typing import cast

from rabbit.amqp.outage_log import OutageLog
from rabbit.control.messages import Command, State
from rabbit.runtime.handler_times import HandlerTimes
from rabbit.runtime.reporter import MOST_WAITING, Identity, Reporter
from rabbit.runtime.runner import Runner
from rabbit.topology import Edge
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection, log

ASK = Command(command="report")


class Desk:
    """A reporter on a connection by hand, which an alarm blocks."""

    def __init__(self) -> None:
        """Have the alarm come when the exchange is declared."""
        self.connection = ScriptedConnection(ScriptedLoop())
        self.connection.user_id, self.connection.opened = None, 1  # type: ignore[attr-defined]
        numbers = dict.fromkeys(("in_flight", "handled", "failed", "retried", "dead_lettered"), 0)
        runner = SimpleNamespace(
            **numbers, requeued=0, prefetch=1, oldest_seconds=0.0, publishers=[],
            handler_times=HandlerTimes,
        )  # fmt: skip
        self.reporter = Reporter(
            [as_connection(self.connection)],
            Identity("printer", "r", Edge("upper"), None),
            cast("Runner", runner),
            OutageLog(log),
            log,
            lambda _error: None,
        )
        self.connection.users[-1].open()
        self.connection.blocked = True

    def told(self) -> list[tuple[str, str]]:
        """End the alarm; return to whom which state has been told."""
        self.connection.blocked = False
        for go_on in self.connection.on_unblocked:
            go_on()
        published = [each for channel in self.connection.users for each in channel.published]
        return [(each.key, json.loads(each.body)["state"]) for each in published]


def test_of_answers_to_one_address_the_last_one_waits() -> None:
    """During an alarm, however often it asks."""
    desk = Desk()
    for state in (State.RUNNING, State.RUNNING, State.BLOCKED):
        desk.reporter.answer(ASK, "status", state)
        desk.reporter.answer(ASK, "board", state)

    assert desk.told() == [("status", "blocked"), ("board", "blocked")]


def test_only_so_many_answers_wait() -> None:
    """Whoever asks; a halt is answered all the same."""
    desk = Desk()
    for number in range(2 * MOST_WAITING):
        desk.reporter.answer(ASK, f"one-{number}", State.BLOCKED)
    desk.reporter.answer(Command(command="halt"), "halt", State.HALTING)

    told = desk.told()
    assert len(told) == MOST_WAITING + 1
    assert told[-1] == ("halt", "halting")
