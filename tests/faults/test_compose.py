"""What an operator does to the whole pipeline: the real compose file, a project of its own."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.account import Account
from tests.faults.summary import Row, Summary
from tests.support.pipeline import PATIENCE_SECONDS, Pipeline
from tests.waiting import wait_until

_FILES = ("docker-compose.yml", "tests/faults/docker-compose.faults.yml")
_SERVICES = ("producer", "printer")


class Followers:
    """Keeps what containers print in files: one that is removed takes its log along."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        """Follow nobody yet."""
        self._pipeline = pipeline
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def follow(self) -> None:
        """Follow the containers that are there now."""
        for service in _SERVICES:
            for container in self._pipeline.containers(service):
                path = self._folder / f"{service}-{len(self._processes)}"
                with path.open("wb") as file:
                    command = ["docker", "logs", "--follow", container]
                    self._processes.append(
                        subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
                    )

    def wait_ended(self) -> None:
        """Wait until the containers have ended and all of their words are here."""
        for process in self._processes:
            process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        """Follow nobody any more."""
        for process in self._processes:
            process.kill()
            process.wait()

    def account(self) -> Account:
        """Read what they have printed."""
        account = Account()
        arrived = self._lines("printer")
        account.told(self._lines("producer"))
        account.arrived(arrived)
        return account

    def _lines(self, service: str) -> list[str]:
        texts = [path.read_text() for path in sorted(self._folder.glob(f"{service}-*"))]
        lines = [line for text in texts for line in text.splitlines(keepends=True)]
        return [line[:-1] for line in lines if line.endswith("\n")]


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """A pipeline with the numbered source in place of the producer, and a sink that shows ids."""
    files = ":".join(_FILES)
    made = Pipeline(f"pipeline-faults-compose-{os.getpid()}", COMPOSE_FILE=files)
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def followers(pipeline: Pipeline, tmp_path: Path) -> Iterator[Followers]:
    """Follow the containers of that pipeline."""
    made = Followers(pipeline, tmp_path)
    yield made
    made.stop()


@pytest.mark.timeout(600)
def test_down_and_up(pipeline: Pipeline, followers: Followers, summary: Summary) -> None:
    """`docker compose down` in mid-flow and `up` again: the volume keeps what was confirmed."""
    row = Row("docker compose down and up", bound=0)
    summary.rows.append(row)
    _up(pipeline, followers)

    pipeline.compose("down")
    followers.wait_ended()
    begun = time.monotonic()
    _up(pipeline, followers)
    row.heal_seconds = time.monotonic() - begun

    pipeline.compose("stop", "producer")
    wait_until(lambda: not followers.account().lost, PATIENCE_SECONDS, "all has arrived")
    containers = [*pipeline.containers("to_upper"), *pipeline.containers("printer")]
    pipeline.compose("stop", "to_upper", "printer")
    followers.wait_ended()

    account = followers.account()
    row.take(account)
    assert [pipeline.exit_code(each) for each in containers] == [0, 0]
    assert (account.lost, account.unexpected, account.changed) == ([], [], [])
    assert account.duplicated == 0
    row.passed = True


def _up(pipeline: Pipeline, followers: Followers) -> None:
    """Bring everything up; wait until messages flow."""
    pipeline.compose("up", "--detach", "--build")
    followers.follow()
    progress = followers.account().progress
    wait_until(
        lambda: followers.account().is_beyond(progress),
        PATIENCE_SECONDS,
        lambda: f"messages flow\n{pipeline.compose('logs', '--tail', '20')}",
    )
