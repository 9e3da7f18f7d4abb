"""What an operator does to stages while messages flow."""

import pytest

from tests.faults.stream import Stream

_RESTARTS = 25  # more often than the broker gives out a message whose handling failed
_REPLICAS = 8


@pytest.mark.timeout(900)
def test_rolling_restart(stream: Stream) -> None:
    """Each stage is restarted 25 times under load: that is no failure of any message."""
    stream.source(RATE=100)
    stream.start()

    with stream.fault("rolling restart, 25 times"):
        for _ in range(_RESTARTS):
            for replica in stream.replicas:
                replica.restart()
                replica.wait_ready()


@pytest.mark.timeout(600)
def test_scale_up_and_down(stream: Stream) -> None:
    """Worker and sink go from 1 replica to 8 and back, as compose does: the newest go first."""
    stream.start()

    with stream.fault("scaled from 1 to 8 and back"):
        for _ in range(_REPLICAS - 1):
            stream.worker()
            stream.sink()
        stream.wait_flowing()
        for replica in (*reversed(stream.workers[1:]), *reversed(stream.sinks[1:])):
            assert replica.halt() == 0
        stream.retire(*stream.workers[1:], *stream.sinks[1:])
