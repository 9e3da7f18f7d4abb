"""The news of whether the broker can be reached, and takes what is asked of it."""

import json

import pytest

from rabbit.availability import LONGEST_REASON, Availability
from rabbit.logs import logger
from rabbit.settings import Endpoint, Settings

ENDPOINT = Endpoint("localhost", 5672, "/", "guest", "guest", tls=False)

AWAY = "broker unavailable, trying again"
REFUSED = "broker refuses a channel, trying again"


def made() -> Availability:
    """Log as JSON, to where the test that calls this reads it."""
    return Availability(logger(Settings.load(log_format="json")))


def said(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str | None]]:
    """Return what has been logged: the event, and its reason or broker."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [(each["event"], each.get("reason") or each.get("broker")) for each in lines]


def test_one_line_for_each_kind_of_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Not for each attempt, not for each host, and not when two reasons alternate."""
    availability = made()
    availability.restored("a", ENDPOINT)
    for _ in range(3):
        availability.trouble("a", "nothing listens at one", "nothing listens")
        availability.trouble("a", "nothing listens at two", "nothing listens")
        availability.trouble("a", "no such host 'three'", "no such host")
    availability.restored("a", ENDPOINT)
    availability.restored("a", ENDPOINT)
    availability.trouble("a", "nothing listens at two", "nothing listens")

    assert said(capsys) == [
        (AWAY, "nothing listens at one"),
        (AWAY, "no such host 'three'"),
        ("broker available again", "localhost:5672"),
        (AWAY, "nothing listens at two"),
    ]


def test_an_outage_ends_with_the_last_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """What several connections have in common is told once; one that is no more is no outage."""
    availability = made()
    availability.trouble("a", "lost", "lost")
    availability.trouble("b", "lost", "lost")
    availability.restored("a", ENDPOINT)
    availability.trouble("a", "lost", "lost")
    availability.restored("b", ENDPOINT)
    assert availability.reason == "lost"
    availability.restored("a", ENDPOINT)
    assert availability.reason is None
    availability.trouble("a", "lost", "lost")
    availability.forget("a")

    assert availability.reason is None
    assert [event for event, _ in said(capsys)] == [AWAY, "broker available again", AWAY]


def test_a_refused_channel_is_told_once_for_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the known reason until the channel has lasted."""
    availability = made()
    for reason in ("queue limit", "queue limit", "timed out"):
        availability.refused("a", reason)
    assert availability.reason == "timed out"
    availability.accepted("a")
    availability.accepted("a")

    assert availability.reason is None
    assert said(capsys) == [
        (REFUSED, "queue limit"),
        (REFUSED, "timed out"),
        ("broker takes the channel again", None),
    ]


def test_a_reason_is_kept_in_bounds() -> None:
    """A broker may say much; a report has no room for all of it."""
    availability = made()
    availability.trouble("a", "x" * 10_000, "x")
    assert availability.reason == "x" * LONGEST_REASON
    availability.refused("b", "y" * 10_000)
    assert availability.reason == "y" * LONGEST_REASON
