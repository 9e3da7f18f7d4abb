"""A stage that `make stage` has written is part of the pipeline, with no edit anywhere else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.pipeline import ROOT, Pipeline, copy_of_the_project


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, with the tests' environment as it is here."""
    made = copy_of_the_project(tmp_path)
    (made / ".venv").symlink_to(ROOT / ".venv")
    # Newer than what it is made from: it is not made anew.
    os.utime(made / "tests/requirements.txt", (0, 0))
    return made


@pytest.fixture
def own(copy: Path) -> Iterator[Pipeline]:
    """A pipeline of this copy; removed in the end, whatever happens."""
    pipeline = Pipeline(f"pipeline-test-stage-{os.getpid()}", copy)
    try:
        yield pipeline
    finally:
        pipeline.remove()


def test_a_new_stage_passes_the_checks_and_works(own: Pipeline, copy: Path) -> None:
    """Made, checked, told what to do, started: messages go through it."""
    own.make("stage", "NAME=exclaim")
    own.make("check")
    module = copy / "services/exclaim/__init__.py"
    module.write_text(
        module.read_text().replace("self.write(message)", 'self.write(f"{message}!")')
    )

    own.make("up")
    own.make("publish", "MSG=hello")

    own.wait_printed(["HELLO!", "WORLD!", "HELLO!"])
