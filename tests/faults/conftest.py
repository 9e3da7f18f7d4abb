"""A network and a broker for all faults, a stream for each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import DockerException  # type: ignore[import-untyped]

from tests.broker import Broker
from tests.faults.stream import Stream
from tests.faults.summary import Summary
from tests.support import images
from tests.support.containers import Containers

_FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what says nothing else as `thorough` and `lasting`."""
    for item in items:
        is_marked = any(map(item.get_closest_marker, ("quick", "thorough")))
        if _FOLDER in item.path.parents and not is_marked:
            item.add_marker("thorough")
            item.add_marker("lasting")


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """Build the images of the stages, and make a network; remove all that is on it in the end."""
    trouble = ""
    try:
        images.build_stages("control")
        made = Containers("faults")
        made.__enter__()
    except (DockerException, images.BuildError) as error:
        trouble = str(error)
    if trouble:  # outside of the handler, so that no traceback comes with it
        pytest.fail(f"needs Docker: {trouble}", pytrace=False)
    try:
        yield made
    finally:
        made.__exit__()


@pytest.fixture(scope="session")
def broker(containers: Containers) -> Iterator[Broker]:
    """Run a broker on that network, for all faults that leave one behind that works."""
    with Broker(containers.network) as made:
        yield made


@pytest.fixture
def stream(containers: Containers, broker: Broker, summary: Summary) -> Iterator[Stream]:
    """Prepare a stream; after the test, its containers and all queues of the broker are removed."""
    made = Stream(containers, broker, broker.inside, summary)
    try:
        yield made
    finally:
        made.remove()
        for queue in broker.queues():
            broker.delete_queue(queue)
