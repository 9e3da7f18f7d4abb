"""Another number of partitions where stages make none themselves."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.secured.secured import Secured
from tests.support.pipeline import PATIENCE_SECONDS
from tests.waiting import wait_until

EDGE = "accounts"


def ordered(secured: Secured, partitions: int) -> None:
    """Have to_upper read an ordered edge with so many partitions."""
    environment = f"INPUT_QUEUE: {EDGE}, INPUT_KIND: ordered, PARTITIONS: {partitions}"
    override = f"services: {{to_upper: {{environment: {{{environment}}}}}}}"
    (secured.folder / "docker-compose.override.yml").write_text(override)


@pytest.fixture
def accounts(secured: Secured) -> Iterator[None]:
    """Do so, with two of them; in the end everything is as it was."""
    override = secured.folder / "docker-compose.override.yml"
    before = override.read_text()
    ordered(secured, 2)
    secured.take()
    yield
    override.write_text(before)
    (secured.folder / "secrets/repartitioned").unlink(missing_ok=True)
    secured.take()
    broker = secured.broker()
    for kind in ("queues", "exchanges"):
        for each in broker.request("GET", f"{kind}/%2F"):
            if each["name"].startswith(EDGE):
                broker.request("DELETE", f"{kind}/%2F/{each['name']}")


def partitions(secured: Secured) -> set[str]:
    """Return the queues of the edge that messages come to."""
    names = {each["name"] for each in secured.broker().request("GET", "queues/%2F")}
    return {name for name in names if name.removeprefix(f"{EDGE}.").isdecimal()}


def all_come(secured: Secured, text: str) -> None:
    """See a message of each of many keys come through."""
    secured.pipeline.mark()
    with closing(secured.connect("administrator")) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for key in range(20):
            channel.basic_publish(EDGE, f"key-{key}", f"{text} {key}".encode(), mandatory=True)
    expected = {f"{text} {key}".upper() for key in range(20)}
    wait_until(
        lambda: expected <= {*secured.pipeline.all_printed()},
        PATIENCE_SECONDS,
        lambda: f"{secured.pipeline.all_printed()}",
    )


@pytest.mark.usefixtures("accounts")
def test_another_number_of_partitions(secured: Secured) -> None:
    """As the doctor says; also where a broker has made the old ones again before `make secure`."""
    pipeline = secured.pipeline
    all_come(secured, "two")
    ordered(secured, 3)
    refused = pipeline.make("secure", check=False)
    before = partitions(secured)
    pipeline.make("drain")
    removed = pipeline.make("repartition", f"ARGS={EDGE}").stdout
    pipeline.compose("restart", "rabbitmq")
    pipeline.compose("up", "--detach", "--wait", "rabbitmq")
    doctor = pipeline.make("doctor", "ARGS=--format json", check=False).stdout
    again = pipeline.make("repartition", f"ARGS={EDGE}").stdout
    gone = partitions(secured)
    pipeline.run("sh", "-c", f"echo {EDGE} >>secrets/repartitioned")
    secured.take()
    all_come(secured, "three")

    note = f"echo {EDGE} >>secrets/repartitioned"
    told = f"{EDGE}: 2 partitions removed; set PARTITIONS, {note}, make secure, make up\n"
    assert refused.returncode == 2
    assert f"{EDGE!r} has 2 partitions, and PARTITIONS=3 is declared" in refused.stderr
    assert before == {f"{EDGE}.{number}" for number in range(2)}
    assert removed == again == told
    assert gone == set()
    assert f"make repartition ARGS={EDGE}, make secure, make up" in doctor
    assert partitions(secured) == {f"{EDGE}.{number}" for number in range(3)}
    assert "PARTITIONS" not in pipeline.make("doctor", "ARGS=--format json", check=False).stdout
