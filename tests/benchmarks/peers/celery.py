"""Celery: https://docs.celeryq.dev, "Should I use retry or acks_late?", quorum queues, optimizing.

The next stage is a task in the output queue, as a Celery user would call it.
"""

import celery
from kombu import Queue

from . import INPUT, OUTPUT, QUEUE_TYPE, URL, text

_THREADS = 16


def _queue(name: str) -> Queue:
    return Queue(name, queue_arguments={"x-queue-type": QUEUE_TYPE})


app = celery.Celery("relay", broker=URL)
app.conf.update(
    task_queues=[_queue(INPUT), _queue(OUTPUT)],
    task_default_queue_type=QUEUE_TYPE,
    task_default_exchange_type="direct",
    task_routes={"relay.upper": {"queue": INPUT}, "relay.store": {"queue": OUTPUT}},
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    # The broker refuses the transient queues of Celery's own messages (RabbitMQ 4.3).
    worker_enable_remote_control=False,
)


@app.task(name="relay.upper")
def upper(message: str) -> None:
    """Hand the message on in upper case."""
    store.delay(message.upper())


@app.task(name="relay.store")
def store(message: str) -> None:
    """Stand for the next stage: it is called, never run."""


def send() -> None:
    """Send one message."""
    with app.connection_for_write() as connection:
        for name in (INPUT, OUTPUT):
            _queue(name)(connection.default_channel).declare()
    upper.delay(text())


def documented() -> None:
    """At least once: acks_late, reject_on_worker_lost, confirm_publish; the default pool."""
    _work()


def tuned() -> None:
    """At least once, as documented: 16 threads, 32 messages prefetched for each."""
    app.conf.worker_prefetch_multiplier = 32
    _work("--pool=threads", f"--concurrency={_THREADS}")


def _work(*arguments: str) -> None:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    app.worker_main(["worker", f"--queues={INPUT}", *quiet, *arguments])
