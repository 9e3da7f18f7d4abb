"""What Prometheus gets of a real pipeline, and what its rules and the dashboard make of it."""

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from testcontainers.core.container import DockerContainer

from services.board.answers import MOST_WAITING
from tests.board.browser import HOST, provide
from tests.board.conftest import RunningBoard
from tests.broker import Broker
from tests.conftest import Start
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.board

ROOT = Path(__file__).parents[2]
OBSERVE = ROOT / "deploy" / "observe"


def image() -> str:
    """Read Prometheus' image from the one place where it stands."""
    found = re.search(r"image: (prom/prometheus:\S+)", (ROOT / "docker-compose.yml").read_text())
    assert found, "docker-compose.yml names no image prom/prometheus:..."
    return found[1]


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    provide(image())
    mount = f"{OBSERVE}:/etc/prometheus:ro"
    command = [
        "docker",
        "run",
        "--rm",
        "-v",
        mount,
        "--entrypoint",
        "promtool",
        image(),
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "/etc/prometheus/prometheus.yml"),
        ("test", "rules", "/etc/prometheus/alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_the_configuration_and_the_rules(arguments: tuple[str, ...]) -> None:
    """They are valid, and each alert fires where it should, with these words, and not elsewhere."""
    done = _promtool(*arguments)

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_and_in_the_runbook() -> None:
    """A rule without a test, or without a word on what to do, is none."""
    alerts = _alerts()
    tested = (OBSERVE / "alerts_test.yml").read_text()
    runbook = (ROOT / "deploy" / "README.md").read_text()

    assert len(alerts) == 10
    assert [each for each in alerts if f"alertname: {each}" not in tested] == []
    assert [each for each in alerts if f"**{each}**" not in runbook] == []


def _alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", (OBSERVE / "alerts.yml").read_text())


class Prometheus:
    """A real Prometheus that scrapes a board."""

    def __init__(self, url: str) -> None:
        """Know where it is."""
        self._client = httpx.Client(base_url=url, timeout=10)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return what a query is answered with."""
        answer = self._client.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])

    def rules(self) -> dict[str, str]:
        """Return each alert, and whether its rule can be evaluated."""
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def firing(self) -> set[str]:
        """Return the alerts that fire now."""
        found = self.ask('ALERTS{alertstate="firing"}')
        return {each["metric"]["alertname"] for each in found}

    def is_scraping(self) -> bool:
        """Whether it has got something."""
        try:
            return bool(self.ask('up{job="pipeline"} == 1'))
        except (httpx.TransportError, ValueError):  # it answers in words while it starts
            return False


@pytest.fixture
def prometheus(board: RunningBoard, tmp_path: Path) -> Iterator[Prometheus]:
    """Run it with the rules as they are shipped, every second, on this board; minutes take 5 s."""
    provide(image())
    config = (OBSERVE / "prometheus.yml").read_text().replace(": 15s", ": 1s")
    config = config.replace("board:8080", f"{HOST}:{board.port}")
    (tmp_path / "prometheus.yml").write_text(config)
    rules = re.sub(r"for: \d+m", "for: 5s", (OBSERVE / "alerts.yml").read_text())
    (tmp_path / "alerts.yml").write_text(rules)
    tmp_path.chmod(0o755)
    port = free_port()
    container = DockerContainer(image()).with_kwargs(extra_hosts={HOST: "host-gateway"})
    container.with_volume_mapping(str(tmp_path), "/etc/prometheus", "ro")
    container.ports["9090"] = ("127.0.0.1", port)  # type: ignore[assignment]
    with container:
        running = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(running.is_scraping, 60, lambda: f"it scrapes: {container.get_logs()}")
        yield running


def test_every_query_of_the_dashboard_returns_data(
    prometheus: Prometheus, broker: Broker, start: Start, vhost: str
) -> None:
    """Of a pipeline that works, with failures in it; and no alert is wrong in its syntax."""
    edges: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "RETRY_DELAYS": "0.1"}
    fallible = "tests.integration.stages.fallible"
    start("-m", fallible, STAGE="to_upper", INPUT_QUEUE="my_queue", OUTPUT_QUEUE="upper", **edges)
    start(
        "-m", "services.printer", STAGE="printer", INPUT_QUEUE="upper", PRINTER_DELAY=0.2, **edges
    )
    broker.put("my_queue", ["fail", "reject", *map(str, range(400))], vhost)
    dashboard = json.loads((OBSERVE / "grafana" / "pipeline.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    assert len(queries) > 12
    for query in queries:
        wait_until(partial(prometheus.ask, query), 60, f"data of {query}")
    assert set(prometheus.rules()) == set(_alerts())
    wait_until(lambda: set(prometheus.rules().values()) == {"ok"}, 30, "each rule is evaluated")
    stages = {each["metric"]["stage"] for each in prometheus.ask("pipeline_handled_total > 0")}
    assert stages == {"to_upper", "printer"}


def test_what_an_alarm_of_the_broker_sets_off(
    prometheus: Prometheus, broker: Broker, start: Start, vhost: str
) -> None:
    """Blocked, of each stage; and nothing that would have people start or forget a replica."""
    edges: dict[str, Any] = {"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two", "RABBITMQ_VHOST": vhost}
    broker.put("one", ["1"] * 5000, vhost)
    worker = start("-m", "tests.integration.stages.relay", STAGE="relay", DELAY=0.02, **edges)
    sink: dict[str, Any] = {"STAGE": "printer", "INPUT_QUEUE": "two", "RABBITMQ_VHOST": vhost}
    start("-m", "services.printer", **sink)
    wait_until(partial(prometheus.ask, "pipeline_handled_total > 0"), 60, "it is seen to work")
    with broker.memory_alarm():
        worker.wait_log("blocked")
        wait_until(lambda: "Blocked" in prometheus.firing(), 90, lambda: f"{prometheus.firing()}")
        firing = prometheus.firing()
    wait_until(lambda: not prometheus.firing(), 90, lambda: f"{prometheus.firing()}")

    assert firing == {"Blocked"}
    ever = prometheus.ask('count_over_time(ALERTS{alertstate="firing"}[10m])')
    assert {each["metric"]["alertname"] for each in ever} == {"Blocked"}


def test_what_a_full_queue_sets_off(
    prometheus: Prometheus, broker: Broker, start: Start, vhost: str
) -> None:
    """The stage before it is refused, which is no alarm of the broker's."""
    broker.put("one", ["1"] * 100, vhost)
    start(
        "-m", "tests.integration.stages.relay",
        INPUT_QUEUE="one", OUTPUT_QUEUE="two", STAGE="relay", RABBITMQ_VHOST=vhost,
    )  # fmt: skip
    with broker.limited("two", 1, vhost):
        broker.put("one", ["1"] * 100, vhost)
        wait_until(lambda: "OutputRefused" in prometheus.firing(), 90, "it is told")

        assert "Blocked" not in prometheus.firing()  # that nobody reads it is told as well


def test_scrapes_do_not_pile_up(board: RunningBoard) -> None:
    """However many come at once, they get the same look, in OpenMetrics, or are told to wait."""
    with httpx.Client(base_url=board.url, timeout=30) as client, ThreadPoolExecutor(60) as pool:
        first = client.get("/metrics")
        answers = list(pool.map(lambda _: client.get("/metrics"), range(60)))
        after = client.get("/metrics")

    again = [each.text for each in answers if each.status_code == HTTPStatus.OK]
    assert {each.status_code for each in answers} <= {200, 503}
    assert len(again) > MOST_WAITING
    assert after.status_code == HTTPStatus.OK
    assert first.headers["content-type"].startswith("application/openmetrics-text")
    assert first.text.endswith("# EOF\n")
    assert "pipeline_broker_up 1.0" in first.text
    assert len(set(again)) <= 2
