"""Why the broker has closed a channel."""

import pytest

from rabbit.amqp.close_reasons import explain_refusal, is_hopeless


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
