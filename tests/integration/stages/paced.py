"""Write what is known of each message, after the time that its text says."""

import json
import sys
import time
from pathlib import Path

from rabbit import Worker

POLL_SECONDS = 0.02


class Paced(Worker):
    """Takes its time with `NUMBER SECONDS` and `NUMBER /PATH`, none with `NUMBER`.

    With a path, the work lasts until a file is there. The text is printed when such work begins.
    """

    def work(self, message: str) -> None:
        """Work; then write, so that what was not finished has not been written."""
        number, _, pace = message.partition(" ")
        if pace:
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            self._take_time(pace)
        known = {
            "replica": self.name,
            "number": int(number),
            "delivered_before": self.message.headers.get("x-acquired-count", 0),
            "attempt": self.message.attempt,
        }
        self.write(json.dumps(known))

    @staticmethod
    def _take_time(pace: str) -> None:
        if not pace.startswith("/"):
            time.sleep(float(pace))
            return
        while not Path(pace).exists():
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    Paced.main()
