"""The README is true: its commands run, its examples work, its tables name what there is."""

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from textwrap import dedent

import pytest
from pydantic.fields import FieldInfo

from rabbit import Consumer, Settings
from rabbit.testing import harness
from services.control.management import ControlSettings
from services.printer import PrinterSettings
from services.producer import ProducerSettings
from services.to_upper import ToUpperSettings
from tests.e2e.broker import Broker
from tests.e2e.pipeline import PATIENCE_SECONDS, ROOT, Pipeline, rabbitmq_environment

README = (ROOT / "README.md").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()

#: How the tables write that there is no default.
NONE = "\N{EN DASH}"

#: Commands that another test runs, or that run the tests. All others are run here.
RUN_ELSEWHERE = {
    "make logs": "tests/e2e/test_tour.py::test_logs",
    "make clean": "tests/e2e/test_tour.py::test_clean_asks_first",
    "make forget ARGS=printer/1b0ad5cf6fa4": (
        "tests/integration/test_control.py::test_a_killed_replica_can_be_forgotten"
    ),
    "CA_BUNDLE=proxy-ca.pem make up": "tests/e2e/test_readme.py::test_stage_in_the_pipeline",
    "make lock": "tests/e2e/test_readme.py::test_package_of_a_stage_s_own",
    "make bench": "tests/e2e/test_benchmark.py::test_a_part_of_the_benchmark_runs",
    "make bench QUICK=1": "tests/e2e/test_benchmark.py::test_a_part_of_the_benchmark_runs",
    "make test-faults": "tests/faults/test_processes.py::test_sigterm",
    "make soak": "tests/faults/test_soak.py::test_a_short_soak",
    "make soak MESSAGES=100000": "tests/faults/test_soak.py::test_a_short_soak",
    "docker compose kill rabbitmq2": "tests/faults/test_cluster.py::test_leader_killed",
    "docker compose start rabbitmq2": "tests/faults/test_cluster.py::test_leader_killed",
    "make check": ".ci/run",
    "make test": ".ci/run",
}

STAGE_SETTINGS: dict[str, type[Settings]] = {
    "producer": ProducerSettings,
    "to_upper": ToUpperSettings,
    "printer": PrinterSettings,
    "control": ControlSettings,
}


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    """Return the lines of all `sh` blocks without their comments."""
    lines = [line for block in _blocks("sh") for line in block.splitlines()]
    return [re.sub(r" {2,}# .*", "", line) for line in lines]


def _rows(heading: str) -> list[list[str]]:
    """Return the cells of the table that begins with this row."""
    table = README.split(f"{heading}\n", 1)[1].split("\n\n", 1)[0]
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in table.splitlines()[1:]
    ]


# Commands


@pytest.mark.parametrize(("command", "place"), RUN_ELSEWHERE.items())
def test_command_that_is_run_elsewhere(command: str, place: str) -> None:
    """Where the table sends the reader, there is such a test."""
    path, _, function = place.partition("::")
    source = (ROOT / path).read_text()

    assert command in _commands()
    there = rf"^def {function}\(" if function else rf"^{command}\b"
    assert re.search(there, source, re.MULTILINE)


@pytest.mark.timeout(900)
def test_every_other_command(pipeline: Pipeline) -> None:
    """Typed one after the other, all commands of the README end with 0."""
    commands = [command for command in _commands() if command not in RUN_ELSEWHERE]
    assert len(commands) > 15

    for command in commands:
        pipeline.run("bash", "-c", command)
    # The last one is the poison pill, for three replicas.
    containers = [*pipeline.containers("to_upper"), *pipeline.containers("printer")]
    assert [pipeline.wait_exited(each) for each in containers] == [0, 0, 0]


# Examples

_FILE = re.compile(r"^`([\w/.]+)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _code_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Copy the project, and add the README's stage to it as the README says."""
    copy = tmp_path / "project"
    leave = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, copy, ignore=leave)
    for path, text in _FILE.findall(README):
        (copy / path).parent.mkdir(exist_ok=True)
        (copy / path).write_text(text)
    (entry,) = _blocks("yaml")
    before, printer, after = COMPOSE.partition("  printer:\n")
    after = after.replace("INPUT_QUEUE: upper", "INPUT_QUEUE: loud", 1)
    (copy / "docker-compose.yml").write_text(f"{before}{entry}\n{printer}{after}")
    return copy


def test_stage_is_short() -> None:
    """A stage is at most 15 lines of Python and 8 lines of YAML."""
    files = dict(_FILE.findall(README))
    stage = [text for path, text in files.items() if path.startswith("services/")]
    (entry,) = _blocks("yaml")

    assert len(stage) == 2
    assert sum(map(_code_lines, stage)) <= 15
    assert _code_lines(entry) <= 8
    assert "`INPUT_QUEUE: loud`" in README


def test_stage_passes_the_checks(project: Path) -> None:
    """The stage and its unit test are formatted, linted and typed, and the test passes."""
    files = [path for path, _ in _FILE.findall(README)]
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
    pipeline = Pipeline(f"pipeline-test-readme-{os.getpid()}")
    try:
        yield pipeline
    finally:
        file = str(project / "docker-compose.yml")
        down = ["down", "--volumes", "--remove-orphans", "--rmi", "local", "-t", "5"]
        pipeline.compose("--file", file, "--profile", "*", *down)


def test_stage_in_the_pipeline(project: Path, other_pipeline: Pipeline) -> None:
    """With its compose entry, `make up` starts the stage and messages go through it."""
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    (project / "proxy-ca.pem").write_bytes(Path(trusted).read_bytes() if trusted else b"")

    other_pipeline.run("bash", "-c", f"cd {quote(str(project))} && CA_BUNDLE=proxy-ca.pem make up")

    other_pipeline.wait_printed(["HELLO!", "WORLD!"])


def test_package_of_a_stage_s_own(project: Path, other_pipeline: Pipeline) -> None:
    """What a stage asks for is locked by `make lock`, and is in its image only."""
    ((line, path),) = re.findall(r"the line `([^`]+)` in `([^`]+/requirements\.in)`", README)
    (project / path).write_text(f"{line}\n")

    other_pipeline.run("make", "-C", str(project), "lock")
    file = str(project / "docker-compose.yml")
    other_pipeline.compose("--file", file, "--progress", "quiet", "build", "exclaim", "to_upper")

    program = "import importlib.util as i; print(*filter(i.find_spec, ['pika', 'emoji', 'rich']))"
    python = ("docker", "run", "--rm", "--entrypoint", "python")
    found = {
        stage: other_pipeline.run(*python, f"{other_pipeline.name}-{stage}", "-c", program).stdout
        for stage in ("exclaim", "to_upper")
    }
    assert found == {"exclaim": "pika emoji\n", "to_upper": "pika\n"}


def test_library_by_itself(pipeline: Pipeline, broker: Broker, tmp_path: Path) -> None:
    """Both programs run as they stand: what the first one publishes, the second one prints."""
    programs = [text for text in _blocks("python") if "import MessageQueue" in text]
    variables = {**rabbitmq_environment(pipeline), "PYTHONPATH": str(ROOT / "shared")}
    said = ""
    try:
        for number, text in enumerate(programs):
            path = tmp_path / f"program{number}.py"
            path.write_text(text)
            said += pipeline.run(sys.executable, str(path), variables=variables).stdout
        left = broker.messages("letters")
    finally:
        broker.request("DELETE", "queues/%2F/letters")
        broker.request("DELETE", "queues/%2F/letters.dead")

    assert said.split() == ["hello", "world", "HALT"]
    assert left == 0


def test_stage_with_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example with settings of its own writes as many outputs as they say."""
    (text,) = (each for each in _blocks("python") if "class Repeat(" in each)
    names: dict[str, type[Consumer]] = {}
    exec(dedent(text), names)  # noqa: S102 - our own README
    repeat = names["Repeat"]

    assert harness(repeat).send("a").outputs == ["1: a", "2: a"]
    monkeypatch.setenv("REPEAT_TIMES", "1")
    assert harness(repeat).send("a", redelivered=True).outputs == ["1: a (again)"]


def test_stage_that_rejects() -> None:
    """The example of a failure gives up what is no number, and halves what is one."""
    (text,) = (each for each in _blocks("python") if "class Halve(" in each)
    names: dict[str, type[Consumer]] = {}
    exec(dedent(text), names)  # noqa: S102 - our own README

    assert harness(names["Halve"]).send("3").outputs == ["1.5"]
    assert harness(names["Halve"]).send("three").settled == "dead-lettered"


# Tables


def _shown(name: str, field: FieldInfo) -> str:
    """Return a setting's default as the README writes it."""
    default = field.default
    if name == "replica":
        return "host name"
    if name == "rabbitmq_port":
        return "5672, with TLS 5671"
    if default is None or default == ():
        return NONE
    if isinstance(default, tuple):
        return ",".join(f"{each:g}" for each in default)
    if hasattr(default, "get_secret_value"):
        return str(default.get_secret_value())
    return f"{default:g}" if isinstance(default, (bool, float)) else str(default)


def _passed_on() -> set[str]:
    """Return the variables that Compose takes from the shell."""
    return set(re.findall(r"\$\{(\w+)", COMPOSE)) | set(
        re.findall(r"^ +([A-Z_]+):$", COMPOSE, re.MULTILINE)
    )


def _mark(name: str) -> str:
    return "✓" if name.upper() in _passed_on() else ""


def test_table_of_settings() -> None:
    """The table has exactly the settings of every stage, with their defaults."""
    told = [row[:4] for row in _rows("| variable | shell | default | allowed | meaning |")]

    assert told == [
        [name.upper(), _mark(name), _shown(name, field), str(field.description)]
        for name, field in Settings.model_fields.items()
    ]


def test_table_of_stage_settings() -> None:
    """The table has exactly the settings that the stages add or change."""
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert set(STAGE_SETTINGS) == folders

    told = [row[:5] for row in _rows("| stage | variable | shell | default | allowed | meaning |")]

    assert sorted(told) == sorted(
        [stage, name.upper(), _mark(name), _shown(name, field), str(field.description)]
        for stage, settings in STAGE_SETTINGS.items()
        for name, field in settings.model_fields.items()
        if name in settings.__annotations__
    )


def test_table_of_compose_variables() -> None:
    """What Compose takes from the shell is in one of the tables."""
    told = {
        name for row in _rows("| variable | default | meaning |") for name in row[0].split(", ")
    }
    settings = {name.upper() for each in STAGE_SETTINGS.values() for name in each.model_fields}

    elsewhere = {"COMPOSE_PROJECT_NAME", "UP_TIMEOUT", "RABBITMQ_ERLANG_COOKIE"}
    assert told - elsewhere == _passed_on() - settings
    cluster = (ROOT / "deploy/cluster/docker-compose.cluster.yml").read_text()
    assert "${RABBITMQ_ERLANG_COOKIE:-pipeline}" in cluster
    assert "UP_TIMEOUT:-180" in (ROOT / "deploy/bin/up").read_text()
    for name, port in (("AMQP_PORT", 5672), ("MANAGEMENT_PORT", 15672)):
        assert f"${{{name}:-{port}}}" in COMPOSE


def test_paths_exist() -> None:
    """Every file that the README links to is there."""
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)

    assert links
    assert [path for path in links if not (ROOT / path).exists()] == []


def test_headings_exist() -> None:
    """Every link within the README has its heading."""
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}

    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors
