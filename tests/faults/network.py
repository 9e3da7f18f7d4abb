"""What is done to the network between containers, with nothing but Docker and Python.

Packets are dropped by wrong entries in the neighbour tables (programs/swallow.py), not by
iptables: a helper container joins the network namespace with NET_ADMIN, so neither root nor any
tool is needed on the host, and it works where Docker runs in a virtual machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import images
from tests.support.containers import Container, Containers, Image
from tests.waiting import wait_until

_PROGRAMS = Path(__file__).parent / "programs"
_MOUNT = (_PROGRAMS, "/programs")
_END_SECONDS = 30.0


def _python(program: str, *arguments: str) -> Image:
    command = [f"/programs/{program}.py", *arguments]
    return Image(images.python_image(), command, entrypoint=["python3"], mounts=(_MOUNT,))


def address(container: Container, network: str) -> str:
    """Return the address of a container on a network."""
    container.raw.reload()
    return str(container.raw.attrs["NetworkSettings"]["Networks"][network]["IPAddress"])


@contextmanager
def swallowed(containers: Containers, one: Container, other: Container) -> Iterator[None]:
    """Drop all packets between two containers, in both directions, for the time of a `with`."""
    ends = [(one, address(other, containers.network)), (other, address(one, containers.network))]

    def change(what: str) -> None:
        for container, far in ends:
            mode = f"container:{container.id}"
            image = _python("swallow", what, far)
            helper = containers.run(image, {}, network_mode=mode, cap_add=["NET_ADMIN"])
            code = helper.wait(_END_SECONDS)
            assert code == 0, helper.log()
            helper.remove()

    change("add")
    try:
        yield
    finally:
        change("delete")


@contextmanager
def slow_line(
    containers: Containers, target: str, latency_seconds: float, bytes_per_second: float
) -> Iterator[str]:
    """Put a slow line in front of a host; give the name to connect to."""
    image = _python("slow_line", target, str(latency_seconds), str(bytes_per_second))
    with _proxy(containers, "slow-line", image) as proxy:
        yield proxy.raw.name


@contextmanager
def flapping_line(
    containers: Containers, target: str, cuts_per_second: float, seconds: float
) -> Iterator[Container]:
    """Put a line in front of a host that is cut again and again, once `flap` says so.

    Its name is that to connect to.
    """
    image = _python("flapping_line", target, str(cuts_per_second), str(seconds))
    with _proxy(containers, "flapping-line", image) as proxy:
        yield proxy


def flap(line: Container, seconds: float) -> int:
    """Begin to cut a line; return how many connects there were, when it lasts again."""
    line.raw.exec_run(["touch", "/tmp/flap"])  # noqa: S108 - in the container
    wait_until(lambda: "connects" in line.log(), seconds + _END_SECONDS, "the line lasts again")
    return int(line.log().split(" connects")[0].split()[-1])


@contextmanager
def _proxy(containers: Containers, kind: str, image: Image) -> Iterator[Container]:
    proxy = containers.run(image, {}, name=f"{containers.name}-{kind}", init=True)
    listens = "import socket; socket.create_connection(('127.0.0.1', 5672)).close()"
    wait_until(
        lambda: proxy.raw.exec_run(["python3", "-c", listens]).exit_code == 0,
        _END_SECONDS,
        "the slow line is there",
    )
    try:
        yield proxy
    finally:
        proxy.remove()
