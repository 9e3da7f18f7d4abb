"""What happens to the clocks of a process: they jump by a day.

A replica's clocks are shifted in its own process (programs/clock). The machine's are never
touched: its time of day belongs to everybody, and Linux's time namespaces can only give other
monotonic clocks, from the start of a process on.
"""

from pathlib import Path

import pytest

from tests.faults.stream import Stream

_CLOCK = (Path(__file__).parent / "programs" / "clock", "/clock")
_PYTHONPATH = "/clock:/app:/dependencies"


@pytest.mark.parametrize("clock", ["wall", "monotonic"])
def test_jump(stream: Stream, clock: str) -> None:
    """All stages are a day ahead from one moment to the next; the time of day comes back."""
    stream.mounts += (_CLOCK,)
    stream.environment["PYTHONPATH"] = _PYTHONPATH
    stream.start()

    with stream.fault(f"{clock} clock a day ahead"):
        for replica in stream.replicas:
            assert replica.execute(f"touch /tmp/{clock}") == 0
        stream.wait_flowing()
        if clock == "wall":
            for replica in stream.replicas:
                assert replica.execute(f"rm /tmp/{clock}") == 0
    for replica in stream.replicas:
        assert "broker unavailable" not in replica.said
