"""What happens to the network between a stage and the broker."""

import pytest

from tests.broker import Broker
from tests.faults.network import flap, flapping_line, slow_line, swallowed
from tests.faults.stream import Stream
from tests.support.containers import Container

#: A slow line: a round trip takes 0.4 s.
_LATENCY_SECONDS = 0.2
_BYTES_PER_SECOND = 1e6 / 8


#: A line that is cut four times a second.
_CUTS_PER_SECOND = 4
_FLAPPING_SECONDS = 30
#: Two connections of each of three stages; after the first few attempts, each has a pause of five
#: seconds on average.
_MOST_CONNECTS = 6 * 16


@pytest.fixture
def host(broker: Broker) -> Container:
    """The broker's container."""
    return Container(broker.container)


@pytest.mark.parametrize("stage", ["source", "worker", "sink"])
def test_packets_dropped(stream: Stream, host: Container, stage: str) -> None:
    """Packets vanish in both directions, without an error: the heartbeat finds out."""
    stream.environment["RABBITMQ_HEARTBEAT"] = "2"
    stream.start()
    (victim,) = {"source": stream.sources, "worker": stream.workers, "sink": stream.sinks}[stage]

    with (
        stream.fault(f"packets dropped at the {stage}", **{stage: 1}),
        swallowed(stream.containers, victim, host),
    ):
        victim.wait_said("broker unavailable")
        stream.wait_disconnected(victim)


def test_network_disconnected(stream: Stream) -> None:
    """A worker is taken off the network and put back."""
    stream.environment["RABBITMQ_HEARTBEAT"] = "2"
    stream.start()
    (worker,) = stream.workers

    with (
        stream.fault("a worker's network disconnected", worker=1),
        worker.disconnected(stream.containers.network),
    ):
        worker.wait_said("broker unavailable")
        stream.wait_disconnected(worker)


def test_slow_line(stream: Stream, broker: Broker) -> None:
    """200 ms each way and 1 Mbit/s: all stages keep up, and nothing comes twice."""
    with slow_line(stream.containers, broker.name, _LATENCY_SECONDS, _BYTES_PER_SECOND) as proxy:
        stream.environment["RABBITMQ_HOST"] = proxy
        with stream.fault("200 ms and 1 Mbit/s"):
            stream.start()
        for replica in stream.replicas:
            assert "broker unavailable" not in replica.said


def test_flapping_line(stream: Stream, broker: Broker) -> None:
    """Cut four times a second: connects become rare, and no message pays for it.

    What was delivered on a connection that is lost counts towards its delivery limit; the
    account has no dead letters in it.
    """
    line = flapping_line(stream.containers, broker.name, _CUTS_PER_SECOND, _FLAPPING_SECONDS)
    with line as proxy:
        stream.environment["RABBITMQ_HOST"] = str(proxy.raw.name)
        stream.start()
        losses = 20
        with stream.fault("line cut 4 times a second", source=losses, worker=losses, sink=losses):
            connects = flap(proxy, _FLAPPING_SECONDS)

        assert connects <= _MOST_CONNECTS
        for replica in stream.replicas:
            told = replica.said.count("broker unavailable")
            assert 1 <= told <= 4, replica.said  # one for each kind of reason there was
