"""A stage is added as the README says, to a copy of the project that has a pipeline of its own."""

import json
import os
import re
import shutil
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.readme import FIRST, LIBRARY
from tests.support.images import building
from tests.support.pipeline import PATIENCE_SECONDS, ROOT, Pipeline, copy_of_the_project
from tests.waiting import wait_until

COMPOSE = "docker-compose.yml"

#: Unit tests of what no stage can change: an import rule says that the library knows none.
OF_THE_LIBRARY = (
    *("amqp", "benchmarks", "board", "control", "faults", "messaging"),
    *("operations", "runtime", "test_logs.py", "test_side_by_side.py", "testing"),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, with the tests' environment as it is here."""
    made = copy_of_the_project(tmp_path_factory.mktemp("copy"))
    (made / ".venv").symlink_to(ROOT / ".venv")
    _keep_environment(made)
    if (known := ROOT / ".mypy_cache").exists():
        shutil.copytree(known, made / ".mypy_cache")
    return made


def _keep_environment(copy: Path) -> None:
    """Have it newer than what it is made from, so that make does not make it anew."""
    os.utime(copy / "tests/requirements.txt", (0, 0))


@pytest.fixture(scope="module")
def own(copy: Path) -> Iterator[Pipeline]:
    """A pipeline of this copy; removed in the end, whatever happens."""
    pipeline = Pipeline(f"pipeline-test-stage-{os.getpid()}", copy)
    try:
        yield pipeline
    finally:
        pipeline.remove()


@pytest.fixture(scope="module")
def made(own: Pipeline) -> Pipeline:
    """With the stage, as `make stage` has written it."""
    own.make("stage", "NAME=exclaim")
    return own


@pytest.fixture(scope="module")
def told(made: Pipeline, copy: Path) -> Pipeline:
    """With the stage and its entry as they stand in the README, where it has been told its work."""
    for path, text in FIRST.files().items():
        assert (copy / path).exists()
        (copy / path).write_text(text)
    (entry,) = FIRST.blocks("yaml")
    before, printer, after = (ROOT / COMPOSE).read_text().partition("  printer:\n")
    after = after.replace("INPUT_QUEUE: upper", "INPUT_QUEUE: exclaim", 1)
    (copy / COMPOSE).write_text(f"{before}{entry}\n{printer}{after}")
    return made


def _configuration(pipeline: Pipeline) -> Any:
    """Return all that Compose makes of its file."""
    return json.loads(pipeline.compose("--profile", "*", "config", "--format", "json"))


@pytest.fixture(scope="module")
def configurations(made: Pipeline, request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """What Compose makes of the entry that was written, and of the README's."""
    written = _configuration(made)
    return written, _configuration(request.getfixturevalue("told"))


@pytest.mark.thorough
@pytest.mark.runs("make stage NAME=exclaim")
def test_a_new_stage_passes_the_checks(made: Pipeline) -> None:
    """With no edit anywhere: format, lint, types, import rules, unit tests."""
    ignored = (f"--ignore=tests/unit/{folder}" for folder in OF_THE_LIBRARY)

    made.make("check", PYTEST_ADDOPTS=" ".join(ignored))


def test_its_entry_is_what_the_readme_shows(configurations: tuple[Any, Any]) -> None:
    """But for what it may be named, and that it is watched, as all stages are."""
    written, shown = configurations

    stage = written["services"]["exclaim"]
    assert stage.pop("image").endswith("-exclaim:latest")
    assert stage.pop("develop")
    assert written == shown


@pytest.mark.thorough
def test_the_readme_s_stage_passes_the_checks(told: Pipeline) -> None:
    """The stage and its unit test are formatted, linted and typed, and the test passes."""
    files = list(FIRST.files())
    tests = [path for path in files if path.startswith("tests/")]
    checks = [["ruff", "format", "--check"], ["ruff", "check"], ["mypy"]]

    for command in [*(check + files for check in checks), ["pytest", *tests]]:
        told.run(sys.executable, "-m", *command)


@pytest.fixture(scope="module")
def locked(told: Pipeline, copy: Path) -> Pipeline:
    """With a package of the stage's own, which the library's README tells how to ask for."""
    asked = re.findall(r"the line `([^`]+)` in `([^`]+/requirements\.in)`", LIBRARY.text)
    ((line, path),) = asked
    (copy / path).write_text(f"{line}\n")
    told.make("lock")
    _keep_environment(copy)
    return told


@pytest.fixture(scope="module")
def running(locked: Pipeline, copy: Path) -> Pipeline:
    """Set up, with the certificates that are trusted here as those of a proxy."""
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    (copy / "proxy-ca.pem").write_bytes(Path(trusted).read_bytes() if trusted else b"")
    with building():
        quietly = ("--profile", "*", "--progress", "quiet")
        locked.compose(*quietly, "build", CA_BUNDLE="proxy-ca.pem")
    locked.run("bash", "-c", "CA_BUNDLE=proxy-ca.pem make up")
    return locked


@pytest.mark.thorough
@pytest.mark.runs("CA_BUNDLE=proxy-ca.pem make up")
def test_messages_go_through_it(running: Pipeline) -> None:
    """With its entry, `make up` starts the stage."""
    running.wait_printed(["HELLO!", "WORLD!"])


@pytest.mark.thorough
@pytest.mark.runs("make lock")
def test_package_of_a_stage_s_own(running: Pipeline) -> None:
    """What a stage asks for is locked by `make lock`, and is in its image only."""
    program = "import importlib.util as i; print(*filter(i.find_spec, ['pika', 'emoji', 'rich']))"

    found = {
        stage: running.compose("exec", "--no-TTY", stage, "python", "-c", program)
        for stage in ("exclaim", "to_upper")
    }

    assert found == {"exclaim": "pika emoji\n", "to_upper": "pika\n"}


@pytest.mark.thorough
def test_a_change_in_a_stage_is_followed(running: Pipeline, copy: Path) -> None:
    """`docker compose up --watch`: a new replica runs the new code, and the other stages go on."""
    stage, log = copy / "services/to_upper/__init__.py", copy / "watch.log"
    (before,), (printer,) = running.containers("to_upper"), running.containers("printer")
    running.mark()
    with running.background("bash", "-c", f"exec docker compose up --watch >{log.name} 2>&1"):
        wait_until(
            lambda: log.exists() and "Watch enabled" in log.read_text(),
            PATIENCE_SECONDS,
            lambda: f"Compose watches:\n{log.read_text()}",
        )
        running.wait_printed(["HELLO!", "WORLD!"])

        stage.write_text(stage.read_text().replace("message.upper()", "message.title()"))

        wait_until(
            lambda: running.containers("to_upper") not in ([], [before]),
            PATIENCE_SECONDS,
            lambda: f"the replica of to_upper is replaced:\n{log.read_text()}",
        )
        running.make("publish", "MSG=changed")
        running.wait_printed(["HELLO!", "WORLD!", "Changed!"])
        assert running.containers("printer") == [printer]
