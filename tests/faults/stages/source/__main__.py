"""Write numbered messages, `RUN-NUMBER`, in batches; print which are sent and which confirmed.

Each process has a run of its own: what one that was killed has sent, the next does not repeat.
"""

import itertools
import os
import sys
import time

from pydantic import Field, PositiveFloat, PositiveInt

from rabbit import Producer, Settings

POLL_SECONDS = 0.002


class SourceSettings(Settings):
    """What the environment may say."""

    count: PositiveInt | None = Field(None, description="how many messages; not set: no end")
    batch: PositiveInt = Field(20, description="messages that may await their confirm")
    rate: PositiveFloat = Field(1e9, description="messages a second, at most")


class Source(Producer):
    """Write numbers."""

    Settings = SourceSettings
    endless = True  # the faults stop it when they like
    settings: SourceSettings

    def work(self) -> None:
        """Write a batch, wait until all of it is confirmed, then the next one."""
        run, size = os.urandom(4).hex().upper(), self.settings.batch
        begun = time.monotonic()
        end = self.settings.count
        for first in itertools.count(step=size) if end is None else range(0, end, size):
            last = first + size if end is None else min(first + size, end)
            self._tell("sent", run, first, last)
            for number in range(first, last):
                self.write(f"{run}-{number}")
            while self.confirmed < last:
                time.sleep(POLL_SECONDS)
            self._tell("confirmed", run, first, last)
            time.sleep(max(0.0, last / self.settings.rate - (time.monotonic() - begun)))

    @staticmethod
    def _tell(what: str, run: str, first: int, end: int) -> None:
        sys.stdout.write(f"{what} {run} {first} {end}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    Source.main()
