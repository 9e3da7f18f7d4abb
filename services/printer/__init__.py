"""Print every message: the text only, one line a message."""

import sys
import time

from pydantic import Field, NonNegativeFloat

from rabbit import BatchConsumer, Settings
from rabbit.terminal import escape


class PrinterSettings(Settings):
    """What the environment may say beside the settings that every stage has."""

    printer_delay: NonNegativeFloat = Field(0.0, description="seconds of work, 0 or more")
    batch_seconds: float = Field(
        0.0, ge=0, le=86400, allow_inf_nan=False, description="seconds, 0 to 86400"
    )


class Printer(BatchConsumer):
    """Print every message, slowly if asked to; what is there is printed at once."""

    Settings = PrinterSettings
    settings: PrinterSettings

    @property
    def batch_size(self) -> int:
        """One at a time where that is slow: the next one is for whichever printer is free."""
        return 1 if self.settings.printer_delay else super().batch_size

    def work(self, messages: list[str]) -> None:
        """Print messages so that they can neither steer a terminal nor forge another line."""
        if self.settings.printer_delay:
            time.sleep(self.settings.printer_delay)
        sys.stdout.write("".join([escape(message) + "\n" for message in messages]))
        sys.stdout.flush()
