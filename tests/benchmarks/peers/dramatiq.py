"""Dramatiq: https://dramatiq.io, guide and RabbitmqBroker.

The next stage is an actor of the output queue, as a Dramatiq user would call it.
"""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.cli import main, make_argument_parser

from . import INPUT, OUTPUT, QUEUE_TYPE, URL, text

#: It waits for each confirm, so it is threads that overlap.
_THREADS = 16
_PREFETCH = 200


class _Broker(RabbitmqBroker):
    """It leaves the type of a queue to the broker's default, and has no setting for it."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": QUEUE_TYPE}


broker = _Broker(url=URL, confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=INPUT)
def upper(message: str) -> None:
    """Hand the message on in upper case."""
    store.send(message.upper())


@dramatiq.actor(queue_name=OUTPUT)
def store(message: str) -> None:
    """Stand for the next stage: it is called, never run."""


def send() -> None:
    """Send one message."""
    broker.declare_queue(OUTPUT, ensure=True)
    upper.send(text())


def documented() -> None:
    """At least once: confirm_delivery, ack when the actor has returned; default processes."""
    _work()


def tuned() -> None:
    """At least once, as documented: one process, 16 threads, 200 messages prefetched."""
    os.environ["dramatiq_queue_prefetch"] = str(_PREFETCH)  # noqa: SIM112 - its own spelling
    _work("--processes=1", f"--threads={_THREADS}")


def _work(*arguments: str) -> None:
    arguments = (f"{__name__}:broker", *arguments, "--queues", INPUT)
    main(make_argument_parser().parse_args(arguments))
