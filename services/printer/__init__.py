"""Print every message: the text only, one line a message."""

import sys
import time

from pydantic import Field, NonNegativeFloat

from rabbit import Consumer, Settings
from rabbit.terminal import escape


class PrinterSettings(Settings):
    """What the environment may say beside the settings that every stage has."""

    printer_delay: NonNegativeFloat = Field(0.0, description="seconds of work, 0 or more")


class Printer(Consumer):
    """Print every message, slowly if asked to."""

    Settings = PrinterSettings
    settings: PrinterSettings

    def work(self, message: str) -> None:
        """Print the message so that it can neither steer a terminal nor forge a second line."""
        if self.settings.printer_delay:
            time.sleep(self.settings.printer_delay)
        sys.stdout.write(escape(message) + "\n")
        sys.stdout.flush()
