"""What only integration tests need: a virtual host of their own, edges that retry soon."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.letters import DELAYS
from tests.process import Process

#: Runs a command of control, in the test's own virtual host, to its end.
Control: TypeAlias = Callable[..., Process]


@pytest.fixture
def vhost(broker: Broker) -> Iterator[str]:
    """Give a virtual host with a control exchange of its own: a halt of all reaches no other."""
    name = f"vhost-{uuid.uuid4().hex[:8]}"
    broker.add_vhost(name)
    yield name
    broker.delete_vhost(name)


@pytest.fixture
def control(start: Start, vhost: str) -> Control:
    """Give a function that runs `python -m services.control` to its end."""

    def run(*arguments: str) -> Process:
        process = start("-m", "services.control", *arguments, ready=False, RABBITMQ_VHOST=vhost)
        process.wait(90)
        return process

    return run


@pytest.fixture
def edges(unique: Unique) -> dict[str, Any]:
    """Name the two queues of a worker, and let retries come soon."""
    return {
        "INPUT_QUEUE": unique("in"),
        "OUTPUT_QUEUE": unique("out"),
        "RETRY_DELAYS": DELAYS,
    }
