"""What stands in docker-compose.yml, and again elsewhere."""

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
CLUSTER = (ROOT / "deploy/cluster/docker-compose.cluster.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
BROKER = (ROOT / "deploy/rabbitmq/rabbitmq.conf").read_text()

_UNITS = {"g": 1 << 30, "GB": 10**9}


def _read_by_compose() -> dict[str, str]:
    """Return each variable that the files take from the shell, with its default."""
    text = COMPOSE + CLUSTER
    passed_on = re.findall(r"^ +([A-Z_]+):$", text, re.MULTILINE)
    with_default = re.findall(r"\$\{(\w+)(?::?-(\w[^}$]*)?)?", text)
    (project,) = re.findall(r"^name: (\w+)$", COMPOSE, re.MULTILINE)
    return {**dict.fromkeys(passed_on, ""), **dict(with_default), "COMPOSE_PROJECT_NAME": project}


def test_the_example_of_an_env_file_has_every_variable() -> None:
    """With the default that holds without it, as a comment: a copy of the file changes nothing."""
    told = re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)

    assert dict(told) == _read_by_compose()
    assert len(told) == len(dict(told))
    assert [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")] == []


def test_the_broker_stops_publishers_before_its_container_is_full() -> None:
    """It does not see how much its container may have: its own mark is a third below that."""
    ((amount, unit),) = re.findall(r"^ +limits: \{ memory: (\d+)(\w),.*$", COMPOSE, re.MULTILINE)
    ((mark, of),) = re.findall(
        r"^vm_memory_high_watermark.absolute = (\d+)(\w+)$", BROKER, re.MULTILINE
    )

    assert int(mark) * _UNITS[of] < int(amount) * _UNITS[unit] * 2 / 3


def test_base_images_can_be_pinned(tmp_path: Path) -> None:
    """In the shell, or in .env; what is not is what the Compose file names."""
    script = tmp_path / "deploy/bin/base-images"
    script.parent.mkdir(parents=True)
    for copy in ("deploy/bin/base-images", "docker-compose.yml"):
        shutil.copy(ROOT / copy, tmp_path / copy)
    variables = {"PATH": os.environ["PATH"]}

    def printed(**more: str) -> list[str]:
        return subprocess.check_output([script], env={**variables, **more}, text=True).split()

    python, broker = printed()
    assert (python.partition(":")[0], broker.partition(":")[0]) == ("python", "rabbitmq")
    (tmp_path / ".env").write_text("RABBITMQ_IMAGE=mirror/rabbitmq@sha256:1\n")
    assert printed() == [python, "mirror/rabbitmq@sha256:1"]
    assert printed(PYTHON_IMAGE="python@sha256:2") == [
        "python@sha256:2",
        "mirror/rabbitmq@sha256:1",
    ]
    assert printed(RABBITMQ_IMAGE="rabbitmq@sha256:3") == [python, "rabbitmq@sha256:3"]


def test_who_looks_is_on_a_network_without_stages() -> None:
    """The board and Prometheus with the broker, and the broker with the stages."""
    section = COMPOSE.split("\nservices:\n", 1)[1].split("\nnetworks:\n", 1)[0]
    parts = re.split(r"^  (\w+):$", section, flags=re.MULTILINE)[1:]
    entries = dict(zip(parts[::2], parts[1::2], strict=True))
    named = re.compile(r"^    networks: (.*)$", re.MULTILINE)
    networks = {name: found[0] for name, each in entries.items() if (found := named.findall(each))}

    looks = dict.fromkeys(("board", "prometheus", "grafana"), "[observe]")
    assert networks == {"rabbitmq": "[default, observe]", **looks}
