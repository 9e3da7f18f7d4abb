"""The board and Prometheus, of a secured pipeline: they look over TLS, as users of their own."""

import json
from collections.abc import Iterator
from time import time
from typing import Any

import httpx
import pytest

from tests.board.browser import provide
from tests.board.conftest import Page
from tests.board.test_observe import Prometheus, image
from tests.secured.secured import Secured
from tests.support.pipeline import PATIENCE_SECONDS
from tests.waiting import wait_until

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def observed(secured: Secured) -> Iterator[Secured]:
    """Start Prometheus, and with it the board; stop them in the end."""
    provide(image())
    secured.pipeline.start()
    secured.pipeline.make("observe")
    yield secured
    secured.pipeline.compose(
        "--profile", "observe", "rm", "--stop", "--force", "board", "prometheus"
    )


def picture(page: Page) -> dict[str, Any]:
    """Return the pipeline as the page is sent it first."""
    with page.client.stream("GET", "/api/events") as answer:
        lines = answer.iter_lines()
        while next(lines) != "event: picture":
            pass
        return dict(json.loads(next(lines).removeprefix("data: ")))


def test_the_page_has_the_pipeline(observed: Secured) -> None:
    """An administrator of the broker logs in, sees both stages, and halts one with proof."""
    pipeline = observed.pipeline
    page = Page(f"http://127.0.0.1:{pipeline.board_port}")
    page.log_in("administrator", observed.secret("passwords/administrator"))

    wait_until(
        lambda: len(picture(page)["rows"]) >= 2, PATIENCE_SECONDS, lambda: str(picture(page))
    )
    assert picture(page)["broker"]["why"] is None
    assert page.post("/api/act", {"verb": "halt", "target": "printer"}).is_success
    (printer,) = pipeline.containers("printer")
    assert pipeline.wait_exited(printer) == 0
    page.close()
    pipeline.start()


def test_prometheus_scrapes_the_board_and_the_broker(observed: Secured) -> None:
    """The broker's exporter over TLS, with a login of its own; also once that is replaced."""
    prometheus = Prometheus(f"http://127.0.0.1:{observed.pipeline.prometheus_port}")

    def are_scraped(since: float) -> bool:
        """Tell whether both have answered after this time."""
        try:
            up = prometheus.ask(f"up == 1 and timestamp(up) > {since}")
        except (httpx.TransportError, ValueError):  # it is about to start
            return False
        return {each["metric"]["job"] for each in up} == {"pipeline", "rabbitmq"}

    wait_until(lambda: are_scraped(0), PATIENCE_SECONDS, "both are scraped")
    (up,) = prometheus.ask("pipeline_broker_up")
    assert up["value"][1] == "1"
    assert prometheus.ask("pipeline_certificate_end_timestamp_seconds")
    assert prometheus.ask("rabbitmq_build_info")
    observed.pipeline.make("secure", ROTATE="passwords")
    observed.pipeline.make("secure", ROTATE="certificates")
    now = time()
    wait_until(
        lambda: are_scraped(now),
        PATIENCE_SECONDS,
        lambda: f"scraped with a new password and a new CA: {prometheus.ask('up')}",
    )


def test_a_stage_does_not_get_at_them(observed: Secured) -> None:
    """They are on another network, where their names are known."""
    for host, port in (("board", 8080), ("prometheus", 9090), ("rabbitmq", 5671)):
        look = f"import socket; socket.create_connection(({host!r}, {port}), 5)"
        command = ("docker", "compose", "exec", "--no-TTY", "printer", "python", "-c", look)
        done = observed.pipeline.run(*command, check=False)

        assert (done.returncode == 0) is (host == "rabbitmq")
