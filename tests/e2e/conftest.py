"""One pipeline for all end-to-end tests, set up with `make up` as a newcomer does."""

import os
from collections.abc import Iterator

import pytest

from tests.e2e.broker import Broker
from tests.support.images import building
from tests.support.pipeline import PATIENCE_SECONDS, Pipeline
from tests.waiting import wait_until


@pytest.fixture(scope="session")
def installed() -> Iterator[Pipeline]:
    """Set the pipeline up from nothing, once; remove it in the end, whatever happens."""
    pipeline = Pipeline(f"pipeline-test-{os.getpid()}")
    try:
        with building():
            pipeline.compose("--profile", "*", "--progress", "quiet", "build")
        pipeline.make("up")
        yield pipeline
    finally:
        pipeline.remove()


@pytest.fixture
def broker(installed: Pipeline) -> Broker:
    """Look at the pipeline's broker."""
    return Broker(installed)


@pytest.fixture
def pipeline(installed: Pipeline, broker: Broker) -> Pipeline:
    """Start with one container of each stage that runs, and with empty queues."""
    installed.start()
    for queue in ("my_queue", "upper"):
        broker.purge(queue)
    wait_until(
        lambda: broker.messages("my_queue") + broker.messages("upper") == 0,
        PATIENCE_SECONDS,
        "the end of what an earlier test has left in flight",
    )
    installed.mark()
    return installed
