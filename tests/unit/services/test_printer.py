"""The stage printer."""

import pytest

from rabbit.testing import harness
from services.printer import Printer


def test_it_prints_one_line_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """The text only, and nothing else on stdout; a message cannot forge a second line."""
    printer = harness(Printer)
    settled = [printer.send(text).settled for text in ("HELLO", "WORLD\nHALTED", "")]

    assert settled == ["acked"] * 3
    assert capsys.readouterr() == ("HELLO\nWORLD\\nHALTED\n\n", "")
