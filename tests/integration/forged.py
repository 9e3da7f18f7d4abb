"""Reports that no replica has sent, of a stage that there is not."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.broker import Broker, Outgoing

_FORGED = {
    "version": 1,
    "command_id": "c",
    "stage": "forged",
    "consumes": "one",
    "exchange": "one",
    "produces": None,
    "state": "running",
    "in_flight": 1,
    "handled": 1,
    "failed": 0,
    "since": "2026-11-25T10:00:00Z",
}


@contextmanager
def flood(broker: Broker, vhost: str) -> Iterator[threading.Event]:
    """Answer everybody's commands in the name of many, without an end."""
    ended, is_flooded = threading.Event(), threading.Event()

    def forge() -> None:
        with broker.channel(vhost) as channel:
            spy = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(spy, "control", routing_key="")
            key, number = "", 0
            while not ended.is_set():
                _, properties, _ = channel.basic_get(spy, auto_ack=True)
                key = (properties and properties.reply_to) or key
                if key:
                    reports = [
                        json.dumps({**_FORGED, "replica": f"r{number}-{each}"})
                        for each in range(500)
                    ]
                    broker.send_all(
                        channel, (Outgoing("control.replies", key, report) for report in reports)
                    )
                    number += 1
                    is_flooded.set()

    forger = threading.Thread(target=forge)
    forger.start()
    try:
        yield is_flooded
    finally:
        ended.set()
        forger.join()
