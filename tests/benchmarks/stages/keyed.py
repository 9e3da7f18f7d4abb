"""A sink that takes 50 ms for each message, and prints it."""

import sys
import time

from rabbit import Consumer

DELAY_SECONDS = 0.05


class Keyed(Consumer):
    """Waits, then prints."""

    def work(self, message: str) -> None:
        """Take the time; print a line at once."""
        time.sleep(DELAY_SECONDS)
        sys.stdout.write(f"{message}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    Keyed.main()
