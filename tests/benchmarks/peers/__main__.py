"""Run a function of a peer: `python -m peers MODULE FUNCTION`."""

import importlib
import sys

# Frameworks start processes that import this module again.
if __name__ == "__main__":
    module, function = sys.argv[1:3]
    getattr(importlib.import_module(f"{__package__}.{module}"), function)()
