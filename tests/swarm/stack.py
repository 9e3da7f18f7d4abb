"""A stack on the nodes of a swarm, driven as the README says."""

import os
import subprocess
from pathlib import Path

from tests.support.copies import COMMAND, are_three
from tests.support.numbered import Numbered
from tests.support.pipeline import Pipeline
from tests.waiting import wait_until

BROKERS = ("rabbitmq", "rabbitmq2", "rabbitmq3")
_STAGES = ("producer", "to_upper", "printer", "control")

#: How long Swarm may take for anything, in seconds: it gives a node up after fifteen.
PATIENCE_SECONDS = 240.0
#: Between two looks, each of which is a process.
_PAUSE_SECONDS = 1.0


class Stack:
    """One stack.

    Attributes:
        name: of the stack.
        broker: the image of the brokers, as whoever deploys it has it in .env.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Read from the environment where the nodes are.

        Args:
            folder: a copy of the project.
            name: of the stack and of its images.
        """
        self.hosts = os.environ["SWARM_HOSTS"].split()
        # The last one is never killed; it is drained, which a container beside the stack survives.
        self.name, self._host = name, self.hosts[-1]
        self._pipeline = Pipeline(name, folder)
        self.broker = "rabbitmq:4.3-management"

    # What a user types

    def make(self, *arguments: str, check: bool = True, stdin: str = "", **variables: str) -> str:
        """Run a target for the swarm; return all that it prints."""
        given = {"TARGET": "swarm", "DOCKER_HOST": self._host, "UP_TIMEOUT": "400"}
        # Nodes of one machine need no encryption, nor can all.
        given |= {"ENCRYPTED": "no", "RABBITMQ_IMAGE": self.broker, **variables}
        done = self._pipeline.make(*arguments, check=check, stdin=stdin, **given)
        return done.stdout + done.stderr

    def docker(self, *arguments: str, check: bool = True, host: str | None = None) -> str:
        """Run docker on a node; return what it prints."""
        variables = {"DOCKER_HOST": host or self._host}
        return self._pipeline.run("docker", *arguments, check=check, variables=variables).stdout

    def numbered(self) -> Numbered:
        """Return messages to be sent to it, of which none may be lost."""
        return Numbered(lambda lines: self.make("publish", "FILE=-", stdin=lines))

    def scale(self, stage: str, number: int) -> None:
        """Have so many replicas."""
        self.docker("service", "scale", "--detach", f"{self.name}_{stage}={number}")
        self.wait_running(stage, number)

    # What becomes of it

    def running(self, service: str) -> list[str]:
        """Return the nodes on which tasks of a service run, by what Swarm knows."""
        wanted = ("--filter", "desired-state=running", "--format", "{{.CurrentState}} {{.Node}}")
        listed = self.docker("service", "ps", *wanted, f"{self.name}_{service}", check=False)
        words = [line.split() for line in listed.splitlines()]
        return [each[-1] for each in words if each[0] == "Running"]

    def wait_running(self, service: str, number: int) -> None:
        """Wait until so many tasks of a service run, on nodes that are there."""
        wait_until(
            lambda: len(self.running(service)) == number,
            PATIENCE_SECONDS,
            lambda: self.docker("service", "ps", "--no-trunc", f"{self.name}_{service}"),
            pause_seconds=_PAUSE_SECONDS,
        )

    def printed(self) -> list[str]:
        """Return what the printers have printed, as far as Swarm has the logs still."""
        return self.docker("service", "logs", "--raw", f"{self.name}_printer", check=False).split()

    def wait_printed(self, expected: set[str]) -> list[str]:
        """Wait until all of these are printed; return all that is."""
        wait_until(
            lambda: expected <= set(self.printed()),
            PATIENCE_SECONDS,
            lambda: f"{len(expected - set(self.printed()))} of {len(expected)} are missing",
            pause_seconds=_PAUSE_SECONDS,
        )
        return self.printed()

    def wait_left(self, service: str, node: str) -> None:
        """Wait until no task of a service is to run on a node, and one runs elsewhere."""
        wait_until(
            lambda: (on := self.running(service)) and node not in on,
            PATIENCE_SECONDS,
            lambda: self.docker("service", "ps", "--no-trunc", f"{self.name}_{service}"),
            pause_seconds=_PAUSE_SECONDS,
        )

    def tasks(self, service: str) -> set[str]:
        """Return the tasks of a service that are to run."""
        wanted = ("--quiet", "--filter", "desired-state=running")
        return set(self.docker("service", "ps", *wanted, f"{self.name}_{service}").split())

    def images(self, service: str) -> set[str]:
        """Return what the tasks of a service are to be made of."""
        wanted = ("--filter", "desired-state=running", "--format", "{{.Image}}")
        return set(self.docker("service", "ps", *wanted, f"{self.name}_{service}").split())

    def wait_clustered(self) -> None:
        """Wait until each broker runs and all three are in one cluster, with all queues on each."""
        for broker in BROKERS:
            self.wait_running(broker, 1)
        wait_until(
            self._is_clustered, PATIENCE_SECONDS, "three brokers in one cluster", _PAUSE_SECONDS
        )

    def _is_clustered(self) -> bool:
        name = f"name={self.name}_rabbitmq"
        (broker,) = self.docker("ps", "--quiet", "--filter", name).split() or ("",)
        return are_three(self.docker("exec", broker, *COMMAND, check=False))

    # Nodes

    def node(self, number: int) -> str:
        """Return the name of a node, from 1 on."""
        return self.docker("info", "--format", "{{.Name}}", host=self.hosts[number - 1]).strip()

    def kill(self, number: int) -> None:
        """Have a node fail."""
        _shell(os.environ["SWARM_KILL"].format(number))

    def start(self, number: int) -> None:
        """Have it come back."""
        _shell(os.environ["SWARM_START"].format(number))

    def wait_node(self, name: str, state: str) -> None:
        """Wait until Swarm says of a node that it is Ready, or Down."""
        look = ("node", "inspect", "--format", "{{.Status.State}}", name)
        wait_until(
            lambda: self.docker(*look, check=False).strip() == state,
            PATIENCE_SECONDS,
            f"{name} is {state}",
            pause_seconds=_PAUSE_SECONDS,
        )

    def label(self) -> None:
        """Give each broker a node."""
        for number in range(1, len(BROKERS) + 1):
            self.docker("node", "update", "--label-add", f"rabbitmq={number}", self.node(number))

    # Beginning and end

    def build(self, tag: str) -> None:
        """Build the images here, and load them into each node."""
        self._pipeline.compose("--profile", "*", "--progress", "quiet", "build", TAG=tag)
        images = [f"{self.name}-{stage}:{tag}" for stage in _STAGES]
        self._load(*images)

    def load_broker(self) -> None:
        """Load the broker's image, where there is no registry to have it from."""
        self._load(self.broker)

    def name_broker(self, tag: str) -> None:
        """Have the same broker under a name of this stack's, as if it were a newer one."""
        former, self.broker = self.broker, f"{self.name}-rabbitmq:{tag}"
        for host in self.hosts:
            self.docker("tag", former, self.broker, host=host)

    def _load(self, *images: str) -> None:
        for host in self.hosts:
            _shell(f"docker save {' '.join(images)} | DOCKER_HOST={host} docker load --quiet")

    def secure(self, *arguments: str) -> None:
        """Make what secures it, or replace a part of it."""
        self._pipeline.make("secure", *arguments)

    def remove(self) -> None:
        """Remove the stack, its volumes, images and labels."""
        self.docker("stack", "rm", self.name, check=False)
        mine = ("ps", "--all", "--quiet", "--filter", f"name={self.name}_")
        for number, host in enumerate(self.hosts, start=1):
            wait_until(
                lambda: not self.docker(*mine, host=host),  # noqa: B023 - it is called here
                PATIENCE_SECONDS,
                f"the tasks on {host} are gone",
                _PAUSE_SECONDS,
            )
            self.docker("node", "update", "--label-rm", "rabbitmq", self.node(number), check=False)
            for kind, listed in (("volume", ("ls", "--quiet")), ("image", ("ls", "--quiet"))):
                ours = ("--filter", _FILTERS[kind].format(self.name))
                ids = {*self.docker(kind, *listed, *ours, host=host).split()}
                if ids:
                    self.docker(kind, "rm", "--force", *ids, check=False, host=host)
        self._pipeline.remove()


_FILTERS = {"volume": "name={}", "image": "reference={}-*"}


def _shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602 - the user's
