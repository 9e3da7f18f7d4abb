"""Three brokers, secured from the beginning, through the commands that a user types."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.secured.secured import Secured
from tests.support.images import building
from tests.support.pipeline import PATIENCE_SECONDS, Pipeline, copy_of_the_project
from tests.waiting import wait_until

pytestmark = pytest.mark.thorough

AS_DECLARED = "no difference: 3 stages, all as declared, on 3 nodes\n"
BROKERS = ("rabbitmq", "rabbitmq2", "rabbitmq3")
_CLOSE = ("--quiet", "close_all_connections", "replaced")


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Secured]:
    """Secure them before they are started; nobody has to think of a cookie."""
    folder = copy_of_the_project(tmp_path)
    pipeline = Pipeline(f"pipeline-test-three-{os.getpid()}", folder)
    made = Secured(pipeline, Path(folder))
    try:
        with building():
            pipeline.compose("--profile", "*", "--progress", "quiet", "build")
        files = "docker-compose.yml:deploy/cluster/docker-compose.cluster.yml"
        pipeline.make("secure", COMPOSE_FILE=files)
        made.take()
        yield made
    finally:
        pipeline.remove()


@pytest.mark.timeout(1200)
def test_three_brokers(three: Secured) -> None:
    """Messages flow, all is as declared, and a stage reaches TLS only, at each of them."""
    pipeline = three.pipeline
    pipeline.wait_printed(["HELLO", "WORLD"])
    scan = (
        "import socket, json\n"
        "def opens(host, port):\n"
        "    with socket.socket() as tried:\n"
        "        return tried.connect_ex((host, port)) == 0\n"
        "ports = (4369, 5671, 5672, 15671, 15672, 15691, 15692, 25672)\n"
        f"print(json.dumps([port for host in {BROKERS} for port in ports if opens(host, port)]))"
    )
    found = pipeline.compose("exec", "--no-TTY", "printer", "python", "-c", scan)

    assert json.loads(found) == [5671, 15671, 15691] * 3
    # Queues that were made before the other nodes had joined get their copies a little later.
    wait_until(
        lambda: pipeline.make("doctor", check=False).stdout.endswith(AS_DECLARED),
        PATIENCE_SECONDS,
        lambda: pipeline.make("doctor", check=False).stdout,
        pause_seconds=2,
    )
    pipeline.make("secure", ROTATE="passwords")
    pipeline.make("secure", ROTATE="certificates")
    pipeline.mark()
    pipeline.make("publish", "MSG=on three")
    pipeline.wait_printed(["ON THREE"])

    # make up has nothing to do; a stage that has to connect again has the new ones.
    before = [pipeline.containers(each) for each in (*BROKERS, "printer")]
    pipeline.make("up", MESSAGES="")
    assert [pipeline.containers(each) for each in (*BROKERS, "printer")] == before
    for each in BROKERS:
        pipeline.compose("exec", "--no-TTY", each, "rabbitmqctl", *_CLOSE)
    pipeline.make("publish", "MSG=once more")
    pipeline.wait_printed(["ON THREE", "ONCE MORE"])

    # Brokers that did not run meanwhile learn them when they start.
    pipeline.make("down")
    assert "make up puts it to use" in pipeline.make("secure", ROTATE="passwords").stdout
    pipeline.make("up", MESSAGES="from new ones")
    pipeline.wait_printed(["FROM", "NEW", "ONES"])
    assert "halted 2/2" in pipeline.make("halt").stdout
