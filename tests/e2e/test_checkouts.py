"""Two checkouts on one machine have one project name, unless it is chosen."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pipeline import ROOT, Pipeline
from tests.variations import variations


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[Pipeline, Path]]:
    """Another checkout with a container of the pipeline's name, which has not been started."""
    copy = tmp_path / "project"
    copy.mkdir()
    shutil.copy(ROOT / "docker-compose.yml", copy)
    shutil.copytree(ROOT / "deploy", copy / "deploy")
    pipeline = Pipeline(f"pipeline-test-other-{os.getpid()}")
    try:
        pipeline.run("docker", "compose", "--project-directory", str(copy), "create", "rabbitmq")
        yield pipeline, copy
    finally:
        pipeline.remove()


@pytest.mark.parametrize("target", variations(["clean", "up", "publish", "logs", "halt", "down"]))
def test_another_checkout_s_pipeline_is_left_alone(
    other: tuple[Pipeline, Path], target: str
) -> None:
    """Exit code 2, and one line that says whose it is and how to have one beside it."""
    pipeline, copy = other

    done = pipeline.make(target, YES="1", MSG="not for them", check=False)

    said = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
    assert done.returncode == 2
    assert len(said) == 1
    assert said[0].startswith(
        f"The containers of the project {pipeline.name} were started in {copy}, not here. "
    )
    assert f"COMPOSE_PROJECT_NAME={pipeline.name}2 AMQP_PORT=" in said[0]
    assert len(pipeline.containers("rabbitmq")) == 1


def test_a_checkout_knows_its_own_by_any_path(other: tuple[Pipeline, Path], tmp_path: Path) -> None:
    """Also through a symbolic link."""
    pipeline, copy = other
    link = tmp_path / "link"
    link.symlink_to(copy)

    assert pipeline.run(str(link / "deploy/bin/ours")).stderr == ""
