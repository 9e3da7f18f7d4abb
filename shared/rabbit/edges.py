"""The edges of a stage, from its settings: for the stage itself, and for who looks at it."""

from rabbit.errors import ConfigurationError
from rabbit.settings import Settings
from rabbit.topology import Edge


def input_edge(settings: Settings, stage: str, replica: str) -> Edge:
    """Return what a replica consumes.

    Args:
        settings: the stage's settings.
        stage: the stage's name, after which its queue is called where others read the edge too.
        replica: the replica's name, likewise where every replica has a queue of its own.

    Raises:
        ConfigurationError: INPUT_QUEUE is not set.
    """
    name = _require(settings.input_queue, "INPUT_QUEUE", "the queue to consume")
    is_private = settings.input_kind == "broadcast"
    return Edge(
        name,
        settings.input_kind,
        settings.input_keys,
        f"{stage}.{replica}" if is_private else stage,
        is_private,
        settings.queue_type,
        settings.retry_delays,
        f"{name}.{stage}.dead" if is_private else "",  # it outlives the replica
    )


def output_edge(settings: Settings) -> Edge:
    """Return what a stage publishes to. Raises ConfigurationError when OUTPUT_QUEUE is not set."""
    name = _require(settings.output_queue, "OUTPUT_QUEUE", "the queue to publish to")
    return Edge(name, settings.output_kind, type=settings.queue_type)


def _require(value: str | None, variable: str, what: str) -> str:
    if value is None:
        raise ConfigurationError(f"{variable} is not set: name {what}")
    return value
