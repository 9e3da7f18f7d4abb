"""Print the id and the first word of each message; take the time that DELAY says, after that."""

import sys
import time

from pydantic import Field, NonNegativeFloat

from rabbit import Consumer, Settings


class RecorderSettings(Settings):
    """What the environment may say."""

    delay: NonNegativeFloat = Field(0.0, description="seconds of work")


class Recorder(Consumer):
    """Print each message."""

    Settings = RecorderSettings
    settings: RecorderSettings

    def work(self, message: str) -> None:
        """Print, then take the time."""
        sys.stdout.write(f"{self.message.id} {message.partition(' ')[0]}\n")
        sys.stdout.flush()
        if self.settings.delay:
            time.sleep(self.settings.delay)


if __name__ == "__main__":
    Recorder.main()
