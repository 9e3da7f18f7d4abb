"""Who takes part. A new peer is a file in peers/ and a line in `PEERS`."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import native
from tests.benchmarks.bodies import Carries
from tests.support import images
from tests.support.containers import Image

_PEERS_FOLDER = Path(__file__).parent / "peers"
CONFIGURATIONS = ("documented", "tuned")


class Peer(NamedTuple):
    """A library or framework that does the same job.

    Attributes:
        name: what it is called in the tables; its module is the same with underscores.
        distribution: its package, whose version is shown.
        documented: messages a second to expect from the documented configuration.
        tuned: the same of the tuned one. These choose how many messages the first round takes.
    """

    name: str
    distribution: str
    documented: int
    tuned: int

    @property
    def source(self) -> Path:
        """Its file."""
        return _PEERS_FOLDER / f"{self.name.replace('-', '_')}.py"


PEERS = (
    Peer("pika-blocking", "pika", 600, 1_500),
    Peer("aio-pika", "aio-pika", 1_000, 2_000),
    Peer("celery", "celery", 400, 800),
    Peer("dramatiq", "dramatiq", 800, 1_000),
    Peer("faststream", "faststream", 1_000, 1_200),
    Peer("taskiq", "taskiq", 900, 1_200),
    Peer("kombu", "kombu", 800, 2_000),
    Peer("amqpstorm", "amqpstorm", 40, 2_000),
)


@dataclass(frozen=True)
class Candidate:
    """One row of the tables.

    Attributes:
        name: of the row.
        image: what its container is made of.
        guarantee: what it really promises, in a sentence.
        environment: variables of its own.
        distribution: the package whose version is shown; None: it is part of this project.
        expected_per_second: how many messages the first round is made for.
        sends: how it publishes one message, for a framework that has an envelope of its own.
        is_ours: it has to end in order when it is told to.
        carries: what its messages are: texts, texts with headers, or JSON.
    """

    name: str
    image: Image
    guarantee: str
    environment: Mapping[str, str] = field(default_factory=dict)
    distribution: str | None = None
    expected_per_second: int = 15_000
    sends: Image | None = None
    is_ours: bool = False
    carries: Carries = "text"

    def with_settings(self, name: str, **environment: str) -> "Candidate":
        """Return the same under another name and with other settings."""
        return replace(self, name=name, environment={**self.environment, **environment})


def ours(stage: str = "to_upper") -> Candidate:
    """Return a shipped stage with its default settings."""
    guarantee = "at least once: confirm, then ack; the same ids after a redelivery"
    return Candidate("ours", Image(images.stage(stage)), guarantee, is_ours=True)


def reference(program: str = "relay", *arguments: str) -> Candidate:
    """Return one of the C programs, in the image that the stages are based on."""
    image = Image(
        images.python_image(),
        arguments,
        entrypoint=[f"{native.INSIDE}/{program}"],
        mounts=((native.BUILD, native.INSIDE),),
    )
    return Candidate("c", image, "at least once: pipelined confirms, then ack")


def publishers(lines: str) -> list[Candidate]:
    """Return who can publish the lines of a file, with confirms."""
    producer = ours("producer")
    blocking = peer(PEERS[0], CONFIGURATIONS[0])
    return [
        replace(producer, image=producer.image._replace(command=["--file", lines])),
        reference("publish", lines),
        replace(
            blocking,
            image=blocking.image._replace(command=["pika_blocking", "publish"]),
            environment={"LINES": lines},
        ),
    ]


def peer(which: Peer, configuration: str) -> Candidate:
    """Return a peer in one of its configurations."""
    functions = {
        node.name: ast.get_docstring(node) or ""
        for node in ast.parse(which.source.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    run = [which.source.stem, configuration]
    return Candidate(
        f"{which.name}-{configuration}",
        Image(images.PEERS, run),
        " ".join(functions[configuration].split("\n\n")[0].split()),
        distribution=which.distribution,
        expected_per_second=getattr(which, configuration),
        sends=Image(images.PEERS, [which.source.stem, "send"]) if "send" in functions else None,
    )


def everyone() -> list[Candidate]:
    """Return all candidates of the relay, ours and the reference first."""
    peers = [peer(which, configuration) for which in PEERS for configuration in CONFIGURATIONS]
    return [ours(), reference(), *peers]


def choose(names: tuple[str, ...]) -> list[Candidate]:
    """Return the candidates of these names; the name of a peer stands for both configurations.

    Raises:
        LookupError: when nobody has such a name.
    """
    return [each for name in names for each in _named(name)]


def _named(name: str) -> Iterator[Candidate]:
    found = [each for each in everyone() if name in {each.name, each.name.rpartition("-")[0]}]
    if not found:
        known = ", ".join(each.name for each in everyone())
        raise LookupError(f"there is no candidate {name}; there are {known}")
    yield from found
