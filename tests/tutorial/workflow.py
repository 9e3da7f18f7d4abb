"""Step 5: two stages, each in a thread of its own. POISON_PILL=HALT: one HALT halts both.

my_queue ──▶ ToUpper ──▶ upper ──▶ Printer
"""

from threading import Thread

from rabbit import Consumer, Worker


class ToUpper(Worker):
    """Writes each message in upper case."""

    def __init__(self, name: str) -> None:
        """Take messages from one queue, write to the other."""
        super().__init__(name, "my_queue", "upper")

    def work(self, message: str) -> None:
        """Handle one message."""
        self.write(message.upper())


class Printer(Consumer):
    """Prints each message."""

    def __init__(self, name: str) -> None:
        """Take messages from the queue that ToUpper writes to."""
        super().__init__(name, "upper")

    def work(self, message: str) -> None:
        """Handle one message."""
        print(message)


threads = [Thread(target=stage.start) for stage in (ToUpper("worker"), Printer("printer"))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("bye")
