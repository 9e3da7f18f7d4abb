"""What is started warm is a process like any other."""

import signal
from pathlib import Path

import pytest

from tests import warm

PROGRAM = "tests.unit.warm_program"


@pytest.mark.parametrize(("end", "code"), [("return", 0), ("exit 3", 3), ("raise", 1), ("die", -9)])
def test_a_module_is_run_as_by_python(tmp_path: Path, end: str, code: int) -> None:
    """Its environment is the one given, its arguments, its output, its exit code."""
    out, err = tmp_path / "out", tmp_path / "err"

    child = warm.start(["-m", PROGRAM, end], {"GIVEN": "ü"}, out, err)

    assert child.wait() == code
    assert out.read_text().splitlines()[0] == f"__main__ ['GIVEN'] ü {child.pid} ''"
    assert ("Traceback" in err.read_text()) == (end == "raise")


def test_a_program_is_run_as_by_python(tmp_path: Path) -> None:
    """Its classes have their names."""
    out, err = tmp_path / "out", tmp_path / "err"
    program = "class A:\n  of: 'A'\nimport sys, typing\nprint(typing.get_type_hints(A), sys.argv)"

    assert warm.start(["-c", program, "b"], {}, out, err).wait() == 0

    assert out.read_text() == "{'of': <class '__main__.A'>} ['-c', 'b']\n"


def test_a_signal_is_heard(tmp_path: Path) -> None:
    """By that process only, with Python's own handlers."""
    out, err = tmp_path / "out", tmp_path / "err"
    one, other = (warm.start(["-m", PROGRAM, "wait"], {}, out, err) for _ in range(2))

    one.send_signal(signal.SIGTERM)
    assert one.wait() == -signal.SIGTERM
    assert other.poll() is None
    other.send_signal(signal.SIGINT)
    assert other.wait() == -signal.SIGINT
