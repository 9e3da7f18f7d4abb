"""A stage comes to a secured pipeline, and goes again."""

from collections.abc import Iterator

import pytest
from pika.exceptions import AMQPError

from tests.secured.secured import Secured
from tests.support.pipeline import Pipeline

#: What `make stage` changes.
FILES = ("docker-compose.yml", "deploy/cluster/docker-compose.cluster.yml")


@pytest.fixture
def exclaim(secured: Secured, pipeline: Pipeline) -> Iterator[None]:
    """Write it; in the end everything is as it was."""
    files = {name: (secured.folder / name).read_text() for name in FILES}
    pipeline.make("stage", "NAME=exclaim")
    yield
    pipeline.compose("rm", "--stop", "--force", "exclaim")
    for name, text in files.items():
        (secured.folder / name).write_text(text)
    pipeline.make("secure")
    broker = secured.broker()
    for kind in ("queues", "exchanges"):
        for each in broker.request("GET", f"{kind}/%2F"):
            if each["name"].startswith("exclaim"):
                broker.request("DELETE", f"{kind}/%2F/{each['name']}")


@pytest.mark.usefixtures("exclaim")
def test_it_has_a_user_before_it_is_started(secured: Secured, pipeline: Pipeline) -> None:
    """`make up` says what to do; the others keep their passwords, and nothing else is made anew."""
    before = secured.secrets()
    refused = pipeline.make("up", check=False)
    secured.take()
    pipeline.mark()
    pipeline.make("publish", "MSG=through three")
    pipeline.wait_printed(["THROUGH THREE"])

    said = [line for line in refused.stderr.splitlines() if not line.startswith("make:")]
    assert refused.returncode == 2
    assert said == ["No user and no password yet for: exclaim. make secure makes them."]
    assert before.items() < secured.secrets().items()
    secured.connect("exclaim").close()


def test_one_that_is_gone_cannot_log_in(secured: Secured, pipeline: Pipeline) -> None:
    """Its password is there still, in the folder, and the broker does not take it."""
    assert (secured.folder / "secrets/passwords/exclaim").exists()
    with pytest.raises(AMQPError):
        secured.connect("exclaim")
    assert pipeline.make("doctor").stdout.startswith("no difference")
    assert "halted 2/2" in pipeline.make("halt").stdout
