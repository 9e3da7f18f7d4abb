"""Limits of the broker's: told in its words, tried again with growing pauses, or the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.variations import variations
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
FALLIBLE = ("-m", "tests.integration.stages.fallible")
PASSWORD = "5e1dom-used"  # noqa: S105 - of a user of one test

REFUSED = "broker refuses a channel"


@contextmanager
def limited(broker: Broker, name: str, value: object, default: object) -> Iterator[None]:
    """Give the running broker another setting, for the time of a `with`."""
    broker.control("eval", f"application:set_env(rabbit, {name}, {value}).")
    try:
        yield
    finally:
        broker.control("eval", f"application:set_env(rabbit, {name}, {default}).")


@pytest.mark.thorough
def test_a_limit_on_queues_is_told_once_and_tried_again(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any], vhost: str
) -> None:
    """In the broker's words, by commands too; the stage gets ready when the limit is raised."""
    edges |= {"RABBITMQ_VHOST": vhost, "REPLICA": unique("replica")}
    start(*RELAY, **edges).kill()  # what it has declared stays
    broker.limit_vhost(vhost, "max-queues", 0)
    stage = start(*RELAY, ready=False, **edges | {"OUTPUT_QUEUE": unique("new")})
    words = f"queue limit in vhost '{vhost}' (0) is reached"
    wait_until(lambda: words in stage.log, 20, lambda: stage.log)

    status = start(
        *("-m", "services.control", "status"), ready=False, RABBITMQ_VHOST=vhost, HALT_TIMEOUT=3
    )
    assert status.wait() == 1  # it has no queue for the replies either
    assert "queue limit in vhost" in status.log.splitlines()[-1]
    wait_until(lambda: broker.logged(words) >= 4, 20, "several attempts")
    told = [line.partition("reason=")[2] for line in stage.log.splitlines() if REFUSED in line]
    assert len(told) == len(set(told))
    assert not stage.is_ready or "blocked" in stage.log
    broker.limit_vhost(vhost, "max-queues", None)

    wait_until(lambda: unique("new") in broker.queues(vhost), 60, "the queue is there")
    stage.wait_log("broker takes the channel again")
    assert stage.halt() == 0
    assert "Traceback" not in stage.log


@pytest.mark.thorough
def test_status_shows_what_the_broker_refuses(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any], vhost: str
) -> None:
    """A replica that hears commands says what keeps it from its work."""
    edges |= {"RABBITMQ_VHOST": vhost, "REPLICA": unique("replica")}
    start(*RELAY, **edges).kill()
    with limited(broker, "cluster_exchange_limit", 0, "infinity"):
        stage = start(*RELAY, ready=False, **edges | {"OUTPUT_QUEUE": unique("new")})
        stage.wait_log(REFUSED)
        status = start("-m", "services.control", "status", ready=False, RABBITMQ_VHOST=vhost)

        assert status.wait() == 0, status.log
        assert "exchange limit of 0 is reached" in " ".join(status.out.split())
    assert stage.halt() == 0


@pytest.mark.parametrize("most", variations([2, 1]))
def test_too_few_channels_end_the_stage(
    broker: Broker, start: Start, edges: dict[str, Any], most: int
) -> None:
    """Exit code 2, and one line, at start: not with the first message that fails."""
    with limited(broker, "channel_max", most, 2047):
        stage = start(*FALLIBLE, ready=False, **edges)

        assert stage.wait() == 2

    last = stage.log.splitlines()[-1]
    assert f"channel_max is {most}, and this process needs more channels" in last
    assert "raise channel_max in rabbitmq.conf" in last
    assert "Traceback" not in stage.log


#: What is limited, how, what the stage says, and what the broker says each time.
LIMITS: list[tuple[str, Callable[[Broker, str, str], object], str, str]] = [
    (
        "connections of the user",
        lambda broker, user, _: broker.limit_user(user, "max-connections", 0),
        "takes no more connections (NOT_ALLOWED - connection refused for user",
        "connection refused for user '{user}'",
    ),
    (
        "connections of the virtual host",
        lambda broker, _, vhost: broker.limit_vhost(vhost, "max-connections", 0),
        "takes no more connections (NOT_ALLOWED - access to vhost",
        "access to vhost '{vhost}' refused",
    ),
    (
        "channels of the user",
        lambda broker, user, _: broker.limit_user(user, "max-channels", 1),
        "closed the connection: NOT_ALLOWED - number of channels opened for user",
        "number of channels opened for user '{user}'",
    ),
    (
        "no permission",
        lambda broker, user, vhost: broker.api("DELETE", f"permissions/{vhost}/{user}"),
        "check RABBITMQ_VHOST and the user's permissions",
        "access to vhost '{vhost}' refused",
    ),
]


@pytest.mark.parametrize(
    ("limit", "told", "said"),
    variations(each[1:] for each in LIMITS),
    ids=[each[0] for each in LIMITS],
)
def test_a_limit_is_told_once_and_tried_again(
    broker: Broker,
    unique: Unique,
    start: Start,
    vhost: str,
    limit: Callable[[Broker, str, str], object],
    told: str,
    said: str,
) -> None:
    """It is not taken for a missing virtual host; the stage gets ready when it is lifted."""
    user = unique("user")
    broker.add_user(user, PASSWORD)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.api("PUT", f"permissions/{vhost}/{user}", everything)
    limit(broker, user, vhost)
    names = {"RABBITMQ_USERNAME": user, "RABBITMQ_PASSWORD": PASSWORD, "RABBITMQ_VHOST": vhost}
    edges = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    stage = start(*RELAY, ready=False, **edges, **names)
    stage.wait_log(told)
    wait_until(lambda: broker.logged(said.format(user=user, vhost=vhost)) >= 3, 20, "attempts")
    assert stage.log.count(told.partition(" (")[0]) == 1
    assert "no virtual host" not in stage.log
    for name in ("max-connections", "max-channels"):
        broker.limit_user(user, name, None)
    broker.limit_vhost(vhost, "max-connections", None)
    broker.api("PUT", f"permissions/{vhost}/{user}", everything)

    stage.wait_ready(60)
    assert stage.halt() == 0
    assert "Traceback" not in stage.log


@pytest.mark.thorough
def test_a_limit_on_the_nodes_connections_is_told(
    broker: Broker, start: Start, edges: dict[str, Any]
) -> None:
    """That of the whole broker."""
    with limited(broker, "connection_max", 0, "infinity"):
        stage = start(*RELAY, ready=False, **edges)
        stage.wait_log("takes no more connections (NOT_ALLOWED - connection refused: node")

    stage.wait_ready(60)
    assert stage.halt() == 0


@pytest.mark.thorough
def test_small_frames_stop_nothing(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """With a frame_max of 8192, headers that leave no room for ours are a dead letter as it is."""
    large = {"mine": (8192 - 100) * "x"}
    with limited(broker, "frame_max", 8192, 131072):
        broker.put(unique("in"), ["fail 99"], headers=large)
        broker.put(unique("in"), ["a" * 50_000, "b"])
        stage = start(*FALLIBLE, **edges)
        wait_until(lambda: broker.depth(unique("out")) == 2, 20, "the others are handled")

        wait_until(lambda: broker.depth(f"{unique('in')}.dead") == 1, 20, lambda: stage.log)
        [letter] = broker.take(f"{unique('in')}.dead", 1)

        assert dict(letter.headers).get("mine") == large["mine"]
        assert stage.halt() == 0
    assert "broker unavailable" not in stage.log
