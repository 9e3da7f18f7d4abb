"""What can be said of a connection without a broker."""

import json

import pytest

from rabbit.connection import Availability, is_hopeless
from rabbit.logs import logger
from rabbit.settings import Settings


def test_one_line_per_change(capsys: pytest.CaptureFixture[str]) -> None:
    """Attempts that fail for the same reason are not told again; another reason is."""
    settings = Settings.load(log_format="json")
    availability = Availability(logger(settings))
    [endpoint] = settings.endpoints
    availability.restored(endpoint)
    for reason in ("no such host", "no such host", "refused", "refused"):
        availability.trouble(reason)
    availability.restored(endpoint)
    availability.restored(endpoint)
    availability.trouble("refused")

    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(each["event"], each.get("reason") or each.get("broker")) for each in said] == [
        ("broker unavailable, trying again", "no such host"),
        ("broker unavailable, trying again", "refused"),
        ("broker available again", "localhost:5672"),
        ("broker unavailable, trying again", "refused"),
    ]


@pytest.mark.parametrize(
    ("code", "text", "hopeless"),
    [
        (403, "ACCESS_REFUSED - read access to queue 'upper' in vhost '/' refused", True),
        (406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'upper'", True),
        (406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out", False),
        (404, "NOT_FOUND - no queue 'upper' in vhost '/'", False),
        (320, "CONNECTION_FORCED - broker forced connection closure", False),
    ],
)
def test_what_trying_again_does_not_cure(code: int, text: str, *, hopeless: bool) -> None:
    """A missing permission, or a queue that exists with other arguments."""
    assert hopeless == is_hopeless(code, text)
