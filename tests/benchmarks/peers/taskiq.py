"""Taskiq with taskiq-aio-pika: https://taskiq-python.github.io, guide, CLI, available brokers.

The next stage is a task of the output queue, as a Taskiq user would call it. Taskiq takes uvloop
by itself when it is installed, as it is here.
"""

import asyncio
import os

from taskiq import TaskiqEvents, TaskiqState
from taskiq.cli.worker.args import WorkerArgs
from taskiq.cli.worker.run import run_worker
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

from . import INPUT, OUTPUT, QUEUE_TYPE, URL, text

_IN_FLIGHT = 500
_QOS = "TASKIQ_QOS"


def _broker(name: str, **options: int) -> AioPikaBroker:
    kind = QueueType(QUEUE_TYPE)
    return AioPikaBroker(
        URL,
        exchange=Exchange(name=f"{name}.exchange"),
        task_queues=[Queue(name=name, type=kind)],
        dead_letter_queue=Queue(name=f"{name}.dead", type=kind),
        **options,
    )


# The worker processes import this module again; the environment tells them what was chosen.
broker = _broker(INPUT, **({"qos": int(os.environ[_QOS])} if _QOS in os.environ else {}))
target = _broker(OUTPUT)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _open_target(_: TaskiqState) -> None:
    await target.startup()


@broker.task
async def upper(message: str) -> None:
    """Hand the message on in upper case."""
    await store.kiq(message.upper())


@target.task
async def store(message: str) -> None:
    """Stand for the next stage: it is called, never run."""


def send() -> None:
    """Send one message."""
    asyncio.run(_send())


async def _send() -> None:
    for each in (broker, target):
        await each.startup()
    await upper.kiq(text())
    for each in (broker, target):
        await each.shutdown()


def documented() -> None:
    """At least once: publisher confirms (always on), ack when the task has ended; its defaults."""
    _work()


def tuned() -> None:
    """At least once, as documented: one process, 500 tasks at a time, no log line a message."""
    os.environ[_QOS] = str(_IN_FLIGHT)
    _work("--workers=1", f"--max-async-tasks={_IN_FLIGHT}", "--no-parse", "--log-level=WARNING")


def _work(*arguments: str) -> None:
    run_worker(WorkerArgs.from_cli([f"{__name__}:broker", *arguments]))
