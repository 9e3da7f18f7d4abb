"""Drain: stop the pipeline in flow order, each stage once its whole queue is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from time import monotonic

from rabbit.control.client import ControlClient
from rabbit.control.messages import Report, State
from rabbit.errors import ConfigurationError, RabbitError
from rabbit.operations.halt import Halt
from rabbit.operations.management import Management
from rabbit.operations.replicas import Replicas, are_meant

#: A queue counts as empty when it is seen so twice in a row, with so much time between.
BETWEEN_LOOKS_SECONDS = 1.0

#: The states of a replica that waits for somebody to resume it.
PAUSED = {State.PAUSING, State.PAUSED}


@dataclass
class Flow:
    """One stage in the flow, from what its replicas report."""

    name: str
    consumes: str | None
    exchange: str | None
    queues: tuple[str, ...] = ()
    produces: set[str] = field(default_factory=set)

    def feeds(self, other: "Flow") -> bool:
        """Tell whether what this stage produces is what `other` consumes."""
        return other.exchange in self.produces

    def retries_in(self, queue: str) -> bool:
        """Tell whether messages that this stage has failed to handle wait in `queue`."""
        return self.consumes is not None and queue.startswith(f"{self.consumes}.retry.")


class Drain:
    """One drain of the whole pipeline. If it dies half-way, the rest goes on: run it again."""

    def __init__(
        self,
        client: ControlClient,
        management: Management,
        replicas: Replicas,
        on_commanded: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Learn the topology when run; `on_commanded` is that of the halt of each stage."""
        self._client = client
        self._management = management
        self._replicas = replicas
        self._on_commanded = on_commanded

    def run(self, targets: Sequence[str], timeout: float, tell: Callable[[str], None]) -> list[str]:
        """Stop stage after stage; return their names in the order in which they were stopped.

        Args:
            targets: the stages to stop; none: all.
            timeout: seconds without progress after which to give up.
            tell: given a line of progress, now and then.

        Raises:
            ConfigurationError: a target is a replica.
            RabbitError: nobody is there, or nobody of a target's name, or a stage gets no
                further, or is not proved halted, within `timeout`.
        """
        replica = next((each for each in targets if "/" in each), None)
        if replica:
            msg = f"{replica}: one replica shares its queue with the others, so halt it, or drain "
            raise ConfigurationError(f"{msg}the stage {replica.partition('/')[0]}")
        self._replicas.call()
        there = self._replicas.weighed()
        self._replicas.require(targets, "drain")
        there = [each for each in there if are_meant(each.name, targets)]
        silent = [
            f"{each.name} ({self._replicas.explain(each)})" for each in there if not each.report
        ]
        if silent:
            msg = f"no answer from {', '.join(silent)}: not drained, nothing was stopped"
            raise RabbitError(msg)
        paused = [each.name for each in there if each.report and each.report.state in PAUSED]
        if paused:
            who = ", ".join(dict.fromkeys(name.partition("/")[0] for name in paused))
            msg = (
                f"paused: {', '.join(paused)}: their queues do not become empty; resume {who} "
                "first, or halt instead. Nothing was stopped"
            )
            raise RabbitError(msg)
        order = flow_order([each.report for each in self._replicas if each.report])
        order = [each for each in order if are_meant(each.name, targets)]
        for stage in order:
            self._drain(stage, timeout, tell)
        return [stage.name for stage in order]

    def _drain(self, stage: Flow, timeout: float, tell: Callable[[str], None]) -> None:
        least, progress, looks = None, monotonic(), 0
        while looks < 2:  # noqa: PLR2004 - twice in a row
            left = self._left(stage)
            looks = looks + 1 if left == 0 else 0
            tell(f"draining {stage.name}: {left} messages left")
            if least is None or left < least:
                least, progress = left, monotonic()
            elif left and monotonic() - progress > timeout:
                is_paused = any(each in PAUSED for each in self._states(stage))
                why = "is paused" if is_paused else "gets no further"
                msg = f"{stage.name} has {left} messages left and {why}: it goes on running"
                raise RabbitError(msg)
            self._replicas.listen(lambda: False, BETWEEN_LOOKS_SECONDS)
        halt = Halt(self._client, self._replicas, (stage.name,), self._on_commanded)
        try:
            if halt.run(timeout, tell):
                return
        except RabbitError:
            if halt.is_nobody:
                return  # a source that has ended meanwhile, by itself and in order
            raise
        msg = f"{stage.name} is drained, but not proved halted: {'; '.join(halt.missing)}"
        raise RabbitError(msg)

    def _states(self, stage: Flow) -> set[State]:
        reports = [each.report for each in self._replicas if each.is_there and each.report]
        return {each.state for each in reports if each.stage == stage.name}

    def _left(self, stage: Flow) -> int:
        """Count what the stage has still to do: ready, in flight, waiting for another attempt."""
        if stage.consumes is None:
            return 0
        self._replicas.call(stage.name)
        reports = [each.report for each in self._replicas if each.is_there and each.report]
        in_flight = sum(each.in_flight for each in reports if each.stage == stage.name)
        queues = self._management.messages()
        lagging = sum(sum(queues.get(queue, (0, 0))) for queue in stage.queues)
        counts = [self._client.count(queue) for queue in stage.queues]
        left = max(sum(count.ready for count in counts if count) + in_flight, lagging)
        return left + sum(
            self._waiting(queue, sum(queues[queue])) for queue in queues if stage.retries_in(queue)
        )

    def _waiting(self, queue: str, lagging: int) -> int:
        """Count what waits for another attempt: by an exact count, and by the statistics."""
        count = self._client.count(queue)
        return max(count.ready if count else 0, lagging)


def flow_order(reports: list[Report]) -> list[Flow]:
    """Put the stages in the order in which messages flow.

    Raises:
        RabbitError: when they form a circle.
    """
    flows: dict[str, Flow] = {}
    for report in reports:
        flow = flows.setdefault(
            report.stage, Flow(report.stage, report.consumes, report.exchange, report.queues)
        )
        if report.produces:
            flow.produces.add(report.produces)
    before = {
        name: {other.name for other in flows.values() if other.feeds(flow)}
        for name, flow in flows.items()
    }
    try:
        return [flows[name] for name in TopologicalSorter(before).static_order()]
    except CycleError as error:
        msg = f"the stages form a circle, which has no order: {' → '.join(error.args[1])}"
        raise RabbitError(msg) from None
