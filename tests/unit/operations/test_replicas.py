"""What is concluded from what replicas say."""

from datetime import UTC, datetime, timedelta
from typing import cast

from rabbit.amqp.channel import Count
from rabbit.control.client import ControlClient
from rabbit.control.messages import LAST_WORDS_SECONDS, Report, State
from rabbit.operations.management import Management
from rabbit.operations.replicas import Replica, Replicas, are_meant


def said(state: State, process: str | None = "one") -> Report:
    """Return what a process says."""
    return Report(
        command_id="c",
        stage="s",
        replica="r",
        consumes="q",
        exchange="q",
        produces=None,
        state=state,
        in_flight=0,
        handled=0,
        failed=0,
        since=datetime(2026, 1, 1, tzinfo=UTC),
        process=process,
    )


def replica(*reports: Report) -> Replica:
    """Return a replica that has said this."""
    made = Replica("s/r", "control.s.r", is_there=True)
    for report in reports:
        made.hear(report)
    return made


def test_a_replica_is_halted_when_it_has_said_so() -> None:
    """Also in an older version, without a process; not when only its queue is gone."""
    gone = Replica("s/r", "control.s.r", must_say=True)

    assert replica(said(State.HALTING), said(State.HALTED)).is_halted
    assert replica(said(State.HALTING, None), said(State.HALTED, None)).is_halted
    assert not gone.is_halted
    assert not gone.has_left
    assert gone.is_settled


def test_each_process_of_a_name_has_to_say_it() -> None:
    """One that was restarted, or has a twin, is not halted by the other's word."""
    assert not replica(said(State.HALTING), said(State.HALTED, "two")).is_halted
    assert replica(said(State.HALTED), said(State.HALTED, "two")).is_halted


def test_who_gives_up_has_ended_and_is_not_halted() -> None:
    """By a report, or by its control queue."""
    assert replica(said(State.GAVE_UP)).is_settled
    assert not replica(said(State.GAVE_UP)).is_halted
    by_queue = Replica("s/r", "control.s.r", said=State.GAVE_UP, is_there=True)
    assert by_queue.has_ended
    assert not by_queue.is_halted


def test_a_new_process_has_not_ended() -> None:
    """Whatever the one before has said: else the commands that wait for it would be deleted."""
    assert not replica(said(State.GAVE_UP), said(State.RUNNING, "two")).has_ended
    assert not replica(said(State.HALTED), said(State.RUNNING, "two")).has_ended
    assert replica(said(State.GAVE_UP), said(State.HALTED, "two")).has_ended


class Broker:
    """A broker with one control queue, as the client and the management API show it."""

    def __init__(self) -> None:
        """Have it bound."""
        self.keys = {""}
        self.consumers = 0
        self.deleted: list[str] = []

    def control_bindings(self) -> dict[str, set[str]]:
        """Return its bindings."""
        return {"control.s.r": self.keys}

    def control_queues(self) -> set[str]:
        """Return its name."""
        return {"control.s.r"}

    def count(self, _queue: str) -> Count:
        """Count commands and consumers."""
        return Count(1, self.consumers)

    def delete(self, queue: str) -> None:
        """Note that it is deleted."""
        self.deleted.append(queue)


def test_what_waits_for_a_new_process_stays() -> None:
    """The one before has said by a binding how it has ended; this one is cut off for now."""
    broker = Broker()
    replicas = Replicas(cast("ControlClient", broker), cast("Management", broker))
    broker.keys = {"halted"}
    replicas.look()
    [known] = replicas
    assert known.has_ended

    broker.keys = {""}  # started again: the new process unbinds that
    replicas.look()
    replicas.weigh(known)

    assert not known.has_ended
    assert broker.deleted == []


def test_who_has_ended_deletes_its_queue_and_nobody_else_meanwhile() -> None:
    """It counts as gone at once; a queue that is still there later was left behind."""
    broker = Broker()
    replicas = Replicas(cast("ControlClient", broker), cast("Management", broker))
    replicas.look()
    [known] = replicas
    known.hear(said(State.HALTED))

    replicas.weigh(known)
    assert not known.is_there
    assert broker.deleted == []

    replicas.look()
    known.heard = datetime.now(UTC) - timedelta(seconds=2 * LAST_WORDS_SECONDS)
    replicas.weigh(known)
    assert not known.is_there
    assert broker.deleted == ["control.s.r"]


def test_a_queue_that_says_how_its_replica_has_ended_is_deleted_at_once() -> None:
    """Its replica could not publish, and has left it for that."""
    broker = Broker()
    broker.keys = {"halted"}
    replicas = Replicas(cast("ControlClient", broker), cast("Management", broker))
    replicas.look()
    [known] = replicas

    replicas.weigh(known)

    assert broker.deleted == ["control.s.r"]


def test_who_has_left_before_the_command_owes_no_answer() -> None:
    """A source that ends just then; but not who has begun to halt."""
    assert Replica("s/r", "control.s.r").has_left
    halting = replica(said(State.HALTING))
    halting.is_there = False
    assert not halting.has_left


def test_several_targets_are_meant() -> None:
    """Stages and replicas; none means all."""
    assert are_meant("s/r", ())
    assert are_meant("s/r", ("t", "s/r"))
    assert not are_meant("s/r", ("t", "s/q", "r"))
