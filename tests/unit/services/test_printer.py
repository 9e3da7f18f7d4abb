"""The stage printer."""

import io
import sys
from unittest.mock import Mock

import pytest

from rabbit.testing import harness
from services.printer import Printer


def test_it_prints_one_line_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """The text only, and nothing else on stdout; a message cannot forge a second line."""
    printer = harness(Printer)
    settled = [printer.send(text).settled for text in ("HELLO", "WORLD\nHALTED", "")]

    assert settled == ["acked"] * 3
    assert capsys.readouterr() == ("HELLO\nWORLD\\nHALTED\n\n", "")


def test_it_prints_a_batch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, and flushed before any of it is acked."""
    out = io.StringIO()
    flush = Mock()
    monkeypatch.setattr(out, "flush", flush)
    monkeypatch.setattr(sys, "stdout", out)
    harness(Printer).stage.work(["a", "b\n", "c"])

    assert out.getvalue() == "a\nb\\n\nc\n"
    flush.assert_called_once_with()


def test_a_slow_printer_takes_one_message_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are for whichever printer is free, and PRINTER_DELAY is for each message."""
    assert harness(Printer).stage.batch_size == 500
    monkeypatch.setenv("PRINTER_DELAY", "2")
    assert harness(Printer).stage.batch_size == 1
