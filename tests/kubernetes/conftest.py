"""One namespace for all tests, in the order in which they stand."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import Cluster
from tests.support.pipeline import copy_of_the_project


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Have a namespace, images and secrets; nothing is applied yet."""
    name = f"pipeline-test-{os.getpid()}"
    _ask(_context(), name)
    made = Cluster(copy_of_the_project(tmp_path_factory.mktemp("kubernetes")), name)
    try:
        made.create()
        made.secure()
        made.build("1")
        yield made
    finally:
        made.remove()


def _context() -> str:
    """Return where kubectl points to; without a cluster, fail with one line."""
    for command in (("config", "current-context"), ("get", "storageclasses", "--output", "yaml")):
        done = subprocess.run(("kubectl", *command), capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"kubectl gets to no cluster: {done.stderr.strip()}", pytrace=False)
    if 'is-default-class: "true"' not in done.stdout:
        pytest.fail("the cluster has no default StorageClass, for brokers' data", pytrace=False)
    context = subprocess.run(
        ("kubectl", "config", "current-context"), capture_output=True, text=True, check=True
    )
    return context.stdout.strip()


def _ask(context: str, namespace: str) -> None:
    """Have a person agree, whose cluster it may not be."""
    if os.environ.get("YES") == "1":
        return
    question = f"Create the namespace {namespace} in the cluster {context}, and remove it? [y/N] "
    try:
        with Path("/dev/tty").open("r+") as terminal:
            terminal.write(question)
            terminal.flush()
            answer = terminal.readline()
    except OSError:
        pytest.fail(f"nobody is there to be asked; YES=1: {question}", pytrace=False)
    if not answer.lower().startswith("y"):
        pytest.fail("nothing was done", pytrace=False)
