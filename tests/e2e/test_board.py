"""The board and Prometheus as a user gets them, in containers; `make test-board` runs these."""

from http import HTTPStatus
from typing import Any

import httpx
import pytest

from tests.support.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = [pytest.mark.board, pytest.mark.timeout(900)]


def _log_in(pipeline: Pipeline, user: str, password: str) -> httpx.Response:
    url = f"http://127.0.0.1:{pipeline.board_port}/api/login"
    return httpx.post(url, json={"user": user, "password": password}, timeout=30)


@pytest.mark.runs(
    "make board",
    'docker compose exec -T rabbitmq rabbitmqctl add_user ada <<<"a-long-password"',
    "docker compose exec -T rabbitmq rabbitmqctl set_user_tags ada policymaker",
    "docker compose exec -T rabbitmq rabbitmqctl set_permissions ada '^$' '^$' '.*'",
)
def test_the_pipeline_s_user_may_look_and_one_that_is_made_may_act(
    pipeline: Pipeline, request: pytest.FixtureRequest
) -> None:
    """It says where it is; nobody else gets in."""
    runs = request.node.get_closest_marker("runs").args
    said = [pipeline.run("bash", "-c", command).stdout for command in runs]

    assert f"http://127.0.0.1:{pipeline.board_port}" in said[0]
    assert _log_in(pipeline, "pipeline", "pipeline").json()["may_act"] is False
    assert _log_in(pipeline, "ada", "a-long-password").json()["may_act"] is True
    assert _log_in(pipeline, "ada", "another").status_code == HTTPStatus.FORBIDDEN


@pytest.mark.runs("make observe")
def test_prometheus_learns_from_the_board_and_the_broker(pipeline: Pipeline) -> None:
    """Both are scraped, and all stages are there."""
    pipeline.make("observe")

    def asked(query: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{pipeline.prometheus_port}/api/v1/query"
        try:
            return list(httpx.get(url, params={"query": query}).json()["data"]["result"])
        except (httpx.TransportError, ValueError, KeyError):  # it starts
            return []

    wait_until(lambda: len(asked("up == 1")) == 2, 90, lambda: f"both are up: {asked('up')}")
    wait_until(lambda: asked('pipeline_replicas{stage="printer"} == 1'), 90, "the printer is there")
