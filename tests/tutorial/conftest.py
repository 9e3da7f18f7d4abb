"""The tutorial's programs as processes, each test in a virtual host of its own.

So the programs can keep the tutorial's queue names, as a reader types them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.process import Process

FOLDER = Path(__file__).parent


class Run(Protocol):
    """Starts a program of the tutorial."""

    def __call__(self, program: str, **environment: object) -> Process:
        """Run `program`, the name of a file here without its suffix."""


@pytest.fixture
def vhost(broker: Broker, unique: Unique) -> Iterator[str]:
    """Make a virtual host, and remove it with its queues in the end."""
    name = unique("tutorial")
    broker.add_vhost(name)
    yield name
    broker.delete_vhost(name)


@pytest.fixture
def run(start: Start, vhost: str) -> Run:
    """Start programs of the tutorial in this test's virtual host."""

    def begin(program: str, **environment: object) -> Process:
        path = str(FOLDER / f"{program}.py")
        return start(path, ready=False, RABBITMQ_VHOST=vhost, REPLICA=None, **environment)

    return begin
