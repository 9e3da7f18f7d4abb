"""Upper-case every message."""

import time

from pydantic import Field, NonNegativeFloat

from rabbit import Settings, Worker


class ToUpperSettings(Settings):
    """What the environment may say beside the settings that every stage has."""

    to_upper_delay: NonNegativeFloat = Field(0.0, description="seconds of work, 0 or more")


class ToUpper(Worker):
    """Upper-case every message, slowly if asked to."""

    Settings = ToUpperSettings
    settings: ToUpperSettings

    def work(self, message: str) -> None:
        """Write the message in upper case."""
        if self.settings.to_upper_delay:
            time.sleep(self.settings.to_upper_delay)
        self.write(message.upper())
