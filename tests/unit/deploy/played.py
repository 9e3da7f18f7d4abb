"""A copy of the project's scripts, with docker, kubectl and others only played."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]

#: Does what the file beside it says, with its arguments in $*, and notes what it was asked.
PROGRAM = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$0.asked"
eval "$(<"$0.played")"
"""


class Played:
    """A project's folder, in which its scripts can be run."""

    def __init__(self, folder: Path) -> None:
        """Copy the scripts there."""
        self.folder = folder / "project"
        self.env = self.folder / ".env"
        self._programs = folder / "programs"
        self._programs.mkdir()
        shutil.copytree(ROOT / "deploy", self.folder / "deploy")
        shutil.copy(ROOT / "docker-compose.yml", self.folder)
        self.play("sleep")

    def play(self, program: str, script: str = "") -> None:
        """Have a program do this: a script of bash, whose arguments are in $*."""
        path = self._programs / program
        path.write_text(PROGRAM)
        path.with_suffix(".played").write_text(script)
        path.chmod(0o755)

    def asked(self, program: str) -> list[str]:
        """Return what a program was called with, one call after the other."""
        path = self._programs / f"{program}.asked"
        return path.read_text().splitlines() if path.exists() else []

    def run(
        self, *command: str, typed: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder.

        Args:
            command: it, with its arguments.
            typed: what is typed at a terminal; None: there is none.
            variables: of its environment.
        """
        path = os.pathsep.join((str(self._programs), os.environ["PATH"]))
        keyboard, terminal = os.openpty()
        os.write(keyboard, (typed or "").encode())
        try:
            return subprocess.run(
                command,
                cwd=self.folder,
                env={"PATH": path, "HOME": str(self.folder), **variables},
                stdin=subprocess.DEVNULL if typed is None else terminal,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        finally:
            os.close(keyboard)
            os.close(terminal)
