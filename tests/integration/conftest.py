"""What only integration tests need: a virtual host of their own, edges that retry soon."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Unique
from tests.integration.letters import DELAYS


@pytest.fixture
def vhost(broker: Broker) -> Iterator[str]:
    """Give a virtual host with a control exchange of its own: a halt of all reaches no other."""
    name = f"vhost-{uuid.uuid4().hex[:8]}"
    broker.add_vhost(name)
    yield name
    broker.delete_vhost(name)


@pytest.fixture
def edges(unique: Unique) -> dict[str, Any]:
    """Name the two queues of a worker, and let retries come soon."""
    return {
        "INPUT_QUEUE": unique("in"),
        "OUTPUT_QUEUE": unique("out"),
        "RETRY_DELAYS": DELAYS,
    }
