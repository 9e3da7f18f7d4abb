"""Run the stage: `python -m services.printer`."""

from . import Printer

Printer.main()
