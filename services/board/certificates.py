"""When the certificates end that the brokers show: afterwards no stage can connect."""

import socket
import ssl
from time import monotonic

from rabbit.operations.management import ControlSettings

#: They are looked at so often, and a broker may take so long, in seconds.
EVERY_SECONDS = 600.0
_SECONDS = 2.0


class Certificates:
    """Looks at the certificate of each broker, now and then."""

    def __init__(self, settings: ControlSettings) -> None:
        """Look when asked."""
        self._settings = settings
        self._ends: dict[str, float] = {}
        self._looked_at = -EVERY_SECONDS

    def ends(self) -> dict[str, float]:
        """Return when that of each broker ends, in seconds since 1970; {} without TLS."""
        if monotonic() - self._looked_at >= EVERY_SECONDS:
            self._looked_at = monotonic()
            for endpoint in self._settings.endpoints:
                if endpoint.tls:
                    self._look(endpoint.host, endpoint.port)
        return self._ends

    def _look(self, host: str, port: int) -> None:
        """Shake hands; of a broker that is away, what was seen last is kept."""
        try:
            context = self._settings.ssl_context()
            with (
                socket.create_connection((host, port), _SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=host) as secured,
            ):
                end = (secured.getpeercert() or {}).get("notAfter")
        except (OSError, ValueError):
            return
        if isinstance(end, str):
            self._ends[f"{host}:{port}"] = float(ssl.cert_time_to_seconds(end))
