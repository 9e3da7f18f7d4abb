"""One stack for all tests, in the order in which they stand."""

import os
from collections.abc import Iterator

import pytest

from tests.support.pipeline import copy_of_the_project
from tests.swarm.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Have images and secrets; nothing is deployed yet. Without nodes, fail with one line."""
    missing = {"SWARM_HOSTS", "SWARM_KILL", "SWARM_START"} - os.environ.keys()
    if missing:
        pytest.fail(f"tests/swarm/__init__.py says what to set: {sorted(missing)}", pytrace=False)
    folder = copy_of_the_project(tmp_path_factory.mktemp("swarm"))
    made = Stack(folder, f"pipeline-test-swarm-{os.getpid()}")
    try:
        made.secure()
        made.load_broker()
        made.build("1")
        yield made
    finally:
        made.remove()
