"""What Compose knows: the stages that its file names, and their containers."""

import json
import re
from dataclasses import dataclass
from typing import Any

from rabbit.edges import input_edge, output_edge
from rabbit.errors import ConfigurationError
from rabbit.operations.engine import COMPOSE, Engine
from rabbit.settings import Settings
from rabbit.topology import Edge

#: Stands for the name of a replica, which is not known before there is one.
ANY_REPLICA = "*"


@dataclass(frozen=True)
class DeclaredStage:
    """One stage, as its settings describe it.

    Attributes:
        service: its service in docker-compose.yml.
        name: the stage's name.
        settings: what its environment says.
        replicas: how many of them Compose starts.
    """

    service: str
    name: str
    settings: Settings
    replicas: int = 1

    def input(self, replica: str = ANY_REPLICA) -> Edge | None:
        """Return what a replica of it consumes."""
        if self.settings.input_queue is None:
            return None
        return input_edge(self.settings, self.name, replica)

    @property
    def output(self) -> Edge | None:
        """What it publishes to."""
        return None if self.settings.output_queue is None else output_edge(self.settings)


def stages(text: str) -> list[DeclaredStage]:
    """Return the stages among the services: those that have an input or an output.

    Args:
        text: what `docker compose config --format json` prints.

    Raises:
        ConfigurationError: it is something else, or a setting is wrong: a line for each service.
    """
    found, wrong = [], []
    for service, entry in _services(text).items():
        environment = _environment(entry)
        if not environment.keys() & {"INPUT_QUEUE", "OUTPUT_QUEUE"}:
            continue
        try:
            settings = Settings.read(environment)
        except ConfigurationError as error:
            wrong.append(f"{service}: {error}")
        else:
            name = settings.stage or _image_stage(entry) or service
            found.append(DeclaredStage(service, name, settings, _replicas(entry)))
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    return found


def operators(text: str) -> dict[str, str]:
    """Return the services that are no stages, and that the file gives a broker: control's.

    Args:
        text: as for `stages`.

    Returns:
        by service, the name of what is in it: STAGE, of its environment or image, or the service's.
    """
    found = {}
    for service, entry in _services(text).items():
        environment = _environment(entry)
        names = environment.keys()
        if "RABBITMQ_HOST" in names and not names & {"INPUT_QUEUE", "OUTPUT_QUEUE"}:
            found[service] = environment.get("STAGE") or _image_stage(entry) or service
    return found


def brokers(text: str) -> list[str]:
    """Return the services that are brokers: rabbitmq, rabbitmq2 and so on.

    Args:
        text: as for `stages`.
    """
    return [service for service in _services(text) if re.fullmatch(r"rabbitmq\d*", service)]


def services(text: str) -> list[str]:
    """Return all services.

    Args:
        text: as for `stages`.
    """
    return list(_services(text))


def _services(text: str) -> dict[str, Any]:
    try:
        services: dict[str, Any] = json.loads(text)["services"]
        _ = services.items()
    except (ValueError, LookupError, TypeError, AttributeError):
        msg = "no services on standard input: docker compose config --format json | ... doctor"
        raise ConfigurationError(msg) from None
    return services


def _environment(entry: dict[str, Any]) -> dict[str, str]:
    """Return a service's variables; what has no value is not set."""
    given = entry.get("environment") or {}
    if isinstance(given, list):
        given = dict(each.split("=", 1) for each in given if "=" in each)
    return {name: str(value) for name, value in given.items() if value is not None}


def _replicas(entry: dict[str, Any]) -> int:
    deploy = entry.get("deploy")
    told = (deploy.get("replicas") if isinstance(deploy, dict) else None) or entry.get("scale")
    return told if isinstance(told, int) else 1


def _image_stage(entry: dict[str, Any]) -> str | None:
    """Return the STAGE that the service's image is built with."""
    build = entry.get("build")
    given = build.get("args") or {} if isinstance(build, dict) else {}
    return given.get("STAGE") if isinstance(given, dict) else None


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
    """The containers of the pipeline, by what runs them; none where nobody has told."""

    def __init__(
        self,
        containers: tuple[Container, ...] = (),
        *,
        is_told: bool = False,
        engine: Engine = COMPOSE,
    ) -> None:
        """Know these.

        Args:
            containers: those of stages.
            is_told: whether these are all there are.
            engine: what runs them.
        """
        self._containers = containers
        self._is_told = is_told
        self._engine = engine

    @classmethod
    def read(cls, text: str | None, engine: Engine = COMPOSE) -> "Containers":
        """Read a JSON object a line, as deploy/bin/containers prints them; None: nobody has told.

        Raises:
            ConfigurationError: it is something else.
        """
        if text is None:
            return cls(engine=engine)
        try:
            told = [json.loads(line) for line in text.splitlines() if line.strip()]
            found = [
                Container(each["service"], each["name"], each["state"], int(each["exit_code"]))
                for each in told
            ]
        except (ValueError, LookupError, TypeError):
            msg = "CONTAINERS_FILE: a JSON object a line, as deploy/bin/containers prints them"
            raise ConfigurationError(msg) from None
        return cls(tuple(found), is_told=True, engine=engine)

    def why_dead(self, name: str) -> str | None:
        """Say why a replica is known not to run; None: it may run."""
        mine = [each for each in self._containers if each.name == name]
        if not mine or not all(each.is_dead for each in mine):
            return None
        return f"its {self._engine.unit} has ended: {mine[-1]}"

    def hint(self, name: str) -> str:
        """Say what to do about a replica that is cut off."""
        mine = [each for each in self._containers if each.name == name]
        if mine:
            return f"its {self._engine.unit}, of {mine[-1].service}, is {mine[-1]}"
        engine = self._engine
        where = f"{engine.name} knows no such {engine.unit} here; " if self._is_told else ""
        forget = engine.make(f"forget ARGS={name}")
        return f"{where}if it does not run any more, elsewhere either: {forget}"

    def __str__(self) -> str:
        """Say which there are, and how they are."""
        if not self._is_told:
            return f"what {self._engine.name} knows was not told"
        known = ", ".join(sorted({f"{each.service} {each}" for each in self._containers}))
        return f"{self._engine.name}: {known or f'no {self._engine.unit} of a stage'}"
