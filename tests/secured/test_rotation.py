"""`make secure` that is interrupted, or called twice at once, and certificates of one's own."""

import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trustme

from tests.secured.secured import Secured
from tests.support.pipeline import PATIENCE_SECONDS
from tests.waiting import wait_until

pytestmark = pytest.mark.thorough

CERTIFICATES = ("ca.pem", "server.pem", "server.key")


def flows(secured: Secured, text: str) -> None:
    """See a message come through, on new connections."""
    pipeline = secured.pipeline
    close = ("rabbitmqctl", "close_all_connections", "replaced")
    pipeline.compose("exec", "--no-TTY", "rabbitmq", *close)
    pipeline.mark()
    pipeline.make("publish", f"MSG={text}")
    pipeline.wait_printed([text.upper()])


@contextmanager
def rotating(secured: Secured, what: str) -> Iterator[subprocess.Popen[str]]:
    """Have `make secure` run beside the test."""
    process = subprocess.Popen(
        ["make", "secure", f"ROTATE={what}"],
        cwd=secured.folder,
        env=secured.pipeline.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.communicate()


def test_two_at_once(secured: Secured) -> None:
    """The second one changes nothing, and says why; the first one is done."""
    secured.pipeline.start()
    lock = secured.folder / "secrets/lock"
    with rotating(secured, "passwords") as first:
        wait_until(lambda: is_locked(lock.stat().st_ino), PATIENCE_SECONDS, "the first is at it")
        second = secured.pipeline.make("secure", ROTATE="certificates", check=False)

    assert "Another make secure is at it" in second.stderr
    assert (second.returncode, first.returncode) == (2, 0)
    flows(secured, "after the first")


def is_locked(inode: int) -> bool:
    """Tell whether somebody has a lock on a file."""
    with open("/proc/locks") as locks:  # noqa: PTH123 - no file
        return any(f":{inode} " in line for line in locks)


@pytest.mark.parametrize("what", ["passwords", "certificates"])
def test_one_that_was_killed_is_finished_by_the_next(secured: Secured, what: str) -> None:
    """As soon as it has begun to write; `make up` starts nothing with half of it."""
    pipeline = secured.pipeline
    pipeline.start()
    mark = secured.folder / "secrets/unfinished"
    with rotating(secured, what) as process:
        wait_until(mark.exists, PATIENCE_SECONDS, "it has begun", pause_seconds=0.001)
        os.killpg(process.pid, signal.SIGKILL)
    refused = pipeline.make("up", check=False)
    said = pipeline.make("secure").stdout

    assert refused.returncode == 2
    assert (
        "make secure was interrupted, or goes on still: make secure finishes it" in refused.stderr
    )
    assert "The last make secure was interrupted: this one finishes it." in said
    assert not mark.exists()
    flows(secured, f"after {what}")
    assert pipeline.make("doctor").stdout.startswith("no difference")


@pytest.fixture
def own(secured: Secured) -> Iterator[trustme.CA]:
    """Put certificates of one's own CA there; in the end, those that were there."""
    kept = {name: secured.secret(name) for name in CERTIFICATES}
    ca = trustme.CA()
    cert = ca.create_child_ca().issue_cert("rabbitmq", "localhost", "127.0.0.1")
    mine = (ca.cert_pem.bytes(), b"".join(each.bytes() for each in cert.cert_chain_pems))
    for name, text in zip(CERTIFICATES, (*mine, cert.private_key_pem.bytes()), strict=True):
        (secured.folder / "secrets" / name).write_bytes(text)
    yield ca
    for name, before in kept.items():
        (secured.folder / "secrets" / name).write_text(before)
    secured.pipeline.make("secure")


def test_a_ca_of_one_s_own(secured: Secured, own: trustme.CA) -> None:
    """Brokers show its certificate, stages believe it, and nothing is restarted."""
    pipeline = secured.pipeline
    pipeline.start()
    before = pipeline.containers("to_upper")
    pipeline.make("secure")
    flows(secured, "with our own CA")

    context = ssl.create_default_context(cadata=own.cert_pem.bytes().decode())
    shown = secured.broker()
    assert context.get_ca_certs() == secured.context.get_ca_certs()
    assert shown.request("GET", "whoami")["name"] == "administrator"
    assert pipeline.containers("to_upper") == before
    assert pipeline.make("doctor").stdout.startswith("no difference")
    with closing(secured.connect("printer")) as connection:
        assert connection.is_open


@pytest.mark.usefixtures("own")
def test_a_key_of_another_certificate(secured: Secured) -> None:
    """`make secure` says so; so do stage and doctor where a broker was started with it."""
    pipeline = secured.pipeline
    pipeline.start()
    key = trustme.CA().issue_cert("rabbitmq").private_key_pem.bytes()
    (secured.folder / "secrets/server.key").write_bytes(key)
    refused = pipeline.make("secure", check=False)
    pipeline.compose("restart", "rabbitmq")
    (printer,) = pipeline.containers("printer")

    assert refused.returncode == 2
    assert "server.key is the key of another certificate than server.pem" in refused.stderr
    told = "do its certificate and its key belong together"
    wait_until(
        lambda: told in pipeline.logged(printer), PATIENCE_SECONDS, lambda: pipeline.logged(printer)
    )
    doctor = pipeline.make("doctor", check=False, HALT_TIMEOUT="5")
    assert told in doctor.stderr


def test_a_broker_that_does_not_answer_ends_it(secured: Secured) -> None:
    """Before a password is changed: the broker that is paused would not be told."""
    pipeline = secured.pipeline
    pipeline.start()
    before = secured.secrets()
    pipeline.compose("pause", "rabbitmq")
    try:
        refused = pipeline.make("secure", ROTATE="passwords", check=False)
    finally:
        pipeline.compose("unpause", "rabbitmq")
    health = ("ps", "rabbitmq", "--format", "{{.Health}}")
    wait_until(
        lambda: pipeline.compose(*health).strip() == "healthy",
        PATIENCE_SECONDS,
        "the broker is known to be well again",
        pause_seconds=1,
    )

    assert refused.returncode == 2  # make's own, of any error
    assert "rabbitmq does not say whether it is secured, so no file was changed" in refused.stderr
    assert secured.secrets() == before
    flows(secured, "as before")


def test_a_folder_that_was_lost_while_all_runs(secured: Secured, tmp_path: Path) -> None:
    """Containers have what was in it until they start anew, which is told."""
    pipeline = secured.pipeline
    pipeline.start()
    before = secured.secrets()
    (secured.folder / "secrets").rename(tmp_path / "lost")

    told = pipeline.make("secure", check=False)

    assert told.returncode == 2
    assert "secrets that is gone" in told.stderr
    assert "with these: make down, then make up\n" in told.stderr
    assert not secured.secrets().items() & before.items()
    pipeline.make("down")
    pipeline.make("up")
    flows(secured, "with the new one")
    assert "halted 2/2" in pipeline.make("halt").stdout
    pipeline.make("up")
