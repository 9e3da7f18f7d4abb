"""The order in which a pipeline is drained."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from rabbit import RabbitError
from rabbit.amqp.channel import Count
from rabbit.control.client import ControlClient
from rabbit.control.messages import Command, Report, State
from rabbit.operations import drain
from rabbit.operations.drain import Drain, flow_order
from rabbit.operations.management import Management
from rabbit.operations.replicas import Replicas
from rabbit.topology import control_queue


def report(
    stage: str,
    consumes: str | None,
    produces: str | None,
    replica: str = "r",
    *,
    exchange: str | None = None,
    command: str = "c",
    state: State = State.RUNNING,
    in_flight: int = 0,
) -> Report:
    """Return what a replica says of itself; the exchange of a work queue has its name."""
    return Report(
        command_id=command,
        stage=stage,
        replica=replica,
        consumes=consumes,
        exchange=exchange or consumes,
        produces=produces,
        state=state,
        in_flight=in_flight,
        handled=0,
        failed=0,
        since=datetime.now(UTC),
        process=replica,
    )


PRODUCER = report("producer", None, "my_queue")
TO_UPPER = report("to_upper", "my_queue", "upper")
PRINTER = report("printer", "upper", None)


def names(*reports: Report) -> list[str]:
    """Return the stages in flow order."""
    return [flow.name for flow in flow_order(list(reports))]


def test_a_pipeline_is_drained_from_its_source_to_its_sink() -> None:
    """Whoever answers first."""
    in_order = ["producer", "to_upper", "printer"]

    assert in_order == names(PRODUCER, TO_UPPER, PRINTER)
    assert in_order == names(PRINTER, TO_UPPER, PRODUCER)
    assert in_order == names(TO_UPPER, PRINTER, PRODUCER)


def test_replicas_of_a_stage_are_one_stage() -> None:
    """Each stage stands in the order once, with what it consumes."""
    [flow] = flow_order([PRINTER, report("printer", "upper", None, "r2")])

    assert ("printer", "upper", set()) == (flow.name, flow.consumes, flow.produces)


def test_messages_that_failed_wait_in_queues_of_their_own() -> None:
    """They belong to the queue they came from, and to no other whose name begins alike."""
    [flow] = flow_order([PRINTER])
    [source] = flow_order([PRODUCER])
    names = ["upper.retry.1s", "upper.retry.500ms", "upper", "upper.dead", "uppermost.retry.1s"]

    assert [name for name in names if flow.retries_in(name)] == names[:2]
    assert not any(source.retries_in(name) for name in [*names, "None.retry.1s"])


def test_branches_come_together() -> None:
    """A stage waits for all stages that feed it, and two that do not feed each other may do so."""
    order = names(
        report("join", "joined", None),
        report("right", "split.right", "joined", exchange="split"),
        report("left", "split.left", "joined", exchange="split"),
        report("split", "my_queue", "split"),
    )

    assert order[0] == "split"
    assert {"left", "right"} == set(order[1:3])
    assert order[3] == "join"


def test_a_broadcast_feeds_every_group() -> None:
    """The queue of a group is called EXCHANGE.GROUP."""
    order = names(
        report("archive", "news.archive", None, exchange="news"),
        report("mail", "news.mail.host-1", None, exchange="news"),
        report("editor", None, "news"),
    )

    assert order[0] == "editor"
    assert len(order) == 3


def test_names_that_begin_alike_are_not_connected() -> None:
    """`news` does not feed a queue called `newsletter`."""
    order = names(report("a", "newsletter", "news"), report("b", "news", "newsletters"))

    assert order == ["a", "b"]


def test_a_circle_has_no_order() -> None:
    """The error names the stages in it, in the direction of the flow."""
    with pytest.raises(RabbitError, match="circle") as raised:
        flow_order([report("a", "q1", "q2"), report("b", "q2", "q3"), report("c", "q3", "q1")])

    path = str(raised.value).partition(": ")[2].split(" → ")
    assert path[0] == path[-1]
    assert " → ".join(path) in "a → b → c → a → b → c → a"


def test_nobody_there_nothing_to_drain() -> None:
    """An empty roll call has an empty order."""
    assert names() == []


def test_a_dot_in_a_queue_name_makes_no_circle() -> None:
    """`orders.raw` is a queue of its own, not a group of `orders`."""
    order = flow_order([report("ship", "orders", None), report("clean", "orders.raw", "orders")])

    assert [flow.name for flow in order] == ["clean", "ship"]


class ScaledDown:
    """A client and a management API with two replicas: after the first roll call one is stopped."""

    epoch = 0  # one broker all the time

    def __init__(self) -> None:
        """Have both."""
        self._bound = {control_queue("printer", each) for each in "ab"}
        self._come: list[Report] = []

    def send(self, command: Command) -> bool:
        """Have all answer that are there; the one that is stopped had something in flight."""
        state = State.HALTED if command.command == "halt" else State.RUNNING
        for queue in sorted(self._bound):
            name = queue.rpartition(".")[2]
            in_flight = 5 if name == "b" else 0
            said = {"command": command.id, "state": state, "in_flight": in_flight}
            self._come.append(report("printer", "upper", None, name, **said))  # type: ignore[arg-type]
        self._bound.discard(control_queue("printer", "b"))
        if state is State.HALTED:
            self._bound.clear()
        return True

    def reports(self) -> list[Report]:
        """Return what has come."""
        come, self._come = self._come, []
        return come

    def count(self, queue: str) -> Count | None:
        """Count nothing."""
        return Count(0, 0) if queue == "upper" else None

    def messages(self) -> Mapping[str, tuple[int, int]]:
        """Count nothing."""
        return {"upper": (0, 0)}

    def control_bindings(self) -> Mapping[str, Any]:
        """Return the queues there are."""
        return dict.fromkeys(self._bound, ())

    def control_queues(self) -> set[str]:
        """Return no others."""
        return set()


def test_who_has_left_holds_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had in flight when it last said so, it has handled or given back."""
    monkeypatch.setattr(drain, "BETWEEN_LOOKS_SECONDS", 0.05)
    stages = ScaledDown()
    client, management = cast("ControlClient", stages), cast("Management", stages)
    draining = Drain(client, management, Replicas(client, management))

    assert draining.run([], 2, lambda _: None) == ["printer"]
