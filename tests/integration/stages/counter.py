"""Write the numbers from 0 up to COUNT, without COUNT for ever; print how many are confirmed."""

import itertools
import sys
import time

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from rabbit import Producer, Settings


class CounterSettings(Settings):
    """What the environment may say."""

    count: NonNegativeInt | None = Field(None, description="how many numbers")
    delay: NonNegativeFloat = Field(0.0, description="seconds before each number")


class Counter(Producer):
    """Write numbers."""

    Settings = CounterSettings
    settings: CounterSettings

    def work(self) -> None:
        """Write each number when its time has come."""
        count = self.settings.count
        for number in itertools.count() if count is None else range(count):
            time.sleep(self.settings.delay)
            self.write(str(number))

    def start(self) -> None:
        """Say in the end how many were confirmed, in whatever way it ends."""
        self.endless = self.settings.count is None
        try:
            super().start()
        finally:
            sys.stdout.write(f"{self.confirmed}\n")


if __name__ == "__main__":
    Counter.main()
