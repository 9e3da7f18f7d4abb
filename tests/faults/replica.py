"""One replica of a stage in a container, and what may happen to it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from docker.errors import APIError  # type: ignore[import-untyped]
from docker.types import LogConfig  # type: ignore[import-untyped]

from tests.support import images
from tests.support.containers import AS_A_STAGE, Container, Containers, Image
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
STAGES = Path(__file__).parent / "stages"

#: What a replica prints is the evidence: a daemon that rotates logs must not throw it away.
_ALL_OF_THE_LOG = LogConfig(type="json-file", config={"max-size": "100g", "max-file": "1"})

#: As in docker-compose.yml: how long a stage has to end after SIGTERM.
GRACE_SECONDS = 30
READY_SECONDS = 60.0


def is_ready_command() -> str:
    """Read what a stage's health check runs from the one place where it stands."""
    compose = (ROOT / "docker-compose.yml").read_text()
    found = re.search(r"^\s+test: (find .*)$", compose, re.MULTILINE)
    assert found, "docker-compose.yml has no health check for stages"
    return found[1].replace("$$", "$")


class Replica(Container):
    """A container of a stage, started as compose starts it: restarted when it fails."""

    @classmethod
    def run(
        cls,
        containers: Containers,
        image: Image,
        environment: Mapping[str, str],
        **options: Any,
    ) -> "Replica":
        """Create one and start it."""
        ours = {"restart_policy": {"Name": "on-failure"}, "log_config": _ALL_OF_THE_LOG}
        options = {**AS_A_STAGE, **ours, **options}
        made = cls(containers.create(image, environment, **options).raw)
        made.start()
        return made

    @property
    def name(self) -> str:
        """What it is called, for people."""
        return str(self.raw.name)

    def __str__(self) -> str:
        """Name it as the roll call does."""
        return f"{self.stage}/{self.id[:12]}"

    @property
    def stage(self) -> str:
        """The stage that it is a replica of."""
        (given,) = (each for each in self.raw.attrs["Config"]["Env"] if each.startswith("STAGE="))
        return str(given).partition("=")[2]

    @property
    def out(self) -> list[str]:
        """The lines it has printed, over all of its restarts; an incomplete last one is left."""
        text = cast("bytes", self.raw.logs(stdout=True, stderr=False)).decode()
        return [line[:-1] for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def lines(self) -> Iterator[str]:
        """Yield the same, one by one: nothing long is kept."""
        rest = b""
        for chunk in self.raw.logs(stdout=True, stderr=False, stream=True, follow=False):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line.decode() for line in whole)

    @property
    def said(self) -> str:
        """What it has logged."""
        return cast("bytes", self.raw.logs(stdout=False, stderr=True)).decode(errors="replace")

    def execute(self, command: str) -> int:
        """Run a shell command in it; return its exit code."""
        return int(self.raw.exec_run(["sh", "-c", command]).exit_code)

    @property
    def is_ready(self) -> bool:
        """Whether its health check says so, now."""
        with suppress(APIError):  # it is paused, or just now restarted
            return self.execute(is_ready_command()) == 0
        return False

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it is ready."""
        wait_until(lambda: self.is_ready, seconds, lambda: f"{self.name} is ready\n{self.log()}")

    def wait_said(self, text: str, times: int = 1, seconds: float = READY_SECONDS) -> None:
        """Wait until its log has `text` so many times."""
        wait_until(
            lambda: self.said.count(text) >= times,
            seconds,
            lambda: f"{self.name} says {text!r}\n{self.log()}",
        )

    def crash(self) -> None:
        """End its process without a warning (SIGKILL); Docker sees it fail and restarts it."""
        before = self._started_at
        assert before, f"{self.name} is not running"
        # All that may be signalled, which Docker's init may not; `docker kill` would count as
        # a stop that somebody wants, and nothing would restart it.
        with suppress(APIError):
            self.execute("kill -9 -1")
        wait_until(
            lambda: self._started_at not in {before, ""},
            READY_SECONDS,
            lambda: f"{self.name} is restarted\n{self.log()}",
        )

    @contextmanager
    def disconnected(self, network: str) -> Iterator[None]:
        """Take it off a network for the time of a `with`."""
        client = self.raw.client.networks.get(network)
        client.disconnect(self.id)
        try:
            yield
        finally:
            client.connect(self.id)

    def signal(self, name: str = "SIGTERM") -> None:
        """Send its process a signal, as `docker stop` does first."""
        self.raw.kill(signal=name)

    def restart(self) -> None:
        """SIGTERM, and start it again; it has to end with 0 in between."""
        assert self.halt() == 0, f"{self.name} ended with an error\n{self.log()}"
        self.raw.start()

    def runs(self, program: str) -> bool:
        """Tell whether a process of it has been started with `program`."""
        rows = self.raw.top()["Processes"]
        return any(row[-1].startswith(program) for row in rows)

    def halt(self) -> int:
        """Send SIGTERM and wait; return the exit code, which is 137 after the grace period."""
        self.raw.stop(timeout=GRACE_SECONDS)
        return self.exit_code

    @property
    def exit_code(self) -> int:
        """The exit code of its last process."""
        self.raw.reload()
        return int(self.raw.attrs["State"]["ExitCode"])

    @property
    def _started_at(self) -> str:
        self.raw.reload()
        state = self.raw.attrs["State"]
        return str(state["StartedAt"]) if state["Running"] and not state["Restarting"] else ""


def stage_image(name: str) -> Image:
    """Return a shipped stage, or one of the tests' own in the shipped image of its kind."""
    shipped = {"source": "producer", "recorder": "printer"}.get(name)
    if (STAGES / name).is_dir():
        return Image(images.stage(shipped or "to_upper"), mounts=((STAGES / name, "/app/stage"),))
    return Image(images.stage(name))
