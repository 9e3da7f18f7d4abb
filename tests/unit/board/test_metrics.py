"""Numbers for Prometheus, read as Prometheus reads them."""

from datetime import UTC, datetime
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from rabbit.control.messages import HANDLER_BOUNDS, Report, State
from rabbit.operations.looks import Look, Seen
from services.board.metrics import Scraped, exposition

SINCE = datetime(2026, 11, 26, tzinfo=UTC)
BUCKETS = (5, *[0] * (len(HANDLER_BOUNDS) - 1), 2)


def _seen(**told: Any) -> Seen:
    given = {
        "command_id": "c", "stage": "printer", "replica": "r", "consumes": "upper",
        "exchange": "upper", "produces": None, "state": State.RUNNING, "in_flight": 3,
        "handled": 7, "failed": 1, "since": SINCE, "handler_buckets": BUCKETS,
        "handler_seconds": 12.5, "library": "0.1.0", "python": "3.14",
    }  # fmt: skip
    return Seen("printer/r", Report(**{**given, **told}))


def _samples(scraped: Scraped) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    text = exposition(scraped).decode()
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_what_a_replica_says() -> None:
    """Counters, gauges, and how long its calls took, with its stage and its name."""
    samples = _samples(Scraped(Look(0, (_seen(),)), seconds=0.25))

    labels = {"stage": "printer", "replica": "r"}
    assert samples["pipeline_handled_total"] == [(labels, 7.0)]
    assert samples["pipeline_in_flight"] == [(labels, 3.0)]
    assert samples["pipeline_handler_seconds_count"] == [(labels, 7.0)]
    assert samples["pipeline_handler_seconds_sum"] == [(labels, 12.5)]
    assert samples["pipeline_handler_seconds_bucket"][0] == ({**labels, "le": "0.001"}, 5.0)
    assert samples["pipeline_handler_seconds_bucket"][-1] == ({**labels, "le": "+Inf"}, 7.0)
    assert samples["pipeline_look_seconds"] == [({}, 0.25)]
    assert ({**labels, "pipeline_replica_state": "running"}, 1.0) in samples[
        "pipeline_replica_state"
    ]


def test_one_that_does_not_answer_is_silent() -> None:
    """It has a state, and no numbers that would be old."""
    samples = _samples(Scraped(Look(0, (Seen("printer/r", None, "cut off"),))))

    states = {
        labels["pipeline_replica_state"]: on for labels, on in samples["pipeline_replica_state"]
    }
    assert {name for name, on in states.items() if on} == {"silent"}
    assert "pipeline_handled_total" not in samples
    assert samples["pipeline_replicas"] == [({"stage": "printer"}, 1.0)]


def test_an_alarm_is_no_silence() -> None:
    """Who cannot answer for it is blocked; who answers that is, without one, is refused."""
    looks = {
        "blocked": Seen("printer/r", None, alarm="low on memory"),
        "refused": _seen(state=State.BLOCKED),
    }

    for state, seen in looks.items():
        samples = _samples(Scraped(Look(0, (seen,))))
        on = [labels for labels, on in samples["pipeline_replica_state"] if on]
        assert [each["pipeline_replica_state"] for each in on] == [state]


def test_who_reads_a_queue_is_not_known_of_those_who_never_spoke() -> None:
    """A board that was started during an alarm does not say that nobody does."""
    queue: dict[str, Any] = {
        "kind": "queue",
        "name": "upper",
        "reader": None,
        "oldest_seconds": None,
    }
    queue |= dict.fromkeys(("ready", "in_flight", "retrying", "dead"), 1)
    stage = {"kind": "stage", "name": "printer", "count": 1, "states": {"blocked": 1}, "role": ""}

    unknown = _samples(Scraped(Look(0, ()), [queue, stage]))
    known = _samples(Scraped(Look(0, ()), [queue, {**stage, "role": "sink"}]))

    assert "pipeline_queue_readers" not in unknown
    assert [value for _, value in known["pipeline_queue_readers"]] == [0.0]


def test_a_broker_that_is_away() -> None:
    """It is told, and nothing else but when certificates end: what was is not what is."""
    samples = _samples(Scraped(None, ends={"rabbitmq:5671": 1e9}))

    assert samples == {
        "pipeline_broker_up": [({}, 0.0)],
        "pipeline_certificate_end_timestamp_seconds": [({"broker": "rabbitmq:5671"}, 1e9)],
    }


def test_queues_name_the_stage_that_reads_them() -> None:
    """Also when it has no replica; those that are silent read nothing."""
    queue: dict[str, Any] = {"kind": "queue", "ready": 1, "in_flight": 2, "retrying": 3, "dead": 4}
    queue["oldest_seconds"] = None
    rows = [
        {**queue, "name": "upper", "reader": "printer", "oldest_seconds": 7.5},
        {"kind": "stage", "name": "printer", "count": 3, "states": {"running": 1, "silent": 2}},
        {**queue, "name": "left", "reader": None},
    ]

    samples = _samples(Scraped(Look(0, ()), rows))

    read, left = {"queue": "upper", "stage": "printer"}, {"queue": "left", "stage": ""}
    assert samples["pipeline_queue_readers"] == [(read, 1.0), (left, 0.0)]
    assert samples["pipeline_queue_dead"] == [(read, 4.0), (left, 4.0)]
    assert samples["pipeline_queue_oldest_seconds"] == [(read, 7.5), (left, 0.0)]
