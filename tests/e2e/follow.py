"""What printers print, also those that are gone by the time it is looked at."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from tests.support.pipeline import PATIENCE_SECONDS, Pipeline
from tests.waiting import wait_until


class Printers:
    """Follows the standard output of all printers into files, until they end."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Follow nobody yet."""
        self._pipeline = pipeline
        self._folder = TemporaryDirectory()
        self._followers: dict[str, subprocess.Popen[bytes]] = {}
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        """Follow the printers there are, from now on."""
        self.follow("--tail=0")
        return self

    def __exit__(self, *_: object) -> None:
        """Read all that was printed, and stop following."""
        self._lines = self._read()
        for follower in self._followers.values():
            follower.kill()
            follower.wait()
        self._folder.cleanup()

    def follow(self, *options: str) -> None:
        """Follow the printers that have come since the last call, from their first line."""
        for container in self._pipeline.containers("printer"):
            if container not in self._followers:
                with Path(self._folder.name, container).open("wb") as file:
                    self._followers[container] = subprocess.Popen(
                        ["docker", "logs", "--follow", *options, container],
                        stdout=file,
                        stderr=subprocess.DEVNULL,
                    )

    def wait_for(self, count: int) -> None:
        """Wait until they have printed so many lines."""
        wait_until(
            lambda: len(self._read()) >= count,
            PATIENCE_SECONDS,
            lambda: f"{len(self._read())} of {count} lines printed",
        )

    def lines(self) -> list[str]:
        """Return all lines, once following has ended."""
        return self._lines

    def _read(self) -> list[str]:
        files = Path(self._folder.name).iterdir()
        return [line for file in files for line in file.read_text().splitlines()]
