"""What happens to the broker: it goes away, stands still, or takes nothing more."""

from tests.broker import Broker
from tests.faults.stream import PREFETCH, Stream
from tests.support.containers import frozen

_BOOTED_SECONDS = 60.0


def test_restart(stream: Stream, broker: Broker) -> None:
    """The broker is restarted in order: all come back to it."""
    stream.start()

    with stream.fault("broker restarted", source=1, worker=2, sink=1, heal_seconds=_BOOTED_SECONDS):
        broker.restart()


def test_kill(stream: Stream, broker: Broker) -> None:
    """The broker is killed: what it has confirmed is on its disk."""
    stream.start()

    with stream.fault("broker killed", source=1, worker=2, sink=1, heal_seconds=_BOOTED_SECONDS):
        broker.kill()
        broker.start()


def test_half_open(stream: Stream, broker: Broker) -> None:
    """The broker stands still for longer than the heartbeat; its connections look open."""
    stream.environment["RABBITMQ_HEARTBEAT"] = "2"
    stream.start()

    what = "broker frozen for longer than the heartbeat"
    with stream.fault(what, source=1, worker=2, sink=1), frozen(broker.container):
        for replica in stream.replicas:
            replica.wait_said("broker unavailable")


def test_memory_alarm(stream: Stream, broker: Broker) -> None:
    """The broker has no memory left: nothing moves, nobody is restarted, nothing comes twice."""
    stream.worker(TO_UPPER_DELAY=0.005)
    stream.start()
    stream.wait_backlog(2 * PREFETCH)  # only who publishes is blocked

    with stream.fault("memory alarm"), broker.memory_alarm():
        for replica in (*stream.sources, *stream.workers):
            replica.wait_said("blocked")
            assert replica.is_ready


def test_disk_alarm(stream: Stream, broker: Broker) -> None:
    """Likewise for the disk."""
    stream.worker(TO_UPPER_DELAY=0.005)
    stream.start()
    stream.wait_backlog(2 * PREFETCH)

    with stream.fault("disk alarm"):
        broker.control("set_disk_free_limit", "1000000GB")
        try:
            for replica in (*stream.sources, *stream.workers):
                replica.wait_said("blocked")
                assert replica.is_ready
        finally:
            broker.control("set_disk_free_limit", "1GB")


def test_wrong_password(stream: Stream, broker: Broker) -> None:
    """The password is changed, and changed back: one line says what to check, then all goes on."""
    stream.environment |= {"RABBITMQ_USERNAME": "rotated", "RABBITMQ_PASSWORD": "right"}
    broker.add_user("rotated", "right")
    stream.start()

    with stream.fault("password changed and back", source=1, worker=1, sink=1):
        broker.control("change_password", "rotated", "wrong")
        stream.close_connections()
        for replica in stream.replicas:
            replica.wait_said("check RABBITMQ_USERNAME")
        broker.control("change_password", "rotated", "right")
    for replica in stream.replicas:
        assert replica.said.count("check RABBITMQ_USERNAME") == 1


def test_connections_closed(stream: Stream) -> None:
    """An operator closes all connections, five times over."""
    stream.start()
    times = 5

    with stream.fault("connections closed 5 times", source=times, worker=times, sink=times):
        for _ in range(times):
            stream.close_connections()
