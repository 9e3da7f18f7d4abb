"""What a change has to pass, in which order."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_checks_come_first_and_the_unit_tests_once(tmp_path: Path) -> None:
    """`make check` has the unit tests in it; `make test` leaves them out here, and only here.

    What it leaves out comes last.
    """
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/called\n')
    make.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    subprocess.run([ROOT / ".ci/run"], env={"PATH": path}, check=True)

    called = (tmp_path / "called").read_text().splitlines()
    assert called == [
        "check",
        "test ARGS=--ignore=tests/unit",
        'test-faults ARGS=-m "thorough and not lasting" --numprocesses 3',
        "test-secured",
        "test-board",
    ]


def test_without_arguments_all_tests_are_run() -> None:
    """The arguments are handed on to pytest."""
    planned = [
        subprocess.run(
            ["make", "--dry-run", "--always-make", "test", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for arguments in ([], ["ARGS=--ignore=tests/unit"])
    ]

    always = ["-m", '"not', "thorough", "and", "not", 'board"', "--numprocesses", "5"]
    assert [each.split() for each in planned] == [
        ["deploy/bin/test", "tests", *always],
        ["deploy/bin/test", "tests", *always, "--ignore=tests/unit"],
    ]
