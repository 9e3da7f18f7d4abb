"""The news of whether the broker can be reached, and takes what is asked of it."""

import json

import pytest

from rabbit.amqp.outage_log import LONGEST_REASON, OutageLog
from rabbit.logs import logger
from rabbit.settings import Endpoint, Settings

ENDPOINT = Endpoint("localhost", 5672, "/", "guest", "guest", tls=False)

AWAY = "broker unavailable, trying again"
REFUSED = "broker refuses a channel, trying again"


def made() -> OutageLog:
    """Log as JSON, to where the test that calls this reads it."""
    return OutageLog(logger(Settings.load(log_format="json")))


def said(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str | None]]:
    """Return what has been logged: the event, and its reason or broker."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [(each["event"], each.get("reason") or each.get("broker")) for each in lines]


def test_one_line_for_each_kind_of_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Not for each attempt, not for each host, and not when two reasons alternate."""
    outage_log = made()
    outage_log.restored("a", ENDPOINT)
    for _ in range(3):
        outage_log.trouble("a", "nothing listens at one", "nothing listens")
        outage_log.trouble("a", "nothing listens at two", "nothing listens")
        outage_log.trouble("a", "no such host 'three'", "no such host")
    outage_log.restored("a", ENDPOINT)
    outage_log.restored("a", ENDPOINT)
    outage_log.trouble("a", "nothing listens at two", "nothing listens")

    assert said(capsys) == [
        (AWAY, "nothing listens at one"),
        (AWAY, "no such host 'three'"),
        ("broker available again", "localhost:5672"),
        (AWAY, "nothing listens at two"),
    ]


def test_an_outage_ends_with_the_last_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """What several connections have in common is told once; one that is no more is no outage."""
    outage_log = made()
    outage_log.trouble("a", "lost", "lost")
    outage_log.trouble("b", "lost", "lost")
    outage_log.restored("a", ENDPOINT)
    outage_log.trouble("a", "lost", "lost")
    outage_log.restored("b", ENDPOINT)
    assert outage_log.reason == "lost"
    outage_log.restored("a", ENDPOINT)
    assert outage_log.reason is None
    outage_log.trouble("a", "lost", "lost")
    outage_log.forget("a")

    assert outage_log.reason is None
    assert [event for event, _ in said(capsys)] == [AWAY, "broker available again", AWAY]


def test_a_refused_channel_is_told_once_for_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the known reason until the channel has lasted."""
    outage_log = made()
    for reason in ("queue limit", "queue limit", "timed out"):
        outage_log.refused("a", "consume 'x'", reason)
    assert outage_log.reason == "timed out"
    outage_log.accepted("a")
    outage_log.accepted("a")

    assert outage_log.reason is None
    assert said(capsys) == [
        (REFUSED, "queue limit"),
        (REFUSED, "timed out"),
        ("broker takes the channel again", None),
    ]


def test_a_reason_is_kept_in_bounds() -> None:
    """A broker may say much; a report has no room for all of it."""
    outage_log = made()
    outage_log.trouble("a", "x" * 10_000, "x")
    assert outage_log.reason == "x" * LONGEST_REASON
    outage_log.refused("b", "consume 'x'", "y" * 10_000)
    assert outage_log.reason == "y" * LONGEST_REASON
