"""Print when the handling of each message begins and ends; fail, or die, where a text says so."""

import json
import os
import random
import signal
import sys
import time

from pydantic import Field, NonNegativeFloat

from rabbit import Consumer, Settings


class KeyedSettings(Settings):
    """What the environment may say."""

    delay: NonNegativeFloat = Field(0.0, description="seconds of work")
    failing: NonNegativeFloat = Field(0.0, le=1, description="how many calls fail, 0 to 1")


class Telling(Consumer):
    """Tells of each message."""

    Settings = KeyedSettings
    settings: KeyedSettings

    def tell(self, message: str, begun: float) -> None:
        """Say when it began and how it ends, and have it end so: `!` fails, `#` kills."""
        if message.endswith("#"):
            os.kill(os.getpid(), signal.SIGKILL)
        is_bad = message.endswith("!") or random.random() < self.settings.failing  # noqa: S311
        known = {
            "key": self.message.routing_key,
            "text": message[:20],
            "attempt": self.message.attempt,
            "began": begun,
            "ended": time.monotonic(),
            "failed": is_bad,
        }
        sys.stdout.write(json.dumps(known) + "\n")
        sys.stdout.flush()
        if is_bad:
            msg = "it is bad"
            raise ValueError(msg)


class Keyed(Telling):
    """Takes its time in a thread."""

    def work(self, message: str) -> None:
        """Say that it begins, take the time, say how it ends."""
        begun = time.monotonic()
        time.sleep(self.settings.delay)
        self.tell(message, begun)


if __name__ == "__main__":
    Keyed.main()
