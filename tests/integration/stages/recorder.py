"""Print what is known of each message as JSON; take the time that DELAY says, after printing."""

import json
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
        known = {
            "text": message,
            "id": self.message.id,
            "correlation_id": self.message.correlation_id,
            "attempt": self.message.attempt,
            "redelivered": self.message.redelivered,
            "key": self.message.routing_key,
        }
        sys.stdout.write(json.dumps(known) + "\n")
        sys.stdout.flush()
        time.sleep(self.settings.delay)


if __name__ == "__main__":
    Recorder.main()
