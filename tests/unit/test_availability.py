"""The news of whether the broker can be reached."""

import json

import pytest

from rabbit.availability import Availability
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
