"""What keeps a halt from being proved is named, each with its reason."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start
from tests.integration.proxy import Proxy
from tests.process import Process
from tests.waiting import wait_until

GHOST = "control.ghost.g"

Ghost = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def halt(start: Start, vhost: str) -> Callable[..., Process]:
    """Give a function that begins a halt."""

    def begin(*arguments: str, **variables: Any) -> Process:
        command = ("-m", "services.control", "halt", *arguments)
        return start(*command, ready=False, RABBITMQ_VHOST=vhost, **variables)

    return begin


@pytest.fixture
def ghost(broker: Broker, vhost: str) -> Ghost:
    """Give a function that makes the control queue of a replica which never answers."""

    @contextmanager
    def made(*, is_bound: bool) -> Any:
        with broker.channel(vhost) as channel:
            channel.exchange_declare("control", "fanout", durable=True)
            arguments = {"x-queue-type": "quorum", "x-expires": 600_000, "x-delivery-limit": -1}
            channel.queue_declare(GHOST, durable=True, arguments=arguments)
            if is_bound:
                channel.queue_bind(GHOST, "control")
            yield

    return made


def command_arrives(broker: Broker, vhost: str) -> None:
    """Wait until the halt has reached the ghost's queue."""
    wait_until(lambda: broker.depth(GHOST, vhost), 30, "the command has arrived")


def test_one_that_has_ended_without_a_word(
    broker: Broker, vhost: str, ghost: Ghost, halt: Callable[..., Process]
) -> None:
    """Its control queue goes away, and it has not said `halted`: that is no proof."""
    with ghost(is_bound=True):
        attempt = halt("--timeout", "20")
        command_arrives(broker, vhost)
        # It asks again once a second: after the second command it has seen who is there.
        wait_until(lambda: broker.depth(GHOST, vhost) > 1, 30, "it has seen the ghost")
        with broker.channel(vhost) as channel:
            channel.queue_delete(GHOST)

        assert attempt.wait(60) == 1
    assert attempt.out.startswith("halted 0/1")
    assert "not proved halted: ghost/g: has ended without a word" in attempt.out


def test_one_that_is_out_of_reach(
    broker: Broker, vhost: str, ghost: Ghost, halt: Callable[..., Process]
) -> None:
    """Its queue is not bound to the exchange, and this user may not bind it: told so."""
    broker.add_user("narrow", "narrow", tags="monitoring")
    own = r"^control$|^control\.replies"
    rights = {"configure": own, "write": own, "read": "^control.*"}
    broker.api("PUT", f"permissions/{vhost}/narrow", rights)
    login = {"RABBITMQ_USERNAME": "narrow", "RABBITMQ_PASSWORD": "narrow"}

    with ghost(is_bound=False):
        attempt = halt("--timeout", "5", **login)

        assert attempt.wait(60) == 1
    assert f"ghost/g: out of reach: cannot bind '{GHOST}': 403" in attempt.out, attempt.log


@pytest.mark.thorough
def test_a_broker_that_freezes_meanwhile(
    broker: Broker, vhost: str, ghost: Ghost, halt: Callable[..., Process]
) -> None:
    """The first of two hosts: the halt goes on by the other one, and ends in its time."""
    with ghost(is_bound=True), Proxy(broker.port) as first:
        hosts = f"127.0.0.1:{first.port},127.0.0.1:{broker.port}"
        attempt = halt("--timeout", "15", RABBITMQ_HOST=hosts, RABBITMQ_HEARTBEAT=1)
        command_arrives(broker, vhost)
        assert first.accepted
        first.freeze()

        assert attempt.wait(60) == 1
    assert "not proved halted: ghost/g: cut off or killed" in attempt.out
    assert "Traceback" not in attempt.log
