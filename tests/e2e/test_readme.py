"""The README files are true where a pipeline is needed to see it: commands run, programs work."""

import sys
from pathlib import Path

import pytest

from tests.e2e.broker import Broker
from tests.readme import FIRST, LIBRARY, OPERATING, READMES, ROOT, Readme, run_by_tests
from tests.support.pipeline import Pipeline, rabbitmq_environment
from tests.waiting import wait_until

#: What `.ci/run` runs, and no test: those that run the tests.
BY_HAND = {"make check", "make test", "make test-faults", "make test-secured", "make test-board"}


def _to_run(readme: Readme) -> list[str]:
    """Return those that no test says it runs."""
    elsewhere = BY_HAND | run_by_tests()
    return [command for command in readme.commands() if command not in elsewhere]


def test_what_tests_say_they_run_is_there() -> None:
    """A command that is no longer in a README file needs no test that names it."""
    commands = {command for readme in READMES for command in readme.commands()}

    assert len(run_by_tests()) > 10
    assert run_by_tests() | BY_HAND <= commands


def test_what_is_run_by_hand() -> None:
    """It is what a change has to pass."""
    steps = (ROOT / ".ci/run").read_text().splitlines()

    assert [each for each in BY_HAND if not any(step.startswith(each) for step in steps)] == []


def test_no_command_is_left_out() -> None:
    """Those of all files but these two are run elsewhere."""
    assert [each.path for each in READMES if _to_run(each)] == [FIRST.path, OPERATING.path]


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_every_other_command_of_operating(pipeline: Pipeline) -> None:
    """Typed one after the other, all end with 0, and the poison pill has stopped three replicas."""
    for command in _to_run(OPERATING):
        pipeline.run("bash", "-c", command)

    containers = [*pipeline.containers("to_upper"), *pipeline.containers("printer")]
    assert [pipeline.wait_exited(each) for each in containers] == [0, 0, 0]


def test_programs_of_your_own(pipeline: Pipeline, broker: Broker, tmp_path: Path) -> None:
    """Both programs run as they stand: what the first one publishes, the second one prints."""
    programs = [text for text in LIBRARY.blocks("python") if "import MessageQueue" in text]
    variables = {**rabbitmq_environment(pipeline), "PYTHONPATH": str(ROOT / "shared")}
    said = ""
    try:
        for number, text in enumerate(programs):
            path = tmp_path / f"program{number}.py"
            path.write_text(text)
            said += pipeline.run(sys.executable, str(path), variables=variables).stdout
        wait_until(lambda: not broker.messages("letters"), 20, "all of it is acked")
    finally:
        broker.request("DELETE", "queues/%2F/letters")
        broker.request("DELETE", "queues/%2F/letters.dead")

    assert said.split() == ["hello", "world", "HALT"]


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_every_other_command_of_the_first_one(pipeline: Pipeline) -> None:
    """Typed one after the other, from `make up` to `make clean`, all end with 0.

    The last test here, as it leaves no pipeline.
    """
    commands = _to_run(FIRST)
    assert len(commands) > 15

    for command in commands:
        pipeline.run("bash", "-c", command)
