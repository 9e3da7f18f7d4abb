"""`docker compose up --watch` follows what is changed in a stage."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.pipeline import PATIENCE_SECONDS, Pipeline, copy_of_the_project
from tests.waiting import wait_until


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, which the test may change."""
    return copy_of_the_project(tmp_path)


@pytest.fixture
def own(copy: Path) -> Iterator[Pipeline]:
    """A pipeline of this copy; removed in the end, whatever happens."""
    pipeline = Pipeline(f"pipeline-test-watch-{os.getpid()}", copy)
    try:
        yield pipeline
    finally:
        pipeline.remove()


def test_a_change_in_a_stage_is_followed(own: Pipeline, copy: Path) -> None:
    """A new replica runs the new code, and those of the other stages go on."""
    stage, log = copy / "services/to_upper/__init__.py", copy / "watch.log"
    with own.background("bash", "-c", f"exec docker compose up --watch >{log.name} 2>&1"):
        wait_until(
            lambda: log.exists() and "Watch enabled" in log.read_text(),
            PATIENCE_SECONDS,
            lambda: f"Compose watches:\n{log.read_text()}",
        )
        own.wait_printed(["HELLO", "WORLD"])
        (before,), (printer,) = own.containers("to_upper"), own.containers("printer")

        stage.write_text(stage.read_text().replace("message.upper()", "message.title()"))

        wait_until(
            lambda: own.containers("to_upper") not in ([], [before]),
            PATIENCE_SECONDS,
            lambda: f"the replica of to_upper is replaced:\n{log.read_text()}",
        )
        own.make("publish", "MSG=changed")
        own.wait_printed(["HELLO", "WORLD", "Changed"])
        assert own.containers("printer") == [printer]
