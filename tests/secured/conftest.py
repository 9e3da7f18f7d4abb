"""A copy of the project that was used as shipped, and then secured."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.broker import Broker
from tests.e2e.conftest import pipeline as pipeline  # noqa: PLC0414 - this fixture, with those below
from tests.secured.secured import Secured
from tests.support.images import building
from tests.support.pipeline import Pipeline, copy_of_the_project

_FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of these as `thorough`: `make test` leaves them out."""
    for item in items:
        if _FOLDER in item.path.parents:
            item.add_marker("thorough")


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Have a broker that was there before, with a message in it; then secure it."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("secured"))
    override = "services: {printer: {labels: {mine: kept}}}"
    (folder / "docker-compose.override.yml").write_text(override)
    pipeline = Pipeline(f"pipeline-test-secured-{os.getpid()}", folder)
    made = Secured(pipeline, Path(folder))
    try:
        with building():
            pipeline.compose("--profile", "*", "--progress", "quiet", "build")
        pipeline.compose("up", "--detach", "--wait", "rabbitmq")
        pipeline.compose("run", "--rm", "--no-deps", "producer", MESSAGES="before")
        made.take()
        pipeline.wait_printed(["BEFORE", "HELLO", "WORLD"])
        yield made
    finally:
        pipeline.remove()


@pytest.fixture(scope="session")
def installed(secured: Secured) -> Pipeline:
    """For tests that are not about how it is secured."""
    return secured.pipeline


@pytest.fixture
def broker(secured: Secured) -> Broker:
    """Likewise: look at the pipeline's broker."""
    return secured.broker()
