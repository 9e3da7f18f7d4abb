"""Upper-case every message, but for some that fail at random, and some that kill the process."""

import os
import random
import signal

from pydantic import Field

from rabbit import Settings, Worker


class FallibleSettings(Settings):
    """What the environment may say."""

    failing: float = Field(0.0, ge=0, le=1, description="the part of the calls that fails")
    deadly: str = Field("", description="what a run's name begins with to kill the process")


class Fallible(Worker):
    """Fail, die, or upper-case."""

    Settings = FallibleSettings
    settings: FallibleSettings

    def work(self, message: str) -> None:
        """Do what chance and the message say."""
        if self.settings.deadly and message.startswith(self.settings.deadly):
            os.kill(os.getpid(), signal.SIGKILL)
        if random.random() < self.settings.failing:  # noqa: S311 - no secret
            raise RuntimeError("by chance")
        self.write(message.upper())


if __name__ == "__main__":
    Fallible.main()
