"""The pipeline as it is now: stages and queues in flow order, and what is wrong, in words."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rabbit.control.messages import Report
from rabbit.errors import RabbitError
from rabbit.operations.ages import Ages
from rabbit.operations.drain import flow_order
from rabbit.operations.looks import Look, Seen
from rabbit.operations.pipeline import TOTALS, Edge, Pipeline, Stage, pipeline
from rabbit.terminal import counted

from .history import History
from .problems import SHORT_SECONDS, problem, problems_of

#: A rate is that of the last so many seconds, and of no fewer than these: figures lag. What was
#: seen longer ago than the third figure, before an outage say, tells nothing of now.
WINDOW_SECONDS = 30.0
SHORTEST_WINDOW_SECONDS = 4.0
LONGEST_WINDOW_SECONDS = 60.0

#: Whether a queue that has grown within that time still grows, so many seconds tell. The line of a
#: stage is of these too: what is averaged for longer shows work that was done before as going on.
RECENT_SECONDS = 6.0

#: Of what has just come, nothing can have gone: only then is it said that nothing moves.
STILL_SECONDS = 10.0

#: A replica that has not answered for so long is silent: a single look may miss it.
SILENT_SECONDS = 8.0

#: So many replicas are drawn of a stage; the others are counted.
MOST_DRAWN = 250

#: What is handled within so many seconds is on its way, and no backlog.
ON_THE_WAY_SECONDS = 2.0

#: A depth that changes by less than this part of the rate keeps level.
LEVEL_SHARE = 0.02

#: A stage without a replica is drawn on for so long.
KEPT_SECONDS = 3600.0

#: Of queues that no stage reads, so many are drawn: those that hold most.
MOST_UNREAD = 100

_DEAD = ".dead"


@dataclass(frozen=True)
class Known:
    """What is known of a stage, also while it has no replica.

    Attributes:
        at: when a replica of it was heard last, by the clock of looks.
        report: what that one said.
    """

    at: float
    report: Report


class Drawn:
    """Draws one look after the other; what is known of time, it remembers."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._history = History()
        self._ages = Ages()
        self._looks: deque[Look] = deque()
        self._heard: dict[str, tuple[float, Seen]] = {}  # each replica's last answer
        self._known: dict[str, Known] = {}  # by stage
        self._not_drawn = 0  # so many queues that no stage reads

    def draw(self, look: Look, at: float) -> dict[str, Any]:
        """Return the picture, as JSON has it.

        Args:
            look: what was seen.
            at: when, in seconds since 1970.
        """
        look = self._steady(look)
        self._looks.append(look)
        while len(self._looks) > 2 and look.moment - self._looks[1].moment > WINDOW_SECONDS:  # noqa: PLR2004 - of two, a rate
            self._looks.popleft()
        while look.moment - self._looks[0].moment > LONGEST_WINDOW_SECONDS:
            self._looks.popleft()
        before = self._looks[0] if len(self._looks) > 1 else None
        if before and look.moment - before.moment < SHORTEST_WINDOW_SECONDS:
            before = None
        self._remember(look)
        ages = self._ages.take(look)
        seen = pipeline(look, before, ages)
        recent = pipeline(look, self._recently(look.moment), ages)
        lately = {each.name: each.rates.get("handled", 0.0) for each in recent.stages}
        turned = replace(seen, edges=_turned(seen.edges, recent.edges))
        rows = list(self._rows(turned, lately, look.moment))
        self._history.forget(look.moment - KEPT_SECONDS)
        problems = list(problems_of(rows))
        if self._not_drawn:
            what = f"{counted(self._not_drawn, 'more queue')} that no stage reads"
            problems.append(problem("note", "", what, "not drawn: the console has them"))
        if look.strange:
            problems.append(problem("note", "", look.strange))
        return {"at": at, "rows": rows, "problems": problems, "verdict": verdict(rows)}

    def _recently(self, moment: float) -> Look | None:
        old = [each for each in self._looks if moment - each.moment >= RECENT_SECONDS]
        return old[-1] if old else None

    def _steady(self, look: Look) -> Look:
        """Return the look with the last answers of those who have missed only this one."""
        heard = {each.name: (look.moment, each) for each in look.replicas if each.report}
        names = {each.name for each in look.replicas}
        kept = {name: last for name, last in self._heard.items() if name in names}
        self._heard = {**kept, **heard}

        def steady(each: Seen) -> Seen:
            moment, last = self._heard.get(each.name, (0.0, each))
            if each.alarm:
                return each
            return last if look.moment - moment < SILENT_SECONDS else each

        return replace(look, replicas=tuple(map(steady, look.replicas)))

    def _remember(self, look: Look) -> None:
        at = look.moment
        for each in look.replicas:
            if each.report:
                self._known[each.stage] = Known(at, each.report)
        for name in [name for name, last in self._known.items() if at - last.at > KEPT_SECONDS]:
            del self._known[name]

    def _rows(
        self, seen: Pipeline, lately: Mapping[str, float], at: float
    ) -> Iterator[dict[str, Any]]:
        stages = {each.name: each for each in seen.stages}
        edges = _with_shared_letters(seen.edges)
        order = _order([last.report for last in self._known.values()])
        for name in dict.fromkeys([*order, *stages]):
            stage = stages.get(name) or self._gone(name)
            ready = 0
            for edge in [each for each in edges if self._is_read(each, stage)]:
                edges.remove(edge)
                ready += edge.depth.ready
                yield self._queue(edge, stage.name, at)
            is_paused = stage.name in seen.paused
            yield self._stage(stage, lately.get(name, 0.0), at, ready, is_paused=is_paused)
        unread = [each for each in edges if not each.name.startswith("amq.")]  # of one connection
        drawn = _fullest(unread)
        self._not_drawn = len(unread) - len(drawn)
        for edge in drawn:
            yield self._queue(edge, None, at)

    def _gone(self, name: str) -> Stage:
        """Return a stage that has no replica now."""
        report = self._known[name].report
        consumes = (report.consumes,) if report.consumes else ()
        return Stage(name, (), {}, consumes, report.produces, {})

    def _is_read(self, edge: Edge, stage: Stage) -> bool:
        return stage.name in edge.readers or (not edge.readers and edge.name in stage.consumes)

    def _queue(self, edge: Edge, reader: str | None, at: float) -> dict[str, Any]:
        line = self._history.line("waiting", edge.name)
        line.add(at, edge.waiting)
        growth = _growth(edge)
        until = eta(edge.waiting, edge.rate_out, growth)
        if until == "stuck" and (line.since_positive() or 0.0) < STILL_SECONDS:
            until = None
        last = {name for name, known in self._known.items() if known.report.produces == edge.name}
        return {
            "kind": "queue",
            "name": edge.name,
            "reader": reader,
            "writers": sorted({*edge.writers, *last}),
            "ready": edge.depth.ready,
            "in_flight": edge.depth.in_flight,
            "retrying": edge.depth.retrying,
            "dead": edge.depth.dead_letters,
            "waiting": edge.waiting,
            "in": edge.rate_in,
            "out": edge.rate_out,
            "growth": growth,
            "oldest_seconds": edge.oldest and edge.oldest.seconds,
            "oldest_is_exact": bool(edge.oldest and edge.oldest.is_exact),
            "eta": until,
            "line": line.values(),
        }

    def _stage(
        self, stage: Stage, lately: float, at: float, ready: int, *, is_paused: bool
    ) -> dict[str, Any]:
        rate = stage.rates.get("handled")
        line = self._history.line("rate", stage.name)
        line.add(at, lately)
        idle = self._history.line("idle", stage.name)
        idle.add(at, 1.0 if ready and stage.rates and not any(stage.rates.values()) else 0.0)
        totals = {name: stage.totals.get(name, 0) for name in TOTALS}
        return {
            "kind": "stage",
            "name": stage.name,
            "role": _role(stage),
            "states": dict(stage.states),
            "paused": is_paused,
            "replicas": [_replica(each) for each in stage.replicas[:MOST_DRAWN]],
            "count": len(stage.replicas),
            "rate": rate,
            "line": line.values(),
            "idle_seconds": idle.since_positive(),
            "in_flight": stage.in_flight,
            "handler_seconds": stage.handler_seconds,
            "oldest_seconds": stage.oldest_seconds,
            **totals,
        }


def _with_shared_letters(edges: Iterable[Edge]) -> list[Edge]:
    """Put letters that have a queue of their own to the edge that they are of.

    Those of a broadcast edge are in EDGE.STAGE.dead, and its queues are EDGE.STAGE.REPLICA.
    """
    found = list(edges)
    for lost in [each for each in found if each.name.endswith(_DEAD)]:
        name = lost.name.removesuffix(_DEAD)
        whose = next((each for each in found if each.name in {name, f"{name}.*"}), None)
        if whose:
            found.remove(lost)
            whose.depth.dead_letters += lost.depth.ready
    return found


def _fullest(edges: list[Edge]) -> list[Edge]:
    """Return those that hold most, in the order they have."""
    full = sorted(edges, key=lambda each: each.waiting + each.depth.dead_letters, reverse=True)
    names = {each.name for each in full[:MOST_UNREAD]}
    return [each for each in edges if each.name in names]


def _turned(edges: Iterable[Edge], recent: Iterable[Edge]) -> tuple[Edge, ...]:
    """Have the rates of late where a queue has grown, and is worked off by now: a burst is over."""
    late = {each.name: each for each in recent if (_growth(each) or 0.0) < 0}
    return tuple(
        late.get(each.name, each) if (_growth(each) or 0.0) > 0 else each for each in edges
    )


def _growth(edge: Edge) -> float | None:
    if edge.rate_in is None or edge.rate_out is None:
        return None
    return edge.rate_in - edge.rate_out


def _order(reports: list[Report]) -> list[str]:
    """Return the stages in flow order; where there is none, in that of their names."""
    try:
        return [each.name for each in flow_order(reports)]
    except RabbitError:  # a circle
        return sorted(each.stage for each in reports)


def eta(waiting: int, out: float | None, growth: float | None) -> float | str | None:
    """Return in how many seconds a queue is empty, or why that cannot be said.

    Returns:
        seconds; `empty`; `level`, `grows` or `stuck`; None: it was not watched for long enough.
    """
    if waiting == 0:
        return "empty"
    if out is None or growth is None:
        return None
    if out == 0 and growth >= 0:
        return "stuck"
    if out and waiting / out < ON_THE_WAY_SECONDS:
        return waiting / out
    if abs(growth) <= LEVEL_SHARE * out:
        return "level"
    return "grows" if growth > 0 else waiting / -growth


def verdict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return where messages wait longest, and when all of them are handled."""
    queues = [each for each in rows if each["kind"] == "queue" and each["waiting"]]
    if not queues:
        return {"bottleneck": None, "waiting": 0, "eta": "empty"}
    waiting = sum(each["waiting"] for each in queues)
    worst = max(queues, key=_seconds_of_work)
    is_long = _seconds_of_work(worst) > SHORT_SECONDS or worst["eta"] == "grows"
    etas = [each["eta"] for each in queues]
    whole: float | str | None = next(
        (why for why in ("stuck", "grows", "level") if why in etas), None
    )
    if whole is None and all(isinstance(each, float) for each in etas):
        whole = max(etas)
    return {
        "bottleneck": (worst["reader"] or "") if is_long else None,
        "queue": worst["name"],
        "waiting": waiting,
        "eta": whole,
    }


def _seconds_of_work(queue: Mapping[str, Any]) -> float:
    rate: float | None = queue["out"]
    if rate is None or queue["eta"] is None:  # not known yet
        return 0.0
    return float(queue["waiting"]) / rate if rate else float("inf")


def _replica(seen: Seen) -> dict[str, Any]:
    report = seen.report
    if report is None:
        return {"name": seen.name, "state": seen.state, "why": seen.silence, "trouble": None}
    return {
        "name": seen.name,
        "state": seen.state,
        "why": "",
        "handled": report.handled,
        "failed": report.failed,
        "in_flight": report.in_flight,
        "trouble": report.trouble,
    }


def _role(stage: Stage) -> str:
    if not stage.consumes:
        return "source" if stage.produces else ""
    return "worker" if stage.produces else "sink"
