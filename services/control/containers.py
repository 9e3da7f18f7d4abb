"""What Compose knows of its containers, as deploy/bin/containers tells it."""

import json
from dataclasses import dataclass

from rabbit import ConfigurationError

#: States of a container whose process does not run, and is not started again by itself.
_ENDED = {"exited", "dead", "removing", "created"}


@dataclass(frozen=True)
class Container:
    """One container.

    Attributes:
        service: its service in docker-compose.yml.
        name: the replica in it, as `stage/replica`.
        state: Docker's word: running, exited and so on.
        exit_code: of its last process.
    """

    service: str
    name: str
    state: str
    exit_code: int

    @property
    def is_dead(self) -> bool:
        """Whether nothing runs in it."""
        return self.state in _ENDED

    def __str__(self) -> str:
        """Say how it is."""
        return f"{self.state} ({self.exit_code})" if self.is_dead else self.state


class Containers:
    """The containers of this machine's Compose project; none where nobody has told."""

    def __init__(self, containers: tuple[Container, ...] = (), *, is_told: bool = False) -> None:
        """Know these.

        Args:
            containers: those of stages.
            is_told: whether these are all there are.
        """
        self._containers = containers
        self._is_told = is_told

    @classmethod
    def read(cls, text: str | None) -> "Containers":
        """Read a JSON object a line, as deploy/bin/containers prints them; None: nobody has told.

        Raises:
            ConfigurationError: it is something else.
        """
        if text is None:
            return cls()
        try:
            told = [json.loads(line) for line in text.splitlines() if line.strip()]
            found = [
                Container(each["service"], each["name"], each["state"], int(each["exit_code"]))
                for each in told
            ]
        except (ValueError, LookupError, TypeError):
            msg = "CONTAINERS: a JSON object a line, as deploy/bin/containers prints them"
            raise ConfigurationError(msg) from None
        return cls(tuple(found), is_told=True)

    def why_dead(self, name: str) -> str | None:
        """Say why a replica is known not to run; None: it may run."""
        mine = [each for each in self._containers if each.name == name]
        if not mine or not all(each.is_dead for each in mine):
            return None
        return f"its container has ended: {mine[-1]}"

    def hint(self, name: str) -> str:
        """Say what to do about a replica that is cut off."""
        mine = [each for each in self._containers if each.name == name]
        if mine:
            return f"its container, of {mine[-1].service}, is {mine[-1]}"
        where = "it is no container of Compose here; " if self._is_told else ""
        return f"{where}if it does not run any more, elsewhere either: make forget ARGS={name}"

    def __str__(self) -> str:
        """Say which there are, and how they are."""
        if not self._is_told:
            return "what Compose knows was not told"
        known = ", ".join(sorted({f"{each.service} {each}" for each in self._containers}))
        return f"Compose: {known}" if known else "Compose: no container of a stage"
