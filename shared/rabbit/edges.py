"""The edges of a stage, from its settings: for the stage itself, and for who looks at it."""

from rabbit.errors import ConfigurationError
from rabbit.settings import Settings
from rabbit.topology import Edge, check_declarations, check_name, control_queue


def input_edge(settings: Settings, stage: str, replica: str) -> Edge:
    """Return what a replica consumes.

    Args:
        settings: the stage's settings.
        stage: the stage's name, after which its queue is called where others read the edge too.
        replica: the replica's name, likewise where every replica has a queue of its own.

    Raises:
        ConfigurationError: INPUT_QUEUE is not set, or makes a name that cannot be.
    """
    name = _require(settings.input_queue, "INPUT_QUEUE", "the queue to consume")
    is_private = settings.input_kind == "broadcast"
    edge = Edge(
        name,
        settings.input_kind,
        settings.input_keys,
        f"{stage}.{replica}" if is_private else stage,
        is_private,
        settings.queue_type,
        settings.retry_delays,
        f"{name}.{stage}.dead" if is_private else "",  # it outlives the replica
        settings.partitions if settings.input_kind == "ordered" else 0,
    )
    parts = {
        "work": "INPUT_QUEUE",
        "ordered": "INPUT_QUEUE",
        "broadcast": "INPUT_QUEUE, STAGE or REPLICA",
    }
    _check(edge, "INPUT_QUEUE", parts.get(edge.kind, "INPUT_QUEUE or STAGE"))
    return edge


def output_edge(settings: Settings) -> Edge:
    """Return what a stage publishes to.

    Raises:
        ConfigurationError: OUTPUT_QUEUE is not set, or makes a name that cannot be.
    """
    name = _require(settings.output_queue, "OUTPUT_QUEUE", "the queue to publish to")
    partitions = settings.partitions if settings.output_kind == "ordered" else 0
    edge = Edge(name, settings.output_kind, type=settings.queue_type, partitions=partitions)
    _check(edge, "OUTPUT_QUEUE", "OUTPUT_QUEUE")
    return edge


def check_replica(stage: str, replica: str) -> None:
    """Raise ConfigurationError when the name of a replica's control queue cannot be."""
    try:
        check_name(control_queue(stage, replica))
    except ValueError as error:
        raise ConfigurationError(f"{error}: shorten STAGE or REPLICA") from None


def _check(edge: Edge, variable: str, parts: str) -> None:
    """Raise ConfigurationError when a name of an edge cannot be, or has no room for what follows.

    Args:
        edge: as it is consumed or published to.
        variable: where the edge's own name comes from.
        parts: where all that its names are composed of comes from.
    """
    try:
        check_name(edge.name)
    except ValueError as error:
        raise ConfigurationError(f"{variable}: {error}") from None
    try:
        check_declarations(edge.for_consuming())
    except ValueError as error:
        raise ConfigurationError(f"{error}: shorten {parts}") from None


def _require(value: str | None, variable: str, what: str) -> str:
    if value is None:
        raise ConfigurationError(f"{variable} is not set: name {what}")
    return value
