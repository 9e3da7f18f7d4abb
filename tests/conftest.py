"""A real broker for each test run, names of their own for each test, stages as real processes."""

import os
import uuid
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.process import ROOT, Process

if TYPE_CHECKING:
    from tests.broker import Broker

#: Here, as the process that starts the others loads no other conftest.py.
pytest_plugins = ("tests.side_by_side", "tests.faults.summary", "tests.support.postgres")


class Unique(Protocol):
    """Gives names that no other test uses."""

    def __call__(self, prefix: str) -> str:
        """Return a name that begins with `prefix`; within one test, always the same one."""


class Start(Protocol):
    """Starts stages as child processes."""

    def __call__(self, *arguments: str, ready: bool = True, **environment: object) -> Process:
        """Run `python ARGUMENTS` with these variables beside those that name the broker.

        Args:
            arguments: as for python: `-m module`, `-c program` or a path.
            ready: wait until it is ready.
            environment: a value of None takes the variable away.
        """


#: What a test has started, for the report should it fail.
_STARTED = pytest.StashKey[list[Process]]()

#: How much of each log is shown then.
_LINES = 40


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show of a test that fails what its processes and its broker have logged last."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if logged := getattr(value, "last_logged", None):
                report.sections.append((f"log of {name}", logged(_LINES)))
        for process in item.stash.get(_STARTED, []):
            last = "\n".join(process.log.splitlines()[-_LINES:])
            report.sections.append((f"log of {process}", last))
    return report


@pytest.fixture(scope="session")
def broker() -> Iterator["Broker"]:
    """Run a real RabbitMQ; without Docker, the tests that need it fail with one clear line."""
    # Imported here: the unit tests need neither Docker nor the time this takes.
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415

    from tests.broker import Broker  # noqa: PLC0415
    from tests.support.images import broker_image  # noqa: PLC0415

    missing = ""
    try:
        made = Broker()
        made.__enter__()
    except DockerException as error:
        missing = str(error)
    if missing:  # outside of the handler, so that no traceback comes with the one line
        pytest.fail(f"needs Docker and its image {broker_image()}: {missing}", pytrace=False)
    try:
        yield made
    finally:
        made.__exit__()


@pytest.fixture
def unique(broker: "Broker") -> Iterator[Unique]:
    """Give names that no other test uses; queues of these names are deleted after the test."""
    suffix = uuid.uuid4().hex[:8]

    def name(prefix: str) -> str:
        return f"{prefix}-{suffix}"

    yield name
    broker.delete_queues(suffix)


@pytest.fixture
def start(broker: "Broker", tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Start child processes that know the broker; those that still run are killed at the end.

    None of them may ever show the broker's password.
    """
    started = request.node.stash[_STARTED] = []
    numbers = count(1)

    def begin(*arguments: str, ready: bool = True, **environment: object) -> Process:
        folder = tmp_path / f"process-{next(numbers)}"
        folder.mkdir()
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}",
            "PYTHONUNBUFFERED": "1",
            "REPLICA": f"replica-{uuid.uuid4().hex[:8]}",
            **broker.environment,
            **environment,
        }
        told = {name: str(value) for name, value in variables.items() if value is not None}
        process = Process(arguments, told, folder)
        started.append(process)
        if ready:
            process.wait_ready()
        return process

    yield begin
    for process in started:
        if process.is_running:
            process.kill()
    for process in started:
        assert broker.password not in process.out + process.log, f"{process} shows the password"
