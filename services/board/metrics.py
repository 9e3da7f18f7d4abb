"""Numbers for Prometheus, of the latest look: one scrape tells of all replicas and queues."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from rabbit.control.messages import HANDLER_BOUNDS, Report, State
from rabbit.operations.looks import REFUSED, SILENT, Look

#: What a scrape is answered with.
CONTENT_TYPE = CONTENT_TYPE_LATEST

#: More replicas than these are not told one by one; the memory of who scrapes is not ours.
MOST_REPLICAS = 1000

_REPLICA = ("stage", "replica")
_QUEUE = ("queue", "stage")

#: Totals of a report, since its process started.
_COUNTERS = {
    "handled": "messages handled and acked",
    "failed": "attempts at a message that failed",
    "retried": "failed messages that come again after a delay",
    "dead_lettered": "messages given up",
    "requeued": "messages given back to their queue",
    "reconnects": "connections that have come back",
    "blocked_seconds": "time in which the broker took no messages",
}
_GAUGES = {
    "in_flight": "messages delivered and not acked; of a source, not confirmed",
    "oldest_seconds": "how long the oldest call of work that runs now has been running",
    "confirm_wait_seconds": "how long a confirm that is being timed has been waited for",
}
_QUEUE_GAUGES = {
    "ready": "messages that wait for a consumer",
    "in_flight": "messages that are with one",
    "retrying": "messages that wait for another attempt",
    "dead": "messages that were given up and are kept",
    "readers": "replicas that read it and answer",
    "oldest_seconds": "how long the oldest one that waits has waited, as far as was seen",
}


@dataclass(frozen=True)
class Scraped:
    """What there is to tell.

    Attributes:
        look: the latest look; None: there was none, or the broker is away.
        rows: the picture of it, which knows the stages that have no replica now.
        seconds: how long it took to look.
        ends: when the certificate of each broker ends, in seconds since 1970.
    """

    look: Look | None
    rows: Iterable[Mapping[str, Any]] = ()
    seconds: float = 0.0
    ends: Mapping[str, float] | None = None


def exposition(scraped: Scraped) -> bytes:
    """Return it in the format OpenMetrics 1.0."""
    registry = CollectorRegistry()
    registry.register(_Once(scraped))
    return bytes(generate_latest(registry))  # type: ignore[no-untyped-call]


class _Once(Collector):
    """Tells one look."""

    def __init__(self, scraped: Scraped) -> None:
        self._scraped = scraped

    def describe(self) -> Iterable[Metric]:
        """Say nothing of what is to come."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        scraped = self._scraped
        up = GaugeMetricFamily("pipeline_broker_up", "whether the broker answers the board")
        up.add_metric([], 1.0 if scraped.look else 0.0)
        yield up
        end = GaugeMetricFamily(
            "pipeline_certificate_end_timestamp_seconds",
            "when the certificate that a broker shows ends",
            labels=["broker"],
        )
        for broker, moment in (scraped.ends or {}).items():
            end.add_metric([broker], moment)
        yield end
        if scraped.look is None:
            return
        took = GaugeMetricFamily("pipeline_look_seconds", "how long the last look took")
        took.add_metric([], scraped.seconds)
        yield took
        reports = [each.report for each in scraped.look.replicas[:MOST_REPLICAS] if each.report]
        yield from _states(scraped.look)
        yield from _plain(reports)
        yield _handler_seconds(reports)
        yield _confirm_seconds(reports)
        yield _versions(reports)
        yield from _queues(scraped.rows)


def _states(look: Look) -> Iterator[Metric]:
    names = [*(state.value for state in State), REFUSED, SILENT]
    states = StateSetMetricFamily(
        "pipeline_replica_state", "what a replica does, as far as is known", labels=_REPLICA
    )
    for each in look.replicas[:MOST_REPLICAS]:
        stage, _, replica = each.name.partition("/")
        states.add_metric([stage, replica], {name: name == each.state for name in names})
    yield states
    count = GaugeMetricFamily(
        "pipeline_replicas",
        "replicas at the broker, those that do not answer included",
        labels=["stage"],
    )
    stages = [each.stage for each in look.replicas]
    for stage in sorted(set(stages)):
        count.add_metric([stage], stages.count(stage))
    yield count


def _plain(reports: Iterable[Report]) -> Iterator[Metric]:
    reports = list(reports)
    for name, told in _COUNTERS.items():
        counter = CounterMetricFamily(f"pipeline_{name}", told, labels=_REPLICA)
        for each in reports:
            since = each.since.timestamp()
            counter.add_metric([each.stage, each.replica], getattr(each, name), created=since)
        yield counter
    for name, told in _GAUGES.items():
        gauge = GaugeMetricFamily(f"pipeline_{name}", told, labels=_REPLICA)
        for each in reports:
            gauge.add_metric([each.stage, each.replica], getattr(each, name))
        yield gauge
    prefetch = GaugeMetricFamily(
        "pipeline_prefetch", "how many messages it holds at most now", labels=_REPLICA
    )
    for each in reports:
        if each.prefetch is not None:
            prefetch.add_metric([each.stage, each.replica], each.prefetch)
    yield prefetch


def _handler_seconds(reports: Iterable[Report]) -> Metric:
    family = HistogramMetricFamily(
        "pipeline_handler_seconds", "how long calls of work have taken", labels=_REPLICA
    )
    bounds = [*(str(float(bound)) for bound in HANDLER_BOUNDS), "+Inf"]
    for each in reports:
        if len(each.handler_buckets) != len(bounds):
            continue
        total, buckets = 0, []
        for bound, number in zip(bounds, each.handler_buckets, strict=True):
            total += number
            buckets.append((bound, float(total)))
        family.add_metric([each.stage, each.replica], buckets, each.handler_seconds)
    return family


def _confirm_seconds(reports: Iterable[Report]) -> Metric:
    family = SummaryMetricFamily(
        "pipeline_confirm_seconds", "how long the broker took to confirm outputs", labels=_REPLICA
    )
    for each in reports:
        family.add_metric([each.stage, each.replica], each.confirms_timed, each.confirm_seconds)
    return family


def _versions(reports: Iterable[Report]) -> Metric:
    family = InfoMetricFamily("pipeline_replica", "what a replica runs", labels=_REPLICA)
    for each in reports:
        told = {"library": each.library or "", "python": each.python or ""}
        family.add_metric([each.stage, each.replica], told)
    return family


def _queues(rows: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    rows = list(rows)
    stages = {row["name"]: row for row in rows if row["kind"] == "stage"}
    queues = [row for row in rows if row["kind"] == "queue"]
    # Of those who have not spoken since the board was started, it is not known what they read.
    is_unknown = any(
        row["states"].get(State.BLOCKED.value) and not row["role"] for row in stages.values()
    )
    for name, told in _QUEUE_GAUGES.items():
        gauge = GaugeMetricFamily(f"pipeline_queue_{name}", told, labels=_QUEUE)
        for row in queues:
            reader = stages.get(row["reader"] or "")
            if name == "readers" and not reader and is_unknown:
                continue
            count = reader["count"] - reader["states"].get(SILENT, 0) if reader else 0
            value = count if name == "readers" else row[name] or 0
            gauge.add_metric([row["name"], row["reader"] or ""], value)
        yield gauge
