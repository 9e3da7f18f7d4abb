"""Halting, draining and pausing from the board, each on a connection of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from rabbit.control.client import ControlClient
from rabbit.logs import Logger
from rabbit.operations.drain import Drain
from rabbit.operations.halt import Halt
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.pause import Pause
from rabbit.operations.replicas import Replicas

from .jobs import Tell, Work

#: What came of it, and whether that is all.
Result = tuple[str, bool]


class Actions:
    """What may be done to the pipeline, as work for a thread."""

    def __init__(self, settings: ControlSettings, log: Logger) -> None:
        """Connect when there is something to do."""
        self._settings = settings
        self._log = log

    def work(self, verb: str, target: str | None) -> Work:
        """Return what does it.

        Args:
            verb: `halt`, `drain`, `pause` or `resume`.
            target: a stage, or `stage/replica`; None: all.

        Raises:
            ValueError: there is no such verb.
        """
        targets = (target,) if target else ()
        verbs: dict[str, Callable[[tuple[str, ...], Tell], Result]] = {
            "halt": self._halt,
            "drain": self._drain,
            "pause": partial(self._steer, "pause"),
            "resume": partial(self._steer, "resume"),
        }
        if verb not in verbs:
            raise ValueError(verb)
        return lambda tell: verbs[verb](targets, tell)

    def _halt(self, targets: tuple[str, ...], tell: Tell) -> Result:
        with self._session() as (client, _, replicas):
            attempt = Halt(client, replicas, targets)
            proved = attempt.run(self._settings.halt_timeout, tell)
            halted = [each.name for each in attempt.halted]
            said = f"halted {len(halted)}/{len(attempt.concerned)}: {', '.join(halted)}"
            if proved:
                return said, True
            return f"{said}; not proved halted: {'; '.join(attempt.missing)}", False

    def _drain(self, targets: tuple[str, ...], tell: Tell) -> Result:
        with self._session() as (client, management, replicas):
            work = Drain(client, management, replicas)
            stages = work.run(targets, self._settings.halt_timeout, tell)
            return f"drained {' → '.join(stages)}", True

    def _steer(
        self, command: Literal["pause", "resume"], targets: tuple[str, ...], tell: Tell
    ) -> Result:
        with self._session() as (client, management, replicas):
            attempt = Pause(client, management, replicas, command, targets)
            proved = attempt.run(self._settings.halt_timeout, tell)
            names = ", ".join(each.name for each in attempt.done) or "no replica is there"
            said = f"{command}d {len(attempt.done)}/{len(attempt.concerned)}: {names}"
            if proved:
                return said, True
            return f"{said}; not proved {command}d: {'; '.join(attempt.missing)}", False

    @contextmanager
    def _session(self) -> Iterator[tuple[ControlClient, Management, Replicas]]:
        with ControlClient(self._settings, self._log, self._settings.halt_timeout) as client:
            management = Management(self._settings)
            yield client, management, Replicas(client, management)
