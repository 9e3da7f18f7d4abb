"""What every unit test starts from: no settings but those it makes itself."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from rabbit.operations.management import ControlSettings
from rabbit.settings import Settings
from services.printer import PrinterSettings
from services.producer import ProducerSettings
from services.to_upper import ToUpperSettings

ALL_SETTINGS = (Settings, ToUpperSettings, PrinterSettings, ProducerSettings, ControlSettings)

# No deadline, and no complaint about a slow machine: the two seconds are for all tests together.
settings.register_profile(
    "unit", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of whoever runs the tests: environment and /run/secrets."""
    names = {name for each in ALL_SETTINGS for name in each.model_fields}
    for variable in list(os.environ):
        if variable.lower() in names:
            monkeypatch.delenv(variable)
    monkeypatch.setattr("rabbit.settings.SECRETS_DIRECTORY", tmp_path / "no secrets")
