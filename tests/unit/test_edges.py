"""The edges of a stage, from its settings."""

from typing import Any

import pytest

from rabbit import ConfigurationError, Settings
from rabbit.edges import check_replica, input_edge, output_edge

LONG = 80 * "ü"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"input_queue": 94 * "x"},
            f".{LONG}.dead' has 260 bytes: 255 allowed: shorten INPUT_QUEUE or STAGE",
        ),
        (
            {"input_queue": "x", "input_kind": "broadcast", "input_keys": ()},
            f"x.{LONG}.{LONG}' has 323 bytes: 255 allowed: shorten INPUT_QUEUE, STAGE or REPLICA",
        ),
        ({"input_queue": "a\nb"}, "INPUT_QUEUE: the name 'a\\nb': line breaks and control"),
        ({"input_queue": "amq.x"}, "INPUT_QUEUE: the name 'amq.x': what begins with 'amq.'"),
    ],
)
def test_a_name_that_cannot_be_says_what_to_change(given: dict[str, Any], told: str) -> None:
    """One line, before anything is connected."""
    routed = {"input_kind": "topic", "input_keys": ("a",)}
    settings = Settings.load(**routed | given)

    with pytest.raises(ConfigurationError) as raised:
        input_edge(settings, LONG, LONG)

    assert told in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_the_name_of_an_output_is_looked_at_too() -> None:
    """Likewise."""
    with pytest.raises(ConfigurationError, match="OUTPUT_QUEUE: the name"):
        output_edge(Settings.load(output_queue="amq.x"))


def test_the_name_of_a_control_queue_has_to_fit() -> None:
    """It has the names of stage and replica in it."""
    with pytest.raises(ConfigurationError, match=r"has 329 bytes.*: shorten STAGE or REPLICA"):
        check_replica(LONG, LONG)
    check_replica("stage", 80 * "ü")


def test_the_longest_name_of_a_work_queue_fits() -> None:
    """With the longest delay there is."""
    name = 200 * "x"

    assert (
        input_edge(Settings.load(input_queue=name, retry_delays="86399.999"), "s", "r").queue
        == name
    )
