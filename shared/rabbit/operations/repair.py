"""Making the broker as the stages declare it, without losing a message."""

from collections.abc import Callable, Iterable
from time import monotonic, sleep

from rabbit.amqp.loop_thread import LoopThread
from rabbit.control.client import ControlClient
from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.operations.broker_state import BrokerState
from rabbit.operations.compose import Containers, DeclaredStage
from rabbit.operations.halt import Halt
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.queue_move import QueueMove, Tools
from rabbit.operations.repair_plan import Move, Orphan, Plan, repair_plan
from rabbit.operations.replicas import Replicas
from rabbit.operations.topology_changes import TopologyChanges
from rabbit.operations.topology_diff import BESIDE, TopologyDiff, compared
from rabbit.terminal import counted
from rabbit.topology import Binding, Declaration

#: How long messages may be with somebody: what the broker tells of that lags by five seconds.
HELD_SECONDS = 20.0
POLL_SECONDS = 0.5


class Repair:
    """One repair, as far as it has come.

    Attributes:
        done: what was done, a line each.
        halted: the stages that were halted for it, or were not up.
    """

    def __init__(
        self,
        stages: Iterable[DeclaredStage],
        settings: ControlSettings,
        client: ControlClient,
        management: Management,
        containers: Containers,
        log: Logger,
    ) -> None:
        """Repair nothing yet.

        Args:
            stages: what they declare is to be.
            settings: which brokers there are.
            client: halts stages, and counts.
            management: looks and changes.
            containers: what Compose knows.
            log: told when the broker goes away.
        """
        self.done: list[str] = []
        self.halted: list[str] = []
        self._stages = list(stages)
        self._settings = settings
        self._client = client
        self._management = management
        self._containers = containers
        self._log = log
        self._changes = TopologyChanges(management)

    def plan(self, *, patiently: bool = False) -> Plan:
        """Say what there is to do, and what is left.

        Args:
            patiently: wait where nobody seems to consume, which concerns only what is left.
        """
        if patiently:
            return repair_plan(compared(self._stages, self._management))
        return repair_plan(TopologyDiff(self._stages, BrokerState.of(self._management)))

    def run(self, plan: Plan, tell: Callable[[str], None]) -> None:
        """Do it.

        Args:
            plan: what to do.
            tell: given a line of progress, now and then.

        Raises:
            RabbitError: why it cannot go on; nothing is lost, and it can be run again.
        """
        self._create(plan.create)
        stay: set[str] = set()  # what the plan was told of what is in them lags behind
        for orphan in plan.delete:
            if orphan.of in stay or not self._delete(orphan):
                stay.add(orphan.queue)
        if plan.move:
            self._halt(plan.stages, tell)
            self._move(plan.move, tell)
            self._create(self.plan().create)  # bindings of a queue that was missing

    def _halt(self, stages: list[str], tell: Callable[[str], None]) -> None:
        """Halt those that are up, with proof; nobody may come in between."""
        replicas = Replicas(self._client, self._management, self._containers)
        replicas.call()
        there = {each.name.partition("/")[0] for each in replicas.weighed()}
        targets = [stage for stage in stages if stage in there]
        self.halted = list(stages)
        if targets:
            halt = Halt(self._client, replicas, targets)
            if not halt.run(self._settings.halt_timeout, tell):
                why = "; ".join(halt.missing)
                msg = (
                    f"nothing is moved, since not all have halted: {why}; make up starts the others"
                )
                raise RabbitError(msg)
            names = ", ".join(each.name for each in halt.halted)
            self.done.append(f"halted {len(halt.halted)}/{len(halt.concerned)} {names}")
        tell(f"halted: {', '.join(stages)}")

    def _create(self, items: Iterable[Declaration]) -> None:
        for item in items:
            self._changes.declare(item)
            self.done.append(f"created {_named(item)}")

    def _delete(self, orphan: Orphan) -> bool:
        """Delete a queue and its exchanges, if it is empty once nothing comes to it any more."""
        queue = orphan.queue
        if not self._is_idle(queue):
            return False
        bindings = self._changes.bindings(queue)
        for each in bindings:
            self._changes.unbind(queue, each)
        if not self._is_idle(queue):
            for each in bindings:
                self._changes.bind(queue, each)
            return False
        self._changes.delete_queue(queue)
        bound = {each["source"] for each in self._management.bindings()}
        for exchange in orphan.exchanges:
            if exchange not in bound:
                self._changes.delete_exchange(exchange)
        self.done.append(f"deleted queue {queue}")
        return True

    def _is_idle(self, queue: str) -> bool:
        count = self._client.count(queue, for_certain=True)
        held = self._management.messages().get(queue, (0, 0))[1]
        return count is None or not (count.ready or count.consumers or held)

    def _move(self, moves: list[Move], tell: Callable[[str], None]) -> None:
        self._await_unheld([each.queue.name for each in moves])
        loop_thread = LoopThread(self._settings, self._log, _nothing)
        tools = Tools(
            self._client, self._management, loop_thread, self._log, self._settings.halt_timeout
        )
        try:
            for each in moves:
                move = QueueMove(tools, each.queue, tell)
                move.run()
                number = counted(move.count, "message")
                self.done.append(f"moved queue {each.queue.name}: {number}")
        finally:
            loop_thread.close()

    def _await_unheld(self, queues: list[str]) -> None:
        """Wait until nobody has a message of theirs that is not acked."""
        deadline = monotonic() + HELD_SECONDS
        while True:
            messages = self._management.messages()
            held = {name: messages[name][1] for name in queues if name in messages}
            if not any(held.values()):
                return
            if monotonic() > deadline:
                who = ", ".join(f"{number} of {name}" for name, number in held.items() if number)
                raise RabbitError(f"nothing is moved: somebody has messages unacked, {who}")
            sleep(POLL_SECONDS)


def _named(item: Declaration) -> str:
    if isinstance(item, Binding):
        return f"binding {item.exchange} → {item.queue}"
    return f"{type(item).__name__.lower()} {item.name}"


def described(plan: Plan) -> list[str]:
    """Say what a plan comes to, a line each."""
    return [
        *(f"create {_named(item)}" for item in plan.create),
        *(f"delete queue {each.queue}, which is empty" for each in plan.delete),
        *(
            f"halt {', '.join(each.stages)}, and move queue {each.queue.name} with about "
            f"{counted(each.messages, 'message')} through {each.queue.name}{BESIDE}: {each.why}"
            for each in plan.move
        ),
    ]


def _nothing() -> None:
    """Do nothing at the end of a turn: a browser has its own."""
