"""Have standard error go into a pipe that is full, and that nobody reads.

Python imports this module when it starts.
"""

import os
from contextlib import suppress

_reader, _writer = os.pipe()
os.set_blocking(_writer, False)
with suppress(BlockingIOError):
    while True:
        os.write(_writer, b"x" * 4096)
os.set_blocking(_writer, True)
os.dup2(_writer, 2)
