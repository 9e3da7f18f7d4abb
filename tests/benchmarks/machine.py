"""What the figures were measured on and with: they mean nothing without it."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import native
from tests.benchmarks.broker import Broker
from tests.support import images
from tests.support.containers import Containers

_VERSIONS = """
import json, platform, sys
from importlib.metadata import version
found = {each: version(each) for each in sys.argv[1:]}
print(json.dumps({"Python": platform.python_version(), **found}))
"""


def describe(containers: Containers, broker: Broker, *, has_reference: bool) -> dict[str, str]:
    """Name the machine and the versions; nothing that tells whose machine it is."""
    stage = _versions(containers, images.stage("to_upper"), ["pika"])
    return {
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Docker": containers.docker_version,
        "RabbitMQ": broker.version,
        **{f"{name} of the stages": version for name, version in stage.items()},
        **({"librabbitmq": native.version()} if has_reference else {}),
    }


def peers(containers: Containers, distributions: Sequence[str]) -> dict[str, str]:
    """Return the versions of the peers' packages, as installed in their image."""
    return _versions(containers, images.PEERS, distributions)


def _versions(containers: Containers, image: str, distributions: Sequence[str]) -> dict[str, str]:
    printed = containers.output(image, "python", "-c", _VERSIONS, *distributions)
    return {str(name): str(version) for name, version in json.loads(printed).items()}


def _cpu() -> str:
    try:
        rows = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        rows = []
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
