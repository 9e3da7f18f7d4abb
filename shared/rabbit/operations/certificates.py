"""When the certificates end that brokers show, and those of the CAs that have signed them."""

import socket
import ssl
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from rabbit.amqp.outages import Phase, Where, explain
from rabbit.settings import Endpoint, Settings

#: How long before its end a certificate is told of.
AHEAD = timedelta(days=30)

#: X509_V_ERR_CERT_HAS_EXPIRED, of OpenSSL.
HAS_ENDED = 10

_SECONDS = 5.0
_RENEW = "renew it (make secure ROTATE=certificates, if make secure has made it)"


class Trouble(NamedTuple):
    """What is wrong with the certificate of a broker.

    Attributes:
        problem: ends, also if it has; or refused: it is not believed.
        detail: what exactly, and what to do.
    """

    problem: str
    detail: str


def troubles(settings: Settings) -> dict[str, Trouble]:
    """Return what ends within 30 days, has ended, or is not believed: by broker that speaks TLS.

    A broker that does not answer has none: whoever talks to it is told why.

    Args:
        settings: which brokers there are, and which CA to believe.

    Raises:
        ValueError: a file of TLS cannot be used now.
    """
    found = {}
    for endpoint in settings.endpoints:
        if not endpoint.tls:
            continue
        context = settings.ssl_context()
        try:
            end = first_end(context, endpoint.host, endpoint.port, _SECONDS)
        except ssl.SSLCertVerificationError as error:
            found[str(endpoint)] = _refused(endpoint, settings, error)
        except OSError:  # as are the other errors of ssl
            continue
        else:
            if end - datetime.now(UTC) < AHEAD:
                detail = f"its certificate, or a CA's, ends on {end:%Y-%m-%d}: {_RENEW}"
                found[str(endpoint)] = Trouble("ends", detail)
    return found


def _refused(
    endpoint: Endpoint, settings: Settings, error: ssl.SSLCertVerificationError
) -> Trouble:
    if error.verify_code == HAS_ENDED:
        detail = f"its certificate, or a CA's, has ended: {_RENEW}, or set the clock here right"
        return Trouble("ends", detail)
    by_url = settings.rabbitmq_url is not None
    where = Where(endpoint, by_url, settings.rabbitmq_certificate_file is not None)
    return Trouble("refused", explain(where, Phase.SECURING, error).reason)


def first_end(context: ssl.SSLContext, host: str, port: int, seconds: float) -> datetime:
    """Return when the first one ends of a broker's certificate and of those it is signed by.

    Args:
        context: which CA to believe.
        host: where the broker is.
        port: where it speaks TLS.
        seconds: how long it may take to answer.

    Raises:
        OSError: it does not answer, or is not believed (`ssl.SSLCertVerificationError`).
    """
    with (
        socket.create_connection((host, port), seconds) as connected,
        context.wrap_socket(connected, server_hostname=host) as secured,
    ):
        shown: Any = secured.getpeercert()
        chain = _verified_chain(secured)
    signers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it tells what is in a certificate
    signers.load_verify_locations(cadata=b"".join(chain))
    known: Sequence[Any] = signers.get_ca_certs()
    ends = [ssl.cert_time_to_seconds(each["notAfter"]) for each in (shown, *known)]
    return datetime.fromtimestamp(min(ends), UTC)


def _verified_chain(secured: ssl.SSLSocket) -> list[bytes]:
    """Return the certificates from the broker's to the CA that is believed, in DER."""
    if sys.version_info >= (3, 13):
        return secured.get_verified_chain()
    here: Any = secured
    # Python 3.10 to 3.12 have the same, under this name only; 2 stands for DER.
    return [each.public_bytes(2) for each in here._sslobj.get_verified_chain()]  # noqa: SLF001
