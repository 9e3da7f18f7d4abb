"""What only integration tests need: a virtual host of their own."""

import uuid
from collections.abc import Iterator

import pytest

from tests.broker import Broker


@pytest.fixture
def vhost(broker: Broker) -> Iterator[str]:
    """Give a virtual host with a control exchange of its own: a halt of all reaches no other."""
    name = f"vhost-{uuid.uuid4().hex[:8]}"
    broker.add_vhost(name)
    yield name
    broker.delete_vhost(name)
