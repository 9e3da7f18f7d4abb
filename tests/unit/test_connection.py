"""What can be said of a connection without a broker."""

import json

import pytest

from rabbit.connection import Availability, explain_refusal, is_hopeless
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


REFUSALS = [
    (
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': "
            "received the value 'quorum' of type 'longstr' but current is the value 'classic' of "
            "type 'longstr'"
        ),
        "queue 'q' exists with another x-queue-type: 'quorum' is declared, 'classic' is there.",
        "set QUEUE_TYPE",
    ),
    (
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'a.dead' in vhost "
            "'/': received the value '-1' of type 'signedint' but current is none"
        ),
        "queue 'a.dead' exists with another x-delivery-limit: '-1' is declared, none is there.",
        "delete the queue, a queue once it is empty",
    ),
    (
        (
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'a' in vhost '/': received "
            "'direct' but current is 'fanout'"
        ),
        "exchange 'a' exists with another type: 'direct' is declared, 'fanout' is there.",
        "OUTPUT_KIND, INPUT_KIND",
    ),
]


@pytest.mark.parametrize(("text", "told", "cure"), REFUSALS)
def test_a_refusal_says_what_differs_and_what_to_do(text: str, told: str, cure: str) -> None:
    """In one line, in the words of the one who has to mend it."""
    said = explain_refusal(text)

    assert said.startswith(told)
    assert cure in said
    assert said.endswith("make doctor shows all differences")


def test_another_refusal_is_told_as_it_is() -> None:
    """A missing permission, for one."""
    assert explain_refusal("ACCESS_REFUSED - no") == "ACCESS_REFUSED - no"
