"""Let this process's clocks jump, without touching those of the machine.

Python imports this module when it starts. While the file /tmp/wall exists, the time of day is a
day ahead; while /tmp/monotonic exists, the monotonic clock is. What the kernel does by itself, such
as the time stamps of files and waiting for a lock, is not changed.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

DAY_SECONDS = 86400

_Time = TypeVar("_Time", int, float)
_LOOKS_AGAIN_SECONDS = 0.2
_real_monotonic = time.monotonic


class _Jump:
    """Whether a file exists, looked at now and then."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._looked, self._is_there = 0.0, False

    def __bool__(self) -> bool:
        now = _real_monotonic()
        if now > self._looked + _LOOKS_AGAIN_SECONDS:
            self._looked, self._is_there = now, self._path.exists()
        return self._is_there


def _shifted(clock: Callable[[], _Time], jump: _Jump, day: _Time) -> Callable[[], _Time]:
    def read() -> _Time:
        return clock() + day if jump else clock()

    return read


_wall = _Jump("/tmp/wall")  # noqa: S108 - of a container
_monotonic = _Jump("/tmp/monotonic")  # noqa: S108 - likewise


time.time = _shifted(time.time, _wall, DAY_SECONDS)
time.time_ns = _shifted(time.time_ns, _wall, DAY_SECONDS * 10**9)
time.monotonic = _shifted(time.monotonic, _monotonic, DAY_SECONDS)
time.monotonic_ns = _shifted(time.monotonic_ns, _monotonic, DAY_SECONDS * 10**9)
