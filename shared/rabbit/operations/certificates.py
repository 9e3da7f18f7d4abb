"""When the certificates end that brokers show, and those of the CAs that have signed them."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

from rabbit.settings import Settings

#: How long before its end a certificate is told of.
AHEAD = timedelta(days=30)

_SECONDS = 5.0


def ending(settings: Settings) -> dict[str, str]:
    """Return what ends within 30 days: for each broker that speaks TLS, one sentence.

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
            end = _end(context, endpoint.host, endpoint.port)
        except OSError:  # as are the errors of ssl
            continue
        if end - datetime.now(UTC) < AHEAD:
            found[str(endpoint)] = f"its certificate, or the CA's, ends on {end:%Y-%m-%d}: renew it"
    return found


def _end(context: ssl.SSLContext, host: str, port: int) -> datetime:
    """Return when the first one ends of a broker's certificate and its CA's."""
    with (
        socket.create_connection((host, port), _SECONDS) as connected,
        context.wrap_socket(connected, server_hostname=host) as secured,
    ):
        shown: Any = secured.getpeercert()
    known: list[Any] = [ca for ca in context.get_ca_certs() if ca["subject"] == shown["issuer"]]
    ends = [ssl.cert_time_to_seconds(each["notAfter"]) for each in (shown, *known)]
    return datetime.fromtimestamp(min(ends), UTC)
