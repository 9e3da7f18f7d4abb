"""HANDLER_TIMEOUT: a handler that hangs ends its replica, and its message counts as failed."""

from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.letters import letters

FALLIBLE = ("-m", "tests.integration.stages.fallible")


def test_a_handler_out_of_time_ends_its_replica(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Exit code 1; its message counts as failed, what no handler has started goes back."""
    given: dict[str, Any] = edges | {"HANDLER_TIMEOUT": 0.5, "RETRY_DELAYS": "1", "PREFETCH": 10}
    given["DRAIN_TIMEOUT"] = 300  # the end is not that of patience
    broker.put(unique("in"), ["hang", "a"])
    first = start(*FALLIBLE, **given)

    assert first.wait() == 1
    assert first.log.splitlines()[-1].startswith("fallible: work() has not returned within HAND")
    assert broker.depth(unique("out")) == 0

    second = start(*FALLIBLE, ready=False, **given)
    assert second.wait() == 1
    [letter] = letters(broker, f"{unique('in')}.dead", 1)
    assert letter.headers["x-error-type"] == "HandlerTimeoutError"
    assert letter.headers["x-attempts"] == 2
    assert [output.text for output in broker.take(unique("out"), 1)] == ["a"]
    assert [each["attempt"] for each in second.objects if each["text"] == "a"] == [1]
    assert "Traceback" not in first.log + second.log


@pytest.mark.thorough
def test_a_late_result_does_not_count(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """It comes while another handler is still waited for; its message has been given up."""
    broker.put(unique("in"), ["hang 1.8", "hang 0.9", "hang 0.95"])
    given = edges | {"HANDLER_TIMEOUT": 1, "RETRY_DELAYS": "", "CONCURRENCY": 2}
    worker = start(*FALLIBLE, **given)

    assert worker.wait() == 1

    assert [letter.body for letter in letters(broker, f"{unique('in')}.dead", 1)] == [b"hang 1.8"]
    outputs = [output.text for output in broker.take_all(unique("out"))]
    assert outputs == ["hang 0.9", "hang 0.95"]
    assert broker.depth(unique("in")) == 0
