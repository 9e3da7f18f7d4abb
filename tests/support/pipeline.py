"""The real compose file, driven as a user drives it: make and docker compose."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import docker  # type: ignore[import-untyped]

from tests.ports import free_ports
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

#: How long containers may take to get where they should, in seconds; a bound, not a wait.
PATIENCE_SECONDS = 120.0


class Pipeline:
    """One running pipeline of its own: project name and ports that nobody else uses."""

    def __init__(self, name: str, folder: Path = ROOT, /, **variables: str) -> None:
        """Choose the ports.

        Args:
            name: the project's name for Compose.
            folder: where the project is; commands are run there.
            variables: added to what every command is started with.
        """
        self.name = name
        self._folder = folder
        self._variables = variables
        self._seen: dict[str, tuple[int, int]] = {}  # container → lines of stdout, of stderr
        self._docker = docker.from_env().api
        self.amqp_port, self.management_port, self.board_port, self.prometheus_port = free_ports(4)

    @property
    def environment(self) -> dict[str, str]:
        """What make and docker compose are started with: not as part of the make that tests."""
        ours = {"ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
        return {
            **{name: value for name, value in os.environ.items() if name not in ours},
            "COMPOSE_PROJECT_NAME": self.name,
            "AMQP_PORT": str(self.amqp_port),
            "MANAGEMENT_PORT": str(self.management_port),
            "BOARD_PORT": str(self.board_port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            **self._variables,
        }

    def run(
        self,
        *command: str,
        check: bool = True,
        stdin: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder; fail with its output unless it exits with 0."""
        done = subprocess.run(
            command,
            cwd=self._folder,
            env={**self.environment, **(variables or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if check and done.returncode:
            said = f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
            raise AssertionError(said)
        return done

    def make(
        self, *arguments: str, check: bool = True, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a make target."""
        return self.run("make", *arguments, check=check, stdin=stdin, variables=variables)

    def compose(self, *arguments: str, check: bool = True, **variables: str) -> str:
        """Run docker compose; return what it prints."""
        return self.run("docker", "compose", *arguments, check=check, variables=variables).stdout

    def start(self, *services: str, printers: int = 1, workers: int = 1, **variables: str) -> None:
        """Bring services up, and wait until they are ready; default: all but the producer."""
        services = services or ("rabbitmq", "to_upper", "printer")
        numbers = {"printer": printers, "to_upper": workers}
        scale = [f"--scale={name}={number}" for name, number in numbers.items() if name in services]
        command = ["docker", "compose", "up", "--detach", *scale, *services]
        self.run(*command, variables=variables)
        wait_until(
            lambda: self._are_ready(services),
            PATIENCE_SECONDS,
            lambda: self.compose("ps", "--all"),
            pause_seconds=0.3,
        )

    def _are_ready(self, services: tuple[str, ...]) -> bool:
        listed = [each for name in services for each in self._listed(name, running=True)]
        return len(listed) >= len(services) and all(map(self._is_ready, listed))

    def _is_ready(self, container: Mapping[str, Any]) -> bool:
        """Tell whether a container is healthy, by its own check where Docker has not looked yet."""
        if "(healthy)" in container["Status"]:
            return True
        kind, *check = self._docker.inspect_container(container)["Config"]["Healthcheck"]["Test"]
        command = ["sh", "-c", *check] if kind == "CMD-SHELL" else check
        made = self._docker.exec_create(container, command)
        self._docker.exec_start(made)
        return bool(self._docker.exec_inspect(made)["ExitCode"] == 0)

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers, stopped ones included, by their number."""
        numbers = {
            each["Id"][:12]: int(each["Labels"]["com.docker.compose.container-number"])
            for each in self._listed(service)
        }
        return sorted(numbers, key=lambda container: numbers[container])

    def _listed(self, service: str, *, running: bool = False) -> list[dict[str, Any]]:
        """Ask the daemon itself, as for all that is polled: the CLI takes half a second of CPU."""
        labels = {"project": self.name, "service": service, "oneoff": "False"}
        wanted = [f"com.docker.compose.{name}={value}" for name, value in labels.items()]
        listed = self._docker.containers(all=not running, filters={"label": wanted})
        return cast("list[dict[str, Any]]", listed)

    def exit_code(self, container: str) -> int | None:
        """Return a container's exit code; None while it runs."""
        state = self._docker.inspect_container(container)["State"]
        return None if state["Running"] or state["Restarting"] else int(state["ExitCode"])

    def printed(self, container: str) -> list[str]:
        """Return what a container has written to stdout since `mark`: at a printer, messages."""
        lines = self._written(container, "stdout").splitlines()
        return lines[self._seen.get(container, (0, 0))[0] :]

    def logged(self, container: str) -> str:
        """Return what a container has written to stderr since `mark`: its log."""
        lines = self._written(container, "stderr").splitlines(keepends=True)
        return "".join(lines[self._seen.get(container, (0, 0))[1] :])

    def mark(self) -> None:
        """Forget what the stages have written so far."""
        self._seen.clear()
        for container in [*self.containers("to_upper"), *self.containers("printer")]:
            out, err = (self._written(container, each) for each in ("stdout", "stderr"))
            self._seen[container] = len(out.splitlines()), len(err.splitlines())

    def _written(self, container: str, stream: str) -> str:
        streams = {each: each == stream for each in ("stdout", "stderr")}
        return cast("bytes", self._docker.logs(container, **streams)).decode()

    def all_printed(self) -> list[str]:
        """Return what all printers that still exist have printed."""
        return [line for each in self.containers("printer") for line in self.printed(each)]

    def wait_printed(self, expected: list[str]) -> None:
        """Wait until the printers have printed these messages, in any order, and nothing else."""
        wait_until(
            lambda: sorted(self.all_printed()) == sorted(expected),
            PATIENCE_SECONDS,
            lambda: f"printed {self.all_printed()!r}, expected {expected!r}",
        )

    def wait_exited(self, container: str) -> int:
        """Wait until a container has ended; return its exit code."""
        wait_until(
            lambda: self.exit_code(container) is not None,
            PATIENCE_SECONDS,
            lambda: f"{container} is still running:\n{self.logged(container)}",
        )
        code = self.exit_code(container)
        assert code is not None
        return code

    def publish(self, texts: list[str]) -> None:
        """Publish one message per text, through make."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "lines.txt")
            path.write_text("".join(f"{text}\n" for text in texts))
            self.make("publish", f"FILE={path}")

    @contextmanager
    def background(self, *command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command beside the test; it is ended with it."""
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=self.environment | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Remove everything that belongs to this pipeline: containers, data, images."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")
        names = ("--filter", f"reference={self.name}-*", "--format", "{{.Repository}}:{{.Tag}}")
        images = self.run("docker", "image", "ls", *names).stdout.split()
        if images:
            self.run("docker", "image", "rm", *images)


def copy_of_the_project(folder: Path) -> Path:
    """Copy the project's files into a folder, without what its tools and users have left in it."""
    left = (".env", ".git", ".venv", "secrets", "__pycache__", ".*_cache", ".hypothesis")
    return Path(shutil.copytree(ROOT, folder / "project", ignore=shutil.ignore_patterns(*left)))


def rabbitmq_environment(pipeline: Pipeline) -> Mapping[str, str]:
    """Return what a client on this machine needs to talk to the pipeline's broker."""
    return {
        "RABBITMQ_HOST": "127.0.0.1",
        "RABBITMQ_PORT": str(pipeline.amqp_port),
        "RABBITMQ_USERNAME": "pipeline",
        "RABBITMQ_PASSWORD": "pipeline",
    }
