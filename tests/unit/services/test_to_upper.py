"""The stage to_upper."""

import pytest

from rabbit.testing import harness
from services.to_upper import ToUpper


@pytest.mark.parametrize(
    ("text", "expected"), [("hello", "HELLO"), ("grün", "GRÜN"), ("", ""), ("a\nb", "A\nB")]
)
def test_it_writes_upper_case(text: str, expected: str) -> None:
    """One output for each message, whatever the text."""
    sent = harness(ToUpper).send(text)

    assert ([expected], "acked") == (sent.outputs, sent.settled)
