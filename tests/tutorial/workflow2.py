"""Step 6: the printer is slow, so two share its work. POISON_PILL=HALT: one HALT halts all three.

my_queue ──▶ ToUpper ──▶ upper ──▶ Printer, Printer
"""

import time
from threading import Thread

from rabbit import Consumer, Worker


class ToUpper(Worker):
    """Writes each message in upper case, slowly."""

    def __init__(self, name: str) -> None:
        """Take messages from one queue, write to the other."""
        super().__init__(name, "my_queue", "upper")

    def work(self, message: str) -> None:
        """Handle one message."""
        time.sleep(0.1)
        self.write(message.upper())


class Printer(Consumer):
    """Prints each message, twice as slowly."""

    def __init__(self, name: str) -> None:
        """Take messages from the queue that ToUpper writes to."""
        super().__init__(name, "upper")

    def work(self, message: str) -> None:
        """Handle one message."""
        time.sleep(0.2)
        print(f"{self.name}: {message}\n", end="")  # in one piece: two threads print


stages = [ToUpper("worker"), Printer("printer1"), Printer("printer2")]
threads = [Thread(target=stage.start) for stage in stages]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("bye")
