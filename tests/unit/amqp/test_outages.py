"""Why there is no connection, in one line that names what to look at."""

import errno
import socket
import ssl

import pytest

from rabbit.amqp.outages import Closed, NoThread, Phase, Silence, Where, explain
from rabbit.errors import ProtocolError
from rabbit.settings import Endpoint


def where(
    host: str = "one", port: int = 5672, *, by_url: bool = False, has_certificate: bool = False
) -> Where:
    """Name a broker."""
    endpoint = Endpoint(host, port, "orders", "guest", "s3cret", tls=False)
    return Where(endpoint, by_url, has_certificate)


def tls_error(reason: str) -> ssl.SSLError:
    """Make what the ssl module raises."""
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def unverified(code: int, words: str) -> ssl.SSLCertVerificationError:
    """Make what it raises about the broker's certificate."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, words
    return error


LIMIT = "connection limit (5) is reached"
CASES: list[tuple[Phase, BaseException | None, list[str]]] = [
    (Phase.REACHING, socket.gaierror(-2, "Name"), ["no such host 'one'", "RABBITMQ_HOST"]),
    (Phase.REACHING, socket.gaierror(-3, "Try"), ["no name server says where 'one' is (Try)"]),
    (Phase.REACHING, socket.gaierror(-10, "Memory"), ["'one' cannot be looked up (Memory)"]),
    (Phase.REACHING, NoThread("can't start"), ["no thread left to look 'one' up", "ulimit -u"]),
    (Phase.REACHING, ConnectionRefusedError(111, "refused"), ["nothing listens at one:5672"]),
    (Phase.REACHING, Silence(), ["no answer from one:5672", "RABBITMQ_HOST"]),
    (Phase.REACHING, OSError(errno.EMFILE, "Too many"), ["no file descriptor left", "ulimit"]),
    (Phase.REACHING, OSError(errno.EHOSTUNREACH, "No route"), ["no way to one:5672: No route"]),
    (Phase.SECURING, unverified(10, "expired"), ["certificate of one:5672 has expired"]),
    (Phase.SECURING, unverified(9, "not yet"), ["not valid yet", "clock"]),
    (Phase.SECURING, unverified(20, "no issuer"), ["(no issuer)", "RABBITMQ_CA_FILE"]),
    (Phase.SECURING, unverified(62, "mismatch"), ["another name (mismatch)", "_HOST"]),
    (Phase.SECURING, unverified(79, "too weak"), ["not accepted (too weak)"]),
    (Phase.SECURING, tls_error("WRONG_VERSION_NUMBER"), ["does not speak TLS", "RABBITMQ_PORT"]),
    (Phase.SECURING, tls_error("RECORD_LAYER_FAILURE"), ["does not speak TLS", "5671"]),
    (Phase.SECURING, tls_error("BAD_SIGNATURE"), ["its certificate and its key belong together"]),
    (Phase.SECURING, tls_error("NO_SHARED_CIPHER"), ["no TLS connection", "NO_SHARED_CIPHER"]),
    (Phase.SECURING, ConnectionResetError(104, "reset"), ["ended the TLS handshake", "_PORT"]),
    (Phase.SECURING, Silence(), ["stays silent", "RABBITMQ_PORT"]),
    (
        Phase.SECURING,
        tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"),
        ["demands a client certificate", "RABBITMQ_CERTIFICATE_FILE", "RABBITMQ_KEY_FILE"],
    ),
    (
        Phase.GREETING,
        tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        ["demands a client certificate"],
    ),
    (Phase.GREETING, tls_error("TLSV1_ALERT_UNKNOWN_CA"), ["does not know the CA of our client"]),
    (Phase.GREETING, tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), ["certificate has expired"]),
    (Phase.GREETING, tls_error("SSLV3_ALERT_BAD_CERTIFICATE"), ["refuses our client certificate"]),
    (Phase.GREETING, Silence(), ["stays silent", "AMQP port", "RABBITMQ_PORT"]),
    (Phase.GREETING, None, ["accepts a connection and closes it", "AMQP port"]),
    (Phase.GREETING, ProtocolError("x", b"HTTP/1.1 400"), ["answers with HTTP", "15672"]),
    (Phase.GREETING, ProtocolError("x", b"\x15\x03\x01"), ["speaks TLS", "set RABBITMQ_CA_FILE"]),
    (Phase.GREETING, ProtocolError("b'AMQP1'", b"AMQP1"), ["another version of AMQP (b'AMQP1')"]),
    (Phase.GREETING, ProtocolError("b'SSH'", b"SSH"), ["does not speak AMQP (b'SSH')"]),
    (
        Phase.LOGIN,
        Closed(403, "ACCESS_REFUSED - Login was refused using PLAIN"),
        ["refuses user 'guest' with this password", "own machine only", "RABBITMQ_PASSWORD"],
    ),
    (Phase.LOGIN, None, ["connection to one:5672 lost: closed by the other side"]),
    (
        Phase.OPENING,
        Closed(530, "NOT_ALLOWED - vhost orders not found"),
        ["has no virtual host 'orders'", "RABBITMQ_VHOST"],
    ),
    (
        Phase.OPENING,
        Closed(530, "NOT_ALLOWED - access to vhost 'orders' refused for user 'guest'"),
        ["does not let user 'guest' into virtual host 'orders'", "permissions"],
    ),
    (
        Phase.OPENING,
        Closed(530, f"NOT_ALLOWED - access to vhost 'orders' refused for user 'guest': {LIMIT}"),
        ["takes no more connections", LIMIT],
    ),
    (
        Phase.OPENING,
        Closed(530, f"NOT_ALLOWED - connection refused for user 'guest': user {LIMIT}"),
        ["takes no more connections", f"user {LIMIT}"],
    ),
    (
        Phase.OPENING,
        Closed(530, f"NOT_ALLOWED - connection refused: node {LIMIT}"),
        ["takes no more connections", f"node {LIMIT}"],
    ),
    (Phase.OPENING, Closed(541, "INTERNAL_ERROR - vhost is down"), ["INTERNAL_ERROR - vhost is"]),
    (
        Phase.OPEN,
        Closed(530, "NOT_ALLOWED - number of channels opened"),
        ["one:5672 closed the connection: NOT_ALLOWED - number of channels"],
    ),
    (Phase.OPEN, ProtocolError("a frame of 9 bytes"), ["not AMQP as agreed upon: a frame of 9"]),
    (Phase.OPEN, ssl.SSLEOFError(8, "EOF"), ["connection to one:5672 lost"]),
    (Phase.OPEN, ConnectionResetError(104, "reset"), ["connection to one:5672 lost: reset"]),
]


@pytest.mark.parametrize(("phase", "cause", "told"), CASES)
def test_each_cause_has_a_line_of_its_own(
    phase: Phase, cause: BaseException | None, told: list[str]
) -> None:
    """It names the broker or the cause, and the variable to look at; never the password."""
    outage = explain(where(), phase, cause)

    assert [part for part in told if part not in outage.reason] == []
    assert "s3cret" not in outage.reason
    assert "\n" not in outage.reason


@pytest.mark.parametrize(("phase", "cause", "_told"), CASES)
def test_hosts_in_the_same_trouble_are_of_one_kind(
    phase: Phase, cause: BaseException | None, _told: object
) -> None:
    """However many there are, it is told once."""
    one, two = explain(where("one"), phase, cause), explain(where("two", 5673), phase, cause)

    assert one.kind == two.kind


def test_kinds_differ_where_causes_do() -> None:
    """Another cause is news."""
    kinds = {explain(where(), phase, cause).kind for phase, cause, _ in CASES}

    assert len(kinds) >= len(CASES) - 5  # some causes are told alike


def test_who_gives_a_url_is_told_to_look_at_it() -> None:
    """The parts have no effect then."""
    given = where(by_url=True)
    for phase, cause, _ in CASES:
        reason = explain(given, phase, cause).reason
        assert not any(f"RABBITMQ_{part}" in reason for part in ("HOST", "PORT", "VHOST", "USER"))

    plain = explain(given, Phase.GREETING, ProtocolError("x", b"\x15\x03\x01"))
    assert "use amqps:// in RABBITMQ_URL" in plain.reason


def test_the_management_port_is_known() -> None:
    """It waits for a request, and never answers what is none."""
    assert "5672" in explain(where(port=15672), Phase.GREETING, Silence()).reason
    assert "management" in explain(where(port=15672), Phase.GREETING, Silence()).reason


def test_a_handshake_that_fails_with_a_certificate_does_not_demand_one() -> None:
    """TLS 1.2 says no more than that it has failed."""
    error = tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE")

    assert "demands" not in explain(where(has_certificate=True), Phase.SECURING, error).reason


def test_what_a_stranger_says_is_escaped_and_short() -> None:
    """It may be anything, and a log is looked at on a terminal."""
    outage = explain(where(), Phase.OPENING, Closed(500, "\x1b[2J\n" + "x" * 5000))

    assert "\\x1b[2J\\n" in outage.reason
    assert len(outage.reason) < 300
