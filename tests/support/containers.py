"""Containers of one run: a network of their own, all removed at the end however it comes."""

import calendar
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import docker  # type: ignore[import-untyped]
from docker.errors import APIError  # type: ignore[import-untyped]

from tests.support import cpu
from tests.waiting import wait_until

#: By this label everything that a run has started is found again.
LABEL = "pipeline.benchmark"

#: A process that used less of a core than this is idle; frameworks have timers that never rest.
_IDLE_SHARE = 0.05
_IDLE_LOOK_SECONDS = 0.1
_IDLE_PATIENCE_SECONDS = 3.0

_STOP_SECONDS = 10
#: What docker puts in front of a container's own process with `init: true`.
_INIT = "docker-init"

#: As docker-compose.yml runs a stage; whatever is measured runs like that.
AS_A_STAGE: Mapping[str, Any] = {
    "init": True,
    "read_only": True,
    # A file system in memory, as compose gives to a stage.
    "tmpfs": {"/tmp": ""},  # noqa: S108 - of a container
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}


class Image(NamedTuple):
    """What a container is made of.

    Attributes:
        name: the image.
        command: what is given to its entry point.
        entrypoint: in place of the image's own; None: the image's own.
        mounts: folders of this machine and where they are seen, read-only.
    """

    name: str
    command: Sequence[str] = ()
    entrypoint: Sequence[str] | None = None
    mounts: tuple[tuple[Path, str], ...] = ()


@contextmanager
def frozen(raw: Any) -> Iterator[None]:
    """Freeze the processes of a container, as docker-py knows it, for the time of a `with`."""

    def is_done() -> bool:
        try:
            raw.pause()
        except APIError as error:
            # The kernel may need longer than Docker waits, on a busy machine or while it forks.
            if "unable to freeze" not in str(error):
                raise
            return False
        return True

    wait_until(is_done, 60, "it is frozen")
    try:
        yield
    finally:
        raw.unpause()


class Container:
    """One container and what Docker knows about it.

    Attributes:
        id: Docker's.
        raw: docker-py's.
    """

    def __init__(self, container: Any) -> None:
        """Wrap docker-py's."""
        self.raw = container
        self._api = container.client.api
        self.id: str = container.id
        self._usage: Path | None = None

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far, by its cgroup."""
        if self._usage is None:
            self.raw.reload()
            self._usage = cpu.usage_file(self.raw.attrs["State"]["Pid"])
        if self._usage:
            return cpu.seconds(self._usage)
        # Docker tells it too, but takes up to a second for it.
        stats = self._api.stats(self.id, stream=False, one_shot=True)
        return float(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9

    @property
    def resident_mebibytes(self) -> float:
        """Resident memory of its processes, without Docker's init."""
        table = self._api.top(self.id, ps_args="-o pid,rss,comm")
        rss, name = table["Titles"].index("RSS"), table["Titles"].index("COMMAND")
        rows = [row for row in table["Processes"] if not row[name].startswith(_INIT)]
        return sum(int(row[rss]) for row in rows) / 1024

    @property
    def peak_mebibytes(self) -> float:
        """The most resident memory that any process in it has had so far."""
        done = self.raw.exec_run(["sh", "-c", "grep --no-filename VmHWM /proc/[0-9]*/status"])
        return max(int(line.split()[1]) for line in done.output.decode().splitlines()) / 1024

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        self.raw.reload()
        return bool(self.raw.status == "running")

    def start(self) -> None:
        """Start one that was only created."""
        self.raw.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze its processes (SIGSTOP cannot be noticed) for the time of a `with`."""
        with frozen(self.raw):
            yield

    def log(self, lines: int | str = 20) -> str:
        """Return the last lines it has written."""
        return cast("bytes", self.raw.logs(tail=lines)).decode(errors="replace")

    def printed(self) -> list[tuple[float, str]]:
        """Return each line of its standard output with the time it came (seconds since 1970)."""
        logged = self.raw.logs(stdout=True, stderr=False, timestamps=True).decode()
        rows = (line.partition(" ") for line in logged.splitlines())
        return [(_seconds(stamp), text) for stamp, _, text in rows]

    def wait(self, seconds: float) -> int:
        """Wait until it ends by itself; return its exit code."""
        wait_until(lambda: not self.is_running, seconds, lambda: f"it ends\n{self.log()}")
        return int(self.raw.wait()["StatusCode"])

    def wait_idle(self) -> None:
        """Wait until it uses next to no CPU: whatever it had to send is sent.

        There are libraries that poll and are never idle; those have had time enough in the end.
        """
        deadline = time.monotonic() + _IDLE_PATIENCE_SECONDS
        before, used = self.cpu_seconds, 1.0
        while used > _IDLE_SHARE * _IDLE_LOOK_SECONDS and time.monotonic() < deadline:
            time.sleep(_IDLE_LOOK_SECONDS)
            now = self.cpu_seconds
            before, used = now, now - before

    def stop(self) -> int:
        """Send it SIGTERM; return its exit code once it has ended."""
        self.raw.stop(timeout=_STOP_SECONDS)
        return int(self.raw.wait()["StatusCode"])

    def remove(self) -> None:
        """Remove it, running or not, with its data."""
        self.raw.remove(force=True, v=True)

    def port(self, inside: int) -> int:
        """Return the port of this machine behind which a port of the container is."""
        self.raw.reload()
        return int(self.raw.ports[f"{inside}/tcp"][0]["HostPort"])


class Containers:
    """The containers of one run, on a network of their own.

    Attributes:
        name: of the run.
        network: the network that they are on.
        client: docker-py's.
    """

    def __init__(self, kind: str = "benchmark", network: str | None = None) -> None:
        """Choose a name that no other run has.

        Args:
            kind: what the run is for; part of the name.
            network: one that somebody else has made; None: one of their own.
        """
        self.client = docker.from_env()
        self.name = f"pipeline-{kind}-{os.getpid()}"
        self.network = network or self.name

    def __enter__(self) -> Self:
        """Make the network."""
        if self.network == self.name:
            self.client.networks.create(self.name, labels={LABEL: self.name})
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything that carries this run's label, also what was half made."""
        self.clear()
        for network in self.client.networks.list(filters=self._mine):
            network.remove()

    def clear(self, keep: Container | None = None) -> None:
        """Remove all containers, but one."""
        for container in self.client.containers.list(all=True, filters=self._mine):
            if keep is None or container.id != keep.id:
                container.remove(force=True, v=True)

    @property
    def _mine(self) -> dict[str, str]:
        return {"label": f"{LABEL}={self.name}"}

    @property
    def docker_version(self) -> str:
        """The version of the Docker engine."""
        return str(self.client.version()["Version"])

    def output(self, image: str, *command: str) -> str:
        """Run a command of an image to its end; return what it prints."""
        printed = self.client.containers.run(
            image, command[1:], entrypoint=command[0], remove=True, labels={LABEL: self.name}
        )
        return cast("bytes", printed).decode().strip()

    def entrypoint(self, image: str) -> list[str]:
        """Return the entry point of an image."""
        return list(self.client.images.get(image).attrs["Config"]["Entrypoint"])

    def create(self, image: Image, environment: Mapping[str, str], **options: Any) -> Container:
        """Create a container on the network, without starting it.

        Args:
            image: what it is made of.
            environment: its variables.
            options: as for docker-py's `containers.create`; without any, it runs as a stage does.
        """
        volumes = {str(host): {"bind": path, "mode": "ro"} for host, path in image.mounts}
        options = options or dict(AS_A_STAGE)
        if "network_mode" not in options:
            options["network"] = self.network
        made = self.client.containers.create(
            image.name,
            list(image.command),
            entrypoint=None if image.entrypoint is None else list(image.entrypoint),
            environment=dict(environment),
            volumes=volumes,
            labels={LABEL: self.name},
            **options,
        )
        return Container(made)

    def run(self, image: Image, environment: Mapping[str, str], **options: Any) -> Container:
        """Create a container and start it."""
        container = self.create(image, environment, **options)
        container.start()
        return container


def _seconds(stamp: str) -> float:
    """Read Docker's time stamps, which have nanoseconds: 2026-11-24T00:00:00.123456789Z."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    moment = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return calendar.timegm(moment) + float(f"0.{fraction or 0}")
