"""The pipeline put together from looks at it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rabbit.control.messages import HANDLER_BOUNDS, Report, State
from rabbit.operations.looks import Look, Seen
from rabbit.operations.management import Depth
from rabbit.operations.pipeline import pipeline

SINCE = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def seen(name: str, consumes: str | None = None, produces: str | None = None, **more: Any) -> Seen:
    """Return a replica that runs; a process of its own unless `more` says which."""
    stage, _, replica = name.partition("/")
    given: dict[str, Any] = {
        "state": State.RUNNING,
        "in_flight": 0,
        "handled": 0,
        "failed": 0,
        "since": SINCE,
    }
    given |= {"process": name, "exchange": consumes, **more}
    report = Report(
        command_id="c", stage=stage, replica=replica, consumes=consumes, produces=produces, **given
    )  # fmt: skip
    return Seen(name, report)


def look(moment: float, *replicas: Seen, **depths: int) -> Look:
    """Return a look; of queues, how many messages are ready."""
    return Look(moment, replicas, {name: Depth(ready=ready) for name, ready in depths.items()})


def test_stages_and_edges_stand_in_flow_order() -> None:
    """Replicas are folded; a queue stands with who reads it, and what nobody reads comes last."""
    shown = pipeline(
        look(
            0,
            seen("printer/1", "upper"),
            seen("printer/2", "upper", state=State.PAUSING, in_flight=2, oldest_seconds=3.0),
            Seen("printer/3", None, "cut off"),
            seen("producer/1", None, "my_queue"),
            seen("to_upper/1", "my_queue", "upper"),
            left_over=4,
            upper=1,
            my_queue=2,
        )
    )

    assert [each.name for each in shown.stages] == ["producer", "to_upper", "printer"]
    assert [each.name for each in shown.edges] == ["my_queue", "upper", "left_over"]
    printer, upper = shown.stages[-1], shown.edges[1]
    assert printer.states == {"running": 1, "pausing": 1, "silent": 1}
    assert (printer.in_flight, printer.oldest_seconds, printer.rates) == (2, 3.0, {})
    assert (upper.writers, upper.readers) == (("to_upper",), ("printer",))
    assert (upper.rate_in, upper.rate_out, upper.seconds_until_empty) == (None, None, None)


def test_who_cannot_answer_keeps_its_place() -> None:
    """Who an alarm keeps from answering is blocked; without one, no queue takes its output."""
    worker, sink = seen("to_upper/1", "my_queue", "upper", handled=7), seen("printer/1", "upper")
    refused = replace(worker, report=worker.report and _blocked(worker.report))
    unheard = [
        Seen(each.name, None, earlier=each.report, alarm="low on memory") for each in (worker, sink)
    ]

    shown = pipeline(look(1, *unheard, upper=1, my_queue=2), look(0, worker, sink))

    assert [(each.name, each.states) for each in shown.stages] == [
        ("to_upper", {"blocked": 1}),
        ("printer", {"blocked": 1}),
    ]
    assert [(each.writers, each.readers) for each in shown.edges] == [
        ((), ("to_upper",)),
        (("to_upper",), ("printer",)),
    ]
    assert (shown.stages[0].totals["handled"], shown.stages[0].rates["handled"]) == (7, 0)
    assert (refused.state, replace(refused, alarm="low on disk").state) == ("refused", "blocked")


def _blocked(report: Report) -> Report:
    return report.model_copy(update={"state": State.BLOCKED})


def test_rates_are_between_two_looks() -> None:
    """What was settled goes out; what the queue has grown by beside that has come in."""
    before = look(10, seen("printer/1", "upper", handled=100, failed=2), upper=1000)
    now = look(20, seen("printer/1", "upper", handled=300, failed=7), upper=895)

    shown = pipeline(now, before)

    (printer,), (upper,) = shown.stages, shown.edges
    assert (printer.rates["handled"], printer.rates["failed"]) == (20, 0.5)
    assert (upper.rate_out, upper.rate_in) == (20.5, 10)
    assert upper.seconds_until_empty == pytest.approx(895 / 10.5)


def test_a_queue_that_grows_is_never_empty() -> None:
    """It has no time; one that is empty has none left."""
    before = look(0, seen("a/1", "one"), seen("b/1", "two"), one=0, two=0)
    now = look(1, seen("a/1", "one", handled=5), seen("b/1", "two", handled=5), one=3, two=0)

    one, two = pipeline(now, before).edges

    assert (one.rate_in, one.rate_out, one.seconds_until_empty) == (8, 5, None)
    assert two.seconds_until_empty == 0


def test_totals_are_of_one_process() -> None:
    """A restart counts from nothing; who has gone, or was silent, makes no rate."""
    before = look(
        0,
        seen("a/1", "q", handled=1000),
        seen("a/2", "q", handled=50),
        Seen("a/3", None, "silent"),
        seen("a/4", "q", handled=900),
    )
    now = look(
        1,
        seen("a/1", "q", handled=7, process="another"),
        seen("a/2", "q", handled=53),
        seen("a/3", "q", handled=5000),
        seen("a/5", "q", handled=1),
    )

    (stage,) = pipeline(now, before).stages

    assert stage.rates["handled"] == 7 + 3 + 1


def test_who_was_away_and_comes_back_has_not_done_all_of_it_now() -> None:
    """What a process did before the first look that it is missing in nobody has seen."""
    began = datetime(2026, 11, 26, 12, tzinfo=UTC)
    before = replace(look(0, seen("printer/1", "upper", handled=10), upper=99), at=began)
    old = seen("printer/2", "upper", handled=5_000_000, since=began - timedelta(days=3))
    new = seen("printer/3", "upper", handled=40, since=began + timedelta(seconds=2))

    (stage,) = pipeline(
        look(10, seen("printer/1", "upper", handled=20), old, new, upper=99), before
    ).stages

    assert stage.rates["handled"] == 5


def test_a_handlers_time_is_that_of_late() -> None:
    """The mean of the calls between two looks; before there are two, of all calls."""
    quick = [1000, *[0] * len(HANDLER_BOUNDS)]
    slow = [1000, *[0] * (len(HANDLER_BOUNDS) - 1), 2]
    first = look(0, seen("a/1", "q", handler_seconds=0.5, handler_buckets=quick))
    second = look(1, seen("a/1", "q", handler_seconds=3.5, handler_buckets=slow))

    (early,), (late,) = pipeline(first).stages, pipeline(second, first).stages
    (idle,) = pipeline(second, second).stages

    assert early.handler_seconds == pytest.approx(0.0005)
    assert late.handler_seconds == pytest.approx(1.5)
    assert idle.handler_seconds == pytest.approx(3.5 / 1002)


def test_the_queues_of_a_broadcast_are_one_edge() -> None:
    """Each replica has one: they are added up, for each stage that reads them."""
    shown = pipeline(
        Look(
            0,
            (
                seen("printer/1", "news.printer.1", exchange="news"),
                seen("printer/2", "news.printer.2", exchange="news"),
                seen("source/1", None, "news"),
            ),
            {"news.printer.1": Depth(ready=1), "news.printer.2": Depth(ready=2, retrying=1)},
        )
    )

    (edge,) = shown.edges
    assert (edge.name, edge.writers, edge.readers) == (
        ("news.printer.*"),
        ("source",),
        ("printer",),
    )
    assert (edge.depth.ready, edge.depth.retrying) == (3, 1)


def test_stages_in_a_circle_stand_by_name() -> None:
    """There is no order to show, and that is no error."""
    shown = pipeline(look(0, seen("b/1", "one", "two"), seen("a/1", "two", "one"), one=0, two=0))

    assert [each.name for each in shown.stages] == ["a", "b"]
