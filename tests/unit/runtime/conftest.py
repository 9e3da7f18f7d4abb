"""Dispatchers by hand: time passes when the test says so."""

import pytest

from tests.unit.scripted import clock


@pytest.fixture(autouse=True)
def scripted_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have consumers ask the clock of the scripted loop."""
    clock.replace_monotonic(monkeypatch)
