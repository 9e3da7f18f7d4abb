"""The README files are true: their commands run, their examples work.

What needs no container stands in tests/unit/test_readmes.py.
"""

import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.broker import Broker
from tests.e2e.pipeline import PATIENCE_SECONDS, Pipeline, copy_of_the_project, rabbitmq_environment
from tests.readme import FIRST, LIBRARY, OPERATING, READMES, ROOT, Readme
from tests.waiting import wait_until

COMPOSE = (ROOT / "docker-compose.yml").read_text()

#: Commands that another test runs, or that run the tests. All others are run here.
RUN_ELSEWHERE = {
    "make logs": "tests/e2e/test_tour.py::test_logs",
    "make clean": "tests/e2e/test_tour.py::test_clean_asks_first",
    "make forget ARGS=printer/1b0ad5cf6fa4": (
        "tests/integration/test_control.py::test_a_killed_replica_can_be_forgotten"
    ),
    "CA_BUNDLE=proxy-ca.pem make up": "tests/e2e/test_readme.py::test_stage_in_the_pipeline",
    "make stage NAME=exclaim": (
        "tests/e2e/test_new_stage.py::test_a_new_stage_passes_the_checks_and_works"
    ),
    "make lock": "tests/e2e/test_readme.py::test_package_of_a_stage_s_own",
    "pip install .": "tests/integration/test_distribution.py::test_a_program_elsewhere_publishes",
    "make bench": "tests/e2e/test_benchmark.py::test_a_part_of_the_benchmark_runs",
    "make bench QUICK=1": "tests/e2e/test_benchmark.py::test_a_part_of_the_benchmark_runs",
    "make test-faults": "tests/faults/test_processes.py::test_sigterm",
    "make soak": "tests/faults/test_soak.py::test_a_short_soak",
    "make soak MESSAGES=100000": "tests/faults/test_soak.py::test_a_short_soak",
    "export COMPOSE_FILE=docker-compose.yml:deploy/cluster/docker-compose.cluster.yml": (
        "tests/faults/test_cluster.py::test_three_members"
    ),
    "docker compose kill rabbitmq2": "tests/faults/test_cluster.py::test_leader_killed",
    "docker compose start rabbitmq2": "tests/faults/test_cluster.py::test_leader_killed",
    "make check": ".ci/run",
    "make test": ".ci/run",
}


# Commands


@pytest.mark.parametrize(("command", "place"), RUN_ELSEWHERE.items())
def test_command_that_is_run_elsewhere(command: str, place: str) -> None:
    """Where the table sends the reader, there is such a test."""
    path, _, function = place.partition("::")
    source = (ROOT / path).read_text()

    assert any(command in readme.commands() for readme in READMES)
    there = rf"^def {function}\(" if function else rf"^{command}\b"
    assert re.search(there, source, re.MULTILINE)


def _to_run(readme: Readme) -> list[str]:
    return [command for command in readme.commands() if command not in RUN_ELSEWHERE]


def test_no_command_is_left_out() -> None:
    """Those of all files but these two are run elsewhere."""
    assert [each.path for each in READMES if _to_run(each)] == [FIRST.path, OPERATING.path]


@pytest.mark.timeout(900)
def test_every_other_command_of_the_first_one(pipeline: Pipeline) -> None:
    """Typed one after the other, from `make up` to `make clean`, all end with 0."""
    commands = _to_run(FIRST)
    assert len(commands) > 15

    for command in commands:
        pipeline.run("bash", "-c", command)


@pytest.mark.timeout(900)
def test_every_other_command_of_operating(pipeline: Pipeline) -> None:
    """Typed one after the other, all end with 0, and the poison pill has stopped three replicas."""
    for command in _to_run(OPERATING):
        pipeline.run("bash", "-c", command)

    containers = [*pipeline.containers("to_upper"), *pipeline.containers("printer")]
    assert [pipeline.wait_exited(each) for each in containers] == [0, 0, 0]


# Examples


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Copy the project, and add the README's stage to it as the README says."""
    copy = copy_of_the_project(tmp_path)
    for path, text in FIRST.files().items():
        (copy / path).parent.mkdir(exist_ok=True)
        (copy / path).write_text(text)
    (entry,) = FIRST.blocks("yaml")
    before, printer, after = COMPOSE.partition("  printer:\n")
    after = after.replace("INPUT_QUEUE: upper", "INPUT_QUEUE: exclaim", 1)
    (copy / "docker-compose.yml").write_text(f"{before}{entry}\n{printer}{after}")
    return copy


def test_stage_passes_the_checks(project: Path) -> None:
    """The stage and its unit test are formatted, linted and typed, and the test passes."""
    files = list(FIRST.files())
    tests = [path for path in files if path.startswith("tests/")]
    checks = [["ruff", "format", "--check"], ["ruff", "check"], ["mypy"]]

    for command in [*(check + files for check in checks), ["pytest", *tests]]:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.fixture
def other_pipeline(project: Path) -> Iterator[Pipeline]:
    """A pipeline for the copy of the project; removed in the end, whatever happens."""
    pipeline = Pipeline(f"pipeline-test-readme-{os.getpid()}", project)
    try:
        yield pipeline
    finally:
        pipeline.remove()


def test_stage_in_the_pipeline(project: Path, other_pipeline: Pipeline) -> None:
    """With its compose entry, `make up` starts the stage and messages go through it."""
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    (project / "proxy-ca.pem").write_bytes(Path(trusted).read_bytes() if trusted else b"")

    other_pipeline.run("bash", "-c", "CA_BUNDLE=proxy-ca.pem make up")

    other_pipeline.wait_printed(["HELLO!", "WORLD!"])


def test_package_of_a_stage_s_own(project: Path, other_pipeline: Pipeline) -> None:
    """What a stage asks for is locked by `make lock`, and is in its image only."""
    asked = re.findall(r"the line `([^`]+)` in `([^`]+/requirements\.in)`", LIBRARY.text)
    ((line, path),) = asked
    (project / path).write_text(f"{line}\n")

    other_pipeline.make("lock")
    other_pipeline.compose("--progress", "quiet", "build", "exclaim", "to_upper")

    program = "import importlib.util as i; print(*filter(i.find_spec, ['pika', 'emoji', 'rich']))"
    python = ("docker", "run", "--rm", "--entrypoint", "python")
    found = {
        stage: other_pipeline.run(*python, f"{other_pipeline.name}-{stage}", "-c", program).stdout
        for stage in ("exclaim", "to_upper")
    }
    assert found == {"exclaim": "pika emoji\n", "to_upper": "pika\n"}


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
