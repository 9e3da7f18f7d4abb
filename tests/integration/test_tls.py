"""TLS to a real broker: what works, and what is told of what does not."""

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from rabbit import MessageQueue
from rabbit.amqp.tls import TlsSocket
from rabbit.operations.certificates import troubles
from rabbit.operations.management import ControlSettings
from rabbit.settings import Settings
from rabbit.settings_files import tls_context
from services.board.certificates import Certificates as Ends
from tests.conftest import Start
from tests.integration.tls import Certificates, Handshakes, TlsBroker
from tests.ports import free_port
from tests.waiting import wait_until

RECORDER = ("-m", "tests.integration.stages.recorder")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make them once."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> Iterator[TlsBroker]:
    """Run a broker that demands client certificates."""
    with TlsBroker(certificates) as made:
        yield made


def settings(tls: TlsBroker, **changed: object) -> dict[str, Any]:
    """Name the broker as its certificate does."""
    given = {"RABBITMQ_HOST": "localhost", "RABBITMQ_PORT": tls.tls_port, "INPUT_QUEUE": "in"}
    return {**tls.environment, **given, **changed}


def test_a_stage_works_and_is_halted_with_tls_only(
    tls: TlsBroker, certificates: Certificates, start: Start
) -> None:
    """Also the management API is asked with the same CA and client certificate."""
    secured = settings(tls, RABBITMQ_CA_FILE=certificates.ca, **certificates.client)
    sink = start(*RECORDER, **secured)
    tls.put("in", ["a"])
    wait_until(lambda: sink.lines, 20, "it consumes")

    management = {"RABBITMQ_MANAGEMENT_URL": tls.tls_management_url}
    halt = start("-m", "services.control", "halt", ready=False, **{**secured, **management})

    assert halt.wait() == 0, halt.log
    assert sink.wait() == 0


class FullSocket:
    """A socket without room for what follows a read: for TLS's own answer, if there is one."""

    def __init__(self, sock: socket.socket) -> None:
        """Stand before it."""
        self._socket = sock
        self._refusals = 0

    def __getattr__(self, name: str) -> Any:
        """Be that socket, apart from what is here."""
        return getattr(self._socket, name)

    def recv_into(self, buffer: memoryview) -> int:
        """Read, after which there is no room twice."""
        count = self._socket.recv_into(buffer)
        self._refusals = 2
        return count

    def send(self, data: memoryview) -> int:
        """Take it, or nothing."""
        if self._refusals:
            self._refusals -= 1
            raise BlockingIOError
        return self._socket.send(data)


@pytest.mark.parametrize("near", [lambda sock: sock, FullSocket], ids=["room", "full"])
@pytest.mark.parametrize(
    ("version", "renewal"),
    [
        (ssl.TLSVersion.TLSv1_2, "HELLO_REQUEST"),
        (ssl.TLSVersion.TLSv1_3, "KEY_UPDATE"),
    ],
    ids=["1.2", "1.3"],
)
def test_keys_are_renewed_while_messages_flow(
    tls: TlsBroker,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    version: ssl.TLSVersion,
    renewal: str,
    near: Callable[[socket.socket], Any],
) -> None:
    """The broker asks for it in between; every message arrives, and no connection is lost."""
    said: list[str] = []

    def context(*files: Path | None) -> ssl.SSLContext:
        made = tls_context(*files)
        made.maximum_version = version
        made._msg_callback = lambda *each: said.append(repr(each[-2]))  # type: ignore[attr-defined] # noqa: SLF001
        return made

    class Secured(TlsSocket):
        def __init__(self, sock: socket.socket, *given: Any, **named: Any) -> None:
            super().__init__(near(sock), *given, **named)

    monkeypatch.setattr("rabbit.settings.tls_context", context)
    monkeypatch.setattr("rabbit.amqp.services.TlsSocket", Secured)
    files = {"RABBITMQ_CA_FILE": certificates.ca, **certificates.client}
    given = {name.lower(): value for name, value in settings(tls, **files).items()}
    for unwanted in ("input_queue", "rabbitmq_management_url"):
        del given[unwanted]
    sent = [f"{number} {'x' * 1000}" for number in range(1000)]
    taken: list[str] = []
    with MessageQueue(f"renewed-{version.name}", **given) as queue:
        queue.publish_many(sent)

        def take(_channel: object, method: Any, _properties: object, message: str) -> None:
            taken.append(message)
            queue.ack(method)
            if len(taken) >= len(sent):
                queue.stop()

        queue.register(take)
        queue.start()

    logged = "".join(capfd.readouterr())
    assert "warning" not in logged, logged
    assert [text.split()[0] for text in taken] == [text.split()[0] for text in sent]
    assert sum(renewal in each for each in said) >= 5


def test_a_management_api_with_another_ca_is_not_asked(
    tls: TlsBroker, certificates: Certificates, start: Start
) -> None:
    """Whoever answers there does not get the password; the broker itself is the right one."""
    secured = settings(tls, RABBITMQ_CA_FILE=certificates.ca, **certificates.client)
    with Handshakes(certificates.other_server) as other:
        secured |= {"RABBITMQ_MANAGEMENT_URL": f"https://localhost:{other.port}"}
        listed = start(
            *("-m", "services.control", "dead-letters", "list"),
            ready=False,
            **{**secured, "HALT_TIMEOUT": 2},
        )

        assert listed.wait() == 1
    assert "CERTIFICATE_VERIFY_FAILED" in listed.log


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ("ending_server", ("ends", "its certificate, or a CA's, ends on 20")),
        ("ending_between", ("ends", "its certificate, or a CA's, ends on 20")),
        ("old_server", ("ends", "its certificate, or a CA's, has ended: renew it (make secure ")),
        ("other_server", ("refused", "is not signed by a CA that is known here (")),
        ("elsewhere", ("refused", "is for another name (")),
    ],
)
def test_a_certificate_that_ends_or_is_not_believed_is_told(
    certificates: Certificates, shown: str, told: tuple[str, str]
) -> None:
    """Thirty days ahead, and of each broker that shows one; of one that is silent nothing."""
    pair = getattr(certificates, shown)
    with Handshakes(pair) as wrong, Handshakes(certificates.server) as right:
        urls = [f"amqps://localhost:{port}" for port in (wrong.port, right.port, free_port())]
        settings = Settings.load(rabbitmq_url=",".join(urls), rabbitmq_ca_file=certificates.ca)

        found = troubles(settings)

    assert list(found) == [f"localhost:{wrong.port}"]
    (said,) = found.values()
    assert said.problem == told[0]
    assert told[1] in said.detail


@pytest.mark.parametrize(
    ("shown", "days"), [("ending_server", 29), ("ending_between", 29), ("old_server", 0)]
)
def test_the_board_knows_when_certificates_end(
    certificates: Certificates, shown: str, days: int
) -> None:
    """Of one that has ended before it was looked at, that it has; a CA's counts too."""
    with Handshakes(getattr(certificates, shown)) as broker:
        settings = ControlSettings.load(
            rabbitmq_host="localhost",
            rabbitmq_port=broker.port,
            rabbitmq_ca_file=certificates.ca,
        )

        (end,) = Ends(settings).ends().values()

    assert end == pytest.approx(time() + days * 86400, abs=60)


WRONG: list[tuple[str, Callable[[TlsBroker, Certificates], dict[str, Any]], str]] = [
    (
        "no client certificate",
        lambda _, made: {"RABBITMQ_CA_FILE": made.ca},
        "demands a client certificate: set RABBITMQ_CERTIFICATE_FILE and RABBITMQ_KEY_FILE",
    ),
    (
        "an unknown client",
        lambda _, made: {"RABBITMQ_CA_FILE": made.ca, **made.unknown},
        "does not know the CA of our client certificate: check RABBITMQ_CERTIFICATE_FILE",
    ),
    (
        "an expired client",
        lambda _, made: {"RABBITMQ_CA_FILE": made.ca, **made.expired},
        "our client certificate has expired",
    ),
    (
        "an unknown broker",
        lambda _, made: {"RABBITMQ_CA_FILE": made.other_ca, **made.client},
        "is not signed by a CA that is known here",
    ),
    (
        "another name",
        lambda _, made: {
            "RABBITMQ_CA_FILE": made.ca,
            "RABBITMQ_HOST": "127.0.0.1",
            **made.client,
        },
        "name the broker in RABBITMQ_HOST as its certificate does",
    ),
    (
        "TLS to a plain port",
        lambda broker, made: {"RABBITMQ_CA_FILE": made.ca, "RABBITMQ_PORT": broker.port},
        "does not speak TLS: name its TLS port in RABBITMQ_PORT",
    ),
    (
        "no TLS to a TLS port",
        lambda _broker, _made: {},
        "speaks TLS there: name its plain port in RABBITMQ_PORT, or set RABBITMQ_CA_FILE",
    ),
]


@pytest.mark.parametrize(
    ("change", "told"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG]
)
def test_what_keeps_tls_from_working_is_told(
    tls: TlsBroker,
    certificates: Certificates,
    start: Start,
    change: Callable[[TlsBroker, Certificates], dict[str, Any]],
    told: str,
) -> None:
    """One line that names the cause and the variable; the stage goes on trying."""
    stage = start(*RECORDER, ready=False, **settings(tls, **change(tls, certificates)))
    stage.wait_log(told)

    assert stage.halt() == 0
    assert stage.log.count("broker unavailable") == 1
    assert "Traceback" not in stage.log


def test_an_expired_broker_is_told(certificates: Certificates, start: Start) -> None:
    """It is the broker's certificate that has to be renewed; the stage goes on trying."""
    with Handshakes(certificates.old_server) as old:
        stage = start(
            *RECORDER,
            ready=False,
            RABBITMQ_HOST="localhost",
            RABBITMQ_PORT=old.port,
            RABBITMQ_CA_FILE=certificates.ca,
            INPUT_QUEUE="in",
        )
        stage.wait_log(f"certificate of localhost:{old.port} has expired")

        assert stage.halt() == 0
    assert stage.log.count("broker unavailable") == 1


def test_a_file_that_is_away_while_reconnecting_is_a_failed_attempt(
    tls: TlsBroker, certificates: Certificates, start: Start, tmp_path: Path
) -> None:
    """It is told, and tried again: certificates are renewed while stages run."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certificates.ca.read_bytes())
    queue = "renewed"
    given = settings(tls, RABBITMQ_CA_FILE=ca, INPUT_QUEUE=queue, REPLICA="renewed")
    sink = start(*RECORDER, **given, **certificates.client)
    ca.unlink()
    wait_until(lambda: tls.close_connections("renewed") == 2, 10, "two connections are closed")
    sink.wait_log(f"RABBITMQ_CA_FILE: {ca}: it cannot be read: No such file")

    ca.write_bytes(certificates.ca.read_bytes())

    tls.put(queue, ["a"])
    wait_until(lambda: sink.lines, 40, lambda: f"it consumes again\n{sink.log}")
    assert sink.halt() == 0
