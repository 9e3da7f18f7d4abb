"""The stages that docker-compose.yml starts, from what `docker compose config` says of it."""

import json
from dataclasses import dataclass
from typing import Any

from rabbit import ConfigurationError, Settings
from rabbit.edges import input_edge, output_edge
from rabbit.topology import Edge

#: Stands for the name of a replica, which is not known before there is one.
ANY_REPLICA = "*"


@dataclass(frozen=True)
class DeclaredStage:
    """One stage, as its settings describe it.

    Attributes:
        name: the stage's name.
        settings: what its environment says.
    """

    name: str
    settings: Settings

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
    try:
        services: dict[str, Any] = json.loads(text)["services"]
    except (ValueError, LookupError, TypeError):
        msg = "no services on standard input: docker compose config --format json | ... doctor"
        raise ConfigurationError(msg) from None
    found, wrong = [], []
    for service, entry in services.items():
        environment = _environment(entry)
        if not environment.keys() & {"INPUT_QUEUE", "OUTPUT_QUEUE"}:
            continue
        try:
            settings = Settings.read(environment)
        except ConfigurationError as error:
            wrong.append(f"{service}: {error}")
        else:
            found.append(DeclaredStage(settings.stage or _image_stage(entry) or service, settings))
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    return found


def _environment(entry: dict[str, Any]) -> dict[str, str]:
    """Return a service's variables; what has no value is not set."""
    given = entry.get("environment") or {}
    if isinstance(given, list):
        given = dict(each.split("=", 1) for each in given if "=" in each)
    return {name: str(value) for name, value in given.items() if value is not None}


def _image_stage(entry: dict[str, Any]) -> str | None:
    """Return the STAGE that the service's image is built with."""
    build = entry.get("build")
    given = build.get("args") or {} if isinstance(build, dict) else {}
    return given.get("STAGE") if isinstance(given, dict) else None
