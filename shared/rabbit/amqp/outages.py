"""Why there is no connection to the broker, in one line that names what to look at.

Without a network: how far a connection had come and what ended it in, a text out.
"""

import errno
import re
import socket
import ssl
from enum import Enum
from typing import NamedTuple

from rabbit.errors import ProtocolError
from rabbit.settings import Endpoint
from rabbit.terminal import visible

_LONGEST_WORDS = 200


class Phase(Enum):
    """How far a connection had come."""

    REACHING = "its address"  # name lookup and TCP
    SECURING = "TLS"  # the TLS handshake
    GREETING = "connection.start"  # the protocol header is sent, nothing of AMQP has come back
    LOGIN = "connection.tune"  # the login is sent
    OPENING = "connection.open-ok"  # the virtual host is asked for
    OPEN = "the end"


class Closed(Exception):  # noqa: N818 - what the broker says, whether or not it is an error
    """The broker has closed the connection (connection.close)."""

    def __init__(self, code: int, text: str) -> None:
        """Note its reply code and text."""
        super().__init__(code, text)
        self.code = code
        self.text = text


class Silence(Exception):  # noqa: N818 - as above
    """The peer has not answered in time."""


class NoThread(Exception):  # noqa: N818 - as above
    """This process may have no further thread to look the peer up in."""


class Outage(NamedTuple):
    """Why there is no connection.

    Attributes:
        reason: one line for a person.
        kind: the same for all hosts that something is wrong with in the same way.
    """

    reason: str
    kind: str


class Where(NamedTuple):
    """Whom a connection was for, and which settings say so.

    Attributes:
        endpoint: the broker.
        by_url: whether RABBITMQ_URL names it.
        has_certificate: whether there is a client certificate.
    """

    endpoint: Endpoint
    by_url: bool
    has_certificate: bool


_PARTS = {
    "host": "RABBITMQ_HOST",
    "port": "RABBITMQ_PORT",
    "login": "RABBITMQ_USERNAME and RABBITMQ_PASSWORD",
    "vhost": "RABBITMQ_VHOST",
    "no_tls": "unset RABBITMQ_CA_FILE",
    "tls": "set RABBITMQ_CA_FILE",
}
_URL = {
    **dict.fromkeys(("host", "port", "login", "vhost"), "RABBITMQ_URL"),
    "no_tls": "use amqp:// in RABBITMQ_URL",
    "tls": "use amqps:// in RABBITMQ_URL",
}

_CERTIFICATE_EXPIRED, _NOT_YET_VALID = 10, 9
_UNKNOWN_CA = {2, 18, 19, 20, 21}
_OTHER_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH

#: What an alert of the broker's says of our certificate (RFC 8446, section 6.2).
_ALERTS = (
    (
        r"CERTIFICATE_REQUIRED|^NO_CERTIFICATE",
        (
            "{broker} demands a client certificate: "
            "set RABBITMQ_CERTIFICATE_FILE and RABBITMQ_KEY_FILE"
        ),
    ),
    (
        r"UNKNOWN_CA",
        (
            "{broker} does not know the CA of our client certificate: "
            "check RABBITMQ_CERTIFICATE_FILE"
        ),
    ),
    (
        r"CERTIFICATE_EXPIRED",
        "our client certificate has expired, says {broker}: renew RABBITMQ_CERTIFICATE_FILE",
    ),
    (
        r"CERTIFICATE",
        "{broker} refuses our client certificate ({words}): check RABBITMQ_CERTIFICATE_FILE",
    ),
    (r"PROTOCOL_VERSION", "{broker} and we have no version of TLS in common ({words})"),
)

#: What the broker says when it closes a connection that was not open yet.
_REFUSALS = (
    (
        r"^NOT_ALLOWED - vhost .* not found",
        "{broker} has no virtual host {vhost_name!r}: check {vhost}",
    ),
    (
        r"connection limit \(\d+\) is reached",
        "{broker} takes no more connections ({words}): raise that limit, or stop others",
    ),
    (
        r"^NOT_ALLOWED - access to vhost .* refused",
        (
            "{broker} does not let user {user!r} into virtual host {vhost_name!r}: "
            "check {vhost} and the user's permissions"
        ),
    ),
    (
        r"^ACCESS_REFUSED - Login was refused",
        "{broker} refuses user {user!r} with this password: check {login}",
    ),
)
_GUEST = " (RabbitMQ lets guest in from its own machine only)"

_GREETINGS = (
    (b"\x15\x03", "{broker} speaks TLS there: name its plain port in {port}, or {tls}"),
    (
        b"HTTP/",
        (
            "{broker} answers with HTTP: it is no AMQP port; RabbitMQ's is 5672 by default, "
            "the management API's 15672: check {port}"
        ),
    ),
    (b"AMQP", "{broker} speaks another version of AMQP ({words}): we speak 0-9-1"),
    (
        b"",
        (
            "{broker} does not speak AMQP ({words}): RabbitMQ's port is 5672 by default: "
            "check {host} and {port}"
        ),
    ),
)

_NO_THREAD = (
    "no thread left to look {host_name!r} up: {words}: raise the limit (ulimit -u, or the "
    "container's pids)"
)

#: What OpenSSL says here of a handshake. Anybody can show a certificate; a key proves that it is
#: one's own (RFC 8446, section 4.4.3).
_HANDSHAKES = (
    (
        "BAD_SIGNATURE",
        (
            "{broker} does not prove that the certificate it shows is its own ({words}): do its "
            "certificate and its key belong together?"
        ),
    ),
    (
        "WRONG_VERSION|RECORD|UNEXPECTED|UNKNOWN_PROTOCOL|HTTP",
        "{broker} does not speak TLS: name its TLS port in {port}, 5671 by default, or {no_tls}",
    ),
)


def explain(where: Where, phase: Phase, cause: BaseException | None) -> Outage:
    """Say why there is no connection.

    Args:
        where: whom it was for.
        phase: how far it had come.
        cause: what has ended it; None: the peer has.
    """
    template, words = _template(where, phase, cause)
    parts = {
        "words": words,
        "user": where.endpoint.username,
        "vhost_name": where.endpoint.vhost,
        **(_URL if where.by_url else _PARTS),
    }
    named = {"broker": str(where.endpoint), "host_name": where.endpoint.host}
    # A host name in the peer's own words would make a kind of each host.
    kind = template.format(broker="", host_name="", **{**parts, "words": _without(words, where)})
    return Outage(template.format(**named, **parts), kind)


def _without(words: str, where: Where) -> str:
    return words.replace(where.endpoint.host, "")


def _template(  # noqa: C901, PLR0911 - one for each case
    where: Where, phase: Phase, cause: BaseException | None
) -> tuple[str, str]:
    """Return what to say, and the words of whoever is to blame."""
    match cause:
        case Closed():
            return _closed(where, cause.text, phase), _plain(cause.text)
        case ssl.SSLCertVerificationError():
            return _unverified(cause.verify_code), _plain(cause.verify_message)
        case ssl.SSLError():
            return _no_tls(where, phase, cause), _plain(
                getattr(cause, "reason", None) or str(cause)
            )
        case Silence():
            return _silent(where, phase), ""
        case socket.gaierror():
            return _not_found(cause), _plain(_said(cause))
        case NoThread():
            return _NO_THREAD, _plain(str(cause))
        case ConnectionRefusedError():
            return "nothing listens at {broker}: is RabbitMQ up? check {host}", ""
        case ProtocolError():
            return _gibberish(phase, cause), _plain(str(cause))
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            words = "no file descriptor left for {broker}: {words}: raise the limit (ulimit -n)"
            return words, _plain(_said(cause))
        case None | OSError():
            return _lost(phase), _plain(_said(cause))
        case _:
            return "no connection to {broker}: {words}", _plain(str(cause) or repr(cause))


def _not_found(error: socket.gaierror) -> str:
    """Tell a name that is not known from one that cannot be looked up now (`man getaddrinfo`)."""
    match error.errno:
        case socket.EAI_NONAME | socket.EAI_NODATA:
            return "no such host {host_name!r}: check {host}"
        case socket.EAI_AGAIN | socket.EAI_FAIL:
            return (
                "no name server says where {host_name!r} is ({words}): is the network up, and DNS? "
                "check {host}"
            )
    return "{host_name!r} cannot be looked up ({words}): check {host}"


def _closed(where: Where, text: str, phase: Phase) -> str:
    if phase is not Phase.OPEN:
        for pattern, template in _REFUSALS:
            if re.search(pattern, text):
                is_guest = phase is Phase.LOGIN and where.endpoint.username == "guest"
                return template + _GUEST if is_guest else template
    return "{broker} closed the connection: {words}"


def _unverified(code: int) -> str:
    if code == _CERTIFICATE_EXPIRED:
        return "the certificate of {broker} has expired: renew it, or set the clock here right"
    if code == _NOT_YET_VALID:
        return "the certificate of {broker} is not valid yet: is the clock here right?"
    if code in _OTHER_NAME:
        return (
            "the certificate of {broker} is for another name ({words}): name the broker in {host} "
            "as its certificate does"
        )
    if code in _UNKNOWN_CA:
        return (
            "the certificate of {broker} is not signed by a CA that is known here ({words}): "
            "check RABBITMQ_CA_FILE"
        )
    return "the certificate of {broker} is not accepted ({words}): check RABBITMQ_CA_FILE"


def _no_tls(where: Where, phase: Phase, error: ssl.SSLError) -> str:
    reason = getattr(error, "reason", None) or ""  # not every one has it
    if "ALERT" in reason:
        if "HANDSHAKE_FAILURE" in reason and not where.has_certificate:
            return _ALERTS[0][1]  # up to TLS 1.2 it is not said more clearly
        for pattern, template in _ALERTS:
            if re.search(pattern, reason):
                return template
    elif phase is Phase.SECURING:
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return "{broker} ended the TLS handshake: does it speak TLS there? check {port}"
        for pattern, template in _HANDSHAKES:
            if re.search(pattern, reason):
                return template
    elif isinstance(error, ssl.SSLEOFError):
        return _lost(phase)
    return "no TLS connection to {broker}: {words}: check RABBITMQ_CA_FILE"


def _silent(where: Where, phase: Phase) -> str:
    if phase is Phase.REACHING:
        return "no answer from {broker}: is the network up? check {host}"
    if where.endpoint.port in {15672, 15671}:
        return (
            "{broker} stays silent: that is the management API's port, AMQP's is 5672: check {port}"
        )
    return (
        "{broker} accepts a connection and stays silent: is that RabbitMQ's AMQP port, and is the "
        "broker well? check {host} and {port}"
    )


def _gibberish(phase: Phase, error: ProtocolError) -> str:
    if phase is Phase.GREETING:
        for beginning, template in _GREETINGS:
            if error.data.startswith(beginning):
                return template
    return "{broker} sent what is not AMQP as agreed upon: {words}"


def _lost(phase: Phase) -> str:
    if phase is Phase.REACHING:
        return "no way to {broker}: {words}: check {host}"
    if phase is Phase.SECURING:
        return "{broker} ended the TLS handshake: does it speak TLS there? check {port}"
    if phase is Phase.GREETING:
        return (
            "{broker} accepts a connection and closes it: {words}: is that RabbitMQ's AMQP port? "
            "check {host} and {port}"
        )
    return "connection to {broker} lost: {words}"


def _said(cause: OSError | None) -> str:
    if cause is None:
        return "closed by the other side"
    return cause.strerror or str(cause) or repr(cause)


def _plain(words: str) -> str:
    """Return what somebody else says so that it can be shown: escaped, in bounds."""
    return visible(words[:_LONGEST_WORDS])
