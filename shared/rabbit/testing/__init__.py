"""Run stages without a broker, for their unit tests.

One stage:

    sent = harness(ToUpper).send("hello")
    assert sent.outputs == ["HELLO"]
    assert sent.settled == "acked"

A source, until it has written three messages:

    written = harness(Clock).run(stop_after=3)
    assert len(written.outputs) == 3

Several stages, one after the other:

    passed = pipeline(ToUpper, Printer).send("hello")
    assert passed[Printer][0].message.text == "HELLO"

What comes out is what a broker would be given, and what it would do with it: ids, headers, retries
and dead letters. What needs a broker, or time, is not there: HANDLER_TIMEOUT, PREFETCH, the poison
pill, the delivery limit, and the size of a message that the broker allows.
"""

from rabbit.testing.harness import Harness, Sent, harness
from rabbit.testing.pipeline import Passed, Pipeline, pipeline
from rabbit.testing.source import SourceHarness, Written

__all__ = [
    "Harness",
    "Passed",
    "Pipeline",
    "Sent",
    "SourceHarness",
    "Written",
    "harness",
    "pipeline",
]
