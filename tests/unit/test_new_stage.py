"""`make stage` writes a stage, and harms nothing that is there already."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CLUSTER = "deploy/cluster/docker-compose.cluster.yml"
COMPOSE = """\
# What all of them share: INPUT_QUEUE: none
services:
  rabbitmq:
    image: rabbitmq

  producer:
    <<: *stage
    environment:
      <<: *settings
      OUTPUT_QUEUE: my_queue

  to_upper:
    <<: *stage
    environment: { <<: *settings, INPUT_QUEUE: my_queue, OUTPUT_QUEUE: upper }

  # What it prints is escaped.
  printer:
    <<: *stage
    environment:
      <<: *settings
      INPUT_QUEUE: upper # in capitals
      PRINTER_DELAY: 0

  # Not part of the flow
  control:
    <<: *stage

volumes:
  rabbitmq:
"""
STACK = """\
services:
  rabbitmq:
    <<: *broker

  printer:
    <<: *stage
    environment:
      <<: *settings
      INPUT_QUEUE: upper

  control:
    <<: *stage

secrets:
  password_printer: { file: ../../secrets/passwords/printer }
  password_control: { file: ../../secrets/passwords/control }
"""
BASE, KEDA = "deploy/kubernetes/base/stages", "deploy/kubernetes/keda"


def _make_stage(project: Path, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", "stage", f"NAME={name}"],
        cwd=project,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def _files(project: Path) -> dict[str, str]:
    """Return every file with what is in it."""
    files = (path for path in project.rglob("*") if path.is_file())
    return {str(path.relative_to(project)): path.read_text() for path in files}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """As much of the project as a new stage has to do with."""
    for folder in ("deploy/bin", "deploy/cluster", "services/printer", "tests/unit/services"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("Makefile", "deploy/bin/stage"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "docker-compose.yml").write_text(COMPOSE)
    (tmp_path / CLUSTER).write_text("services:\n  printer: *stage\n  control: *stage\n")
    return tmp_path


def test_it_writes_a_stage_its_test_and_its_entry(project: Path) -> None:
    """At most 15 lines of Python and 8 of YAML; of the rest, one word: what the printer reads."""
    before = _files(project)

    done = _make_stage(project, "add_2x")

    assert done.returncode == 0, done.stderr
    after = _files(project)
    stage = {"services/add_2x/__init__.py", "services/add_2x/__main__.py"}
    assert after.keys() - before.keys() == stage | {"tests/unit/services/test_add_2x.py"}
    assert "class Add2x(Worker):" in after["services/add_2x/__init__.py"]
    lines = [line for path in stage for line in after[path].splitlines() if line]
    assert len(lines) <= 15
    old, new = (each["docker-compose.yml"].splitlines() for each in (before, after))
    start = new.index("  add_2x:")
    entry = new[start : new.index("", start)]
    assert len(entry) <= 8
    assert "INPUT_QUEUE: upper, OUTPUT_QUEUE: add_2x" in entry[-1]
    rest = new[:start] + new[start + len(entry) + 1 :]
    changed = [pair for pair in zip(old, rest, strict=True) if pair[0] != pair[1]]
    assert changed == [
        ("      INPUT_QUEUE: upper # in capitals", "      INPUT_QUEUE: add_2x # in capitals")
    ]
    assert new[start + len(entry) + 1] == "  # What it prints is escaped."


def test_with_three_brokers_it_knows_all_of_them(project: Path) -> None:
    """The Compose file of the cluster has it, with what all stages have there."""
    assert _make_stage(project, "exclaim").returncode == 0

    assert (project / CLUSTER).read_text() == (
        "services:\n  printer: *stage\n  exclaim: *stage\n  control: *stage\n"
    )


@pytest.fixture
def everywhere(project: Path) -> Path:
    """The project, with what Swarm and Kubernetes have in place of docker-compose.yml."""
    for folder in ("deploy/swarm", BASE, KEDA):
        (project / folder).mkdir(parents=True)
    (project / "deploy/swarm/stack.yml").write_text(STACK)
    (project / "deploy/swarm/cluster.yml").write_text("services:\n  control: *stage\n")
    resources = "resources: [rabbitmq.yaml, printer.yaml, common.yaml]\n"
    for folder in (BASE, KEDA):
        (project / folder / "kustomization.yaml").write_text(resources)
    (project / BASE / "printer.yaml").write_text("env: [{ name: INPUT_QUEUE, value: upper }]\n")
    (project / KEDA / "printer.yaml").write_text("a: { name: printer }\nqueueName: upper\n")
    return project


def test_swarm_has_it_too(everywhere: Path) -> None:
    """An entry in front of that of the printer, a password, and all brokers."""
    assert _make_stage(everywhere, "add_2x").returncode == 0

    changed = (everywhere / "deploy/swarm/stack.yml").read_text()
    lines = changed.splitlines()
    start, printer = lines.index("  add_2x:"), lines.index("  printer:")
    entry = lines[start:printer]
    assert "-add_2x:${TAG:-latest}" in entry[2]
    queues = ["      INPUT_QUEUE: upper", "      OUTPUT_QUEUE: add_2x"]
    assert [line for line in entry if "QUEUE" in line] == queues
    assert "      - { source: password_add_2x, target: rabbitmq_password }" in entry
    secret = next(line for line in lines if line.startswith("  password_add_2x: "))
    assert secret.endswith("file: ../../secrets/passwords/add_2x }")
    rest = [line for line in (*lines[:start], *lines[printer:]) if line != secret]
    assert rest == STACK.replace("INPUT_QUEUE: upper", "INPUT_QUEUE: add_2x").splitlines()
    cluster = (everywhere / "deploy/swarm/cluster.yml").read_text()
    assert cluster == "services:\n  add_2x: *stage\n  control: *stage\n"


def test_kubernetes_has_it_too(everywhere: Path) -> None:
    """A file of at most 25 lines, without _ in its name, and one for KEDA; both are listed."""
    assert _make_stage(everywhere, "add_2x").returncode == 0

    after = _files(everywhere)
    stage = after[f"{BASE}/add-2x.yaml"]
    assert len(stage.splitlines()) <= 25
    assert "metadata: { name: add-2x, labels: { stage: add_2x } }" in stage
    assert "{ name: INPUT_QUEUE, value: upper }" in stage
    assert "{ name: OUTPUT_QUEUE, value: add_2x }" in stage
    assert "secretName: add-2x" in stage
    assert after[f"{KEDA}/add-2x.yaml"] == "a: { name: add-2x }\nqueueName: upper\n"
    assert after[f"{KEDA}/printer.yaml"] == "a: { name: printer }\nqueueName: add_2x\n"
    assert after[f"{BASE}/printer.yaml"] == "env: [{ name: INPUT_QUEUE, value: add_2x }]\n"
    for folder in (BASE, KEDA):
        listed = "resources: [rabbitmq.yaml, add-2x.yaml, printer.yaml, common.yaml]\n"
        assert after[f"{folder}/kustomization.yaml"] == listed


def test_a_second_one_comes_after_the_first(project: Path) -> None:
    """They stand in flow order: each reads what the one before it writes."""
    for name in ("one", "two"):
        assert _make_stage(project, name).returncode == 0

    compose = (project / "docker-compose.yml").read_text()
    places = [compose.index(f"\n  {each}:\n") for each in ("to_upper", "one", "two", "printer")]
    assert places == sorted(places)
    assert "INPUT_QUEUE: one, OUTPUT_QUEUE: two" in compose
    assert "      INPUT_QUEUE: two #" in compose


def test_where_it_belongs_must_be_plain(project: Path) -> None:
    """With two sinks only a person knows: the entry is printed, and the file stays as it is."""
    compose = project / "docker-compose.yml"
    text = COMPOSE.replace(", OUTPUT_QUEUE: upper", "")
    compose.write_text(text)

    said = _make_stage(project, "exclaim").stdout

    assert "  exclaim:\n    <<: *stage\n" in said
    assert compose.read_text() == text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "usage: make stage NAME=exclaim"),
        ("Exclaim", "Exclaim cannot be the name of a stage: lower-case letters"),
        ("2fast", "lower-case letters"),
        ("a__b", "lower-case letters"),
        ("a_", "lower-case letters"),
        ("../there", "lower-case letters"),
        ("two words", "lower-case letters"),
        ("x" * 31, "up to 30"),
        ("class", "it means something to Python"),
        ("null", "it means something to Python"),
        ("worker", "it is a kind of them"),
        ("printer", "services/printer is there already: nothing was changed."),
        ("rabbitmq", "has a service rabbitmq already"),
        ("my_queue", "has a queue my_queue already"),
        ("upper", "has a queue upper already"),
    ],
)
def test_a_name_that_will_not_do(project: Path, name: str, reason: str) -> None:
    """One line that says why; nothing is written."""
    before = _files(project)

    done = _make_stage(project, name)

    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert done.returncode != 0
    assert len(said) == 1
    assert reason in said[0]
    assert _files(project) == before
