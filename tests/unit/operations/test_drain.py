"""The order in which a pipeline is drained."""

from datetime import UTC, datetime

import pytest

from rabbit import RabbitError
from rabbit.control.messages import Report, State
from rabbit.operations.drain import flow_order


def report(
    stage: str,
    consumes: str | None,
    produces: str | None,
    replica: str = "r",
    *,
    exchange: str | None = None,
) -> Report:
    """Return what a replica says of itself; the exchange of a work queue has its name."""
    return Report(
        command_id="c",
        stage=stage,
        replica=replica,
        consumes=consumes,
        exchange=exchange or consumes,
        produces=produces,
        state=State.RUNNING,
        in_flight=0,
        handled=0,
        failed=0,
        since=datetime.now(UTC),
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
