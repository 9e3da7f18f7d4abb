"""What goes wrong while messages flow, secured: nothing is lost, and all come back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.secured.secured import Secured
from tests.support.pipeline import PATIENCE_SECONDS, Pipeline
from tests.waiting import wait_until

LINES = 20_000


def restart(secured: Secured) -> None:
    """Stop the broker in order, and start it again."""
    secured.pipeline.compose("restart", "rabbitmq")


def kill(secured: Secured) -> None:
    """Take the broker's power away, and start it again."""
    secured.pipeline.compose("kill", "rabbitmq")
    secured.pipeline.compose("start", "rabbitmq")


def cut_off(secured: Secured) -> None:
    """Take a stage off the network, and put it back."""
    pipeline = secured.pipeline
    (stage,) = pipeline.containers("to_upper")
    pipeline.run("docker", "network", "disconnect", f"{pipeline.name}_default", stage)
    pipeline.make("secure", ROTATE="passwords")
    pipeline.run("docker", "network", "connect", f"{pipeline.name}_default", stage)


def rotate(secured: Secured) -> None:
    """Replace everything, and close all connections, twice."""
    for what in ("passwords", "certificates"):
        secured.pipeline.make("secure", ROTATE=what)
        close = ("rabbitmqctl", "close_all_connections", "replaced")
        secured.pipeline.compose("exec", "--no-TTY", "rabbitmq", *close)


@pytest.mark.parametrize("fault", [restart, kill, cut_off, rotate])
def test_nothing_is_lost(
    secured: Secured, pipeline: Pipeline, fault: Callable[[Secured], None]
) -> None:
    """Every line is printed, whatever happens while it is on its way, and none that is not one."""
    lines = [f"{fault.__name__} {number}" for number in range(LINES)]
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(pipeline.publish, lines)
        wait_until(pipeline.all_printed, PATIENCE_SECONDS, "the first ones are printed")
        fault(secured)
        publishing.result()

    expected = {line.upper() for line in lines}
    wait_until(
        lambda: expected <= set(pipeline.all_printed()),
        PATIENCE_SECONDS,
        lambda: f"{len({*pipeline.all_printed()})} of {LINES} have come",
    )
    assert set(pipeline.all_printed()) == expected
    assert "halted 2/2" in pipeline.make("halt").stdout
