"""A copy of the project that was used as shipped, and then secured."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.secured.secured import Secured
from tests.support.images import building
from tests.support.pipeline import Pipeline, copy_of_the_project


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Have a broker that was there before, with a message in it; then secure it."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("secured"))
    pipeline = Pipeline(f"pipeline-test-secured-{os.getpid()}", folder)
    made = Secured(pipeline, Path(folder))
    try:
        with building():
            pipeline.compose("--profile", "*", "--progress", "quiet", "build")
        pipeline.compose("up", "--detach", "--wait", "rabbitmq")
        pipeline.compose("run", "--rm", "--no-deps", "producer", MESSAGES="before")
        made.take()
        yield made
    finally:
        pipeline.remove()
