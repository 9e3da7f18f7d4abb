"""Builds the shipped images as compose builds them, and that of the benchmark's peers."""

import fcntl
import os
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: The images are made under this project's name, beside those of a running pipeline. Each working
#: copy has names of its own, so that a benchmark of one never measures what another has built.
PROJECT = f"pipeline-benchmark-{zlib.crc32(bytes(ROOT)):08x}"
PEERS = f"{PROJECT}-peers"

_STAGES = ("producer", "to_upper", "printer")


class BuildError(Exception):
    """An image could not be built."""


def stage(name: str) -> str:
    """Return the name of a stage's image."""
    return f"{PROJECT}-{name}"


@contextmanager
def building() -> Iterator[None]:
    """Build while nobody else in this working copy does, for the time of a `with`.

    Who comes next finds the layers made. Side by side, each would make them anew, and the images of
    two stages would not share them.
    """
    with Path(tempfile.gettempdir(), f"{PROJECT}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def python_image() -> str:
    """Return the base image of the stages."""
    return _base_images()[0]


def broker_image() -> str:
    """Return the broker's image."""
    return _base_images()[1]


def _base_images() -> list[str]:
    said = subprocess.run([ROOT / "deploy/bin/base-images"], capture_output=True, check=True)
    return said.stdout.decode().split()


def build_stages(*others: str) -> None:
    """Build the images of the pipeline, and others, exactly as `docker compose up --build` does."""
    with building():
        _run("docker", "compose", "--project-name", PROJECT, "build", *_STAGES, *others)


def build_peers() -> None:
    """Build the image that has the peers and what draws the plots."""
    # As in docker-compose.yml: for pip, behind a proxy that inspects TLS.
    bundle = os.environ.get("CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or os.devnull
    folder = ROOT / "tests" / "benchmarks"
    arguments = ["--build-arg", f"PYTHON_IMAGE={python_image()}", "--tag", PEERS]
    secret = ["--secret", f"id=ca_bundle,src={bundle}"]
    file = ["--file", str(folder / "Dockerfile")]
    _run("docker", "buildx", "build", "--load", *file, *arguments, *secret, str(folder))


def _run(*command: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}")
