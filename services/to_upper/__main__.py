"""Run the stage: `python -m services.to_upper`."""

from . import ToUpper

ToUpper.main()
