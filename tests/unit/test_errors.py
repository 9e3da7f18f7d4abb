"""The tree of errors."""

import pytest

import rabbit
from rabbit.errors import (
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    DrainTimeoutError,
    Halted,
    HandlerTimeoutError,
    IncompleteError,
    PublishError,
    RabbitError,
    RefusedError,
    ResourcesError,
    TooLargeError,
    TopologyError,
    UnroutableError,
)

TREE = [
    (ConfigurationError, RabbitError, 2, "A setting is missing or wrong."),
    (
        TopologyError,
        RabbitError,
        2,
        "The broker refuses an exchange, a queue or a binding that this stage declares.",
    ),
    (BrokerUnavailableError, RabbitError, 1, "RabbitMQ could not be reached in time."),
    (
        ClosedError,
        RabbitError,
        1,
        "The queue was closed meanwhile; what was not confirmed may have been published.",
    ),
    (PublishError, RabbitError, 1, "A message was published and no queue has taken it."),
    (
        RefusedError,
        PublishError,
        1,
        "The broker refused the message (basic.nack): its queue is full or not available.",
    ),
    (
        UnroutableError,
        PublishError,
        1,
        "The broker returned the message (basic.return): no queue is bound for it.",
    ),
    (
        TooLargeError,
        PublishError,
        1,
        "The message is larger than the broker or MAX_MESSAGE_BYTES allows.",
    ),
    (
        IncompleteError,
        RabbitError,
        1,
        "A source was halted before its work had returned: the rest is not published.",
    ),
    (
        ResourcesError,
        RabbitError,
        1,
        "What a stage opens in resources() or thread_resources() has failed.",
    ),
    (HandlerTimeoutError, RabbitError, 1, "A handler ran longer than HANDLER_TIMEOUT."),
    (
        DrainTimeoutError,
        RabbitError,
        1,
        "DRAIN_TIMEOUT passed before everything in flight was settled.",
    ),
]


@pytest.mark.parametrize(("error", "parent", "exit_code", "default"), TREE)
def test_the_tree(
    error: type[RabbitError], parent: type[RabbitError], exit_code: int, default: str
) -> None:
    """Each error has its parent, its exit code, and its docstring as default message."""
    assert (parent,) == error.__bases__
    assert exit_code == error.exit_code
    assert default == str(error())
    assert str(error("what happened")) == "what happened"


def test_the_tree_is_complete() -> None:
    """An error that is added is added here, to the drawing and to `from rabbit import`."""

    def below(error: type[RabbitError]) -> set[type[RabbitError]]:
        children = set(error.__subclasses__())
        return children.union(*(below(child) for child in children))

    assert {error for error, *_ in TREE} == below(RabbitError)
    assert {error.__name__ for error, *_ in TREE} <= set(rabbit.__all__)


def test_halted_passes_an_ordinary_except() -> None:
    """A source that catches all its own errors is stopped all the same."""
    assert issubclass(Halted, BaseException)
    assert not issubclass(Halted, Exception)
