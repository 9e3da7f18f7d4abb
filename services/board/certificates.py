"""When the certificates end that the brokers show: afterwards no stage can connect."""

import ssl
from time import monotonic, time

from rabbit.operations.certificates import HAS_ENDED, first_end
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
        """Return when that of each broker ends, or a CA's, in seconds since 1970; {} without TLS.

        Of one that had ended before it was looked at it is the time of that look.
        """
        if monotonic() - self._looked_at >= EVERY_SECONDS:
            self._looked_at = monotonic()
            for endpoint in self._settings.endpoints:
                if endpoint.tls:
                    self._look(endpoint.host, endpoint.port)
        return self._ends

    def _look(self, host: str, port: int) -> None:
        """Shake hands; of a broker that is away, what was seen last is kept."""
        broker = f"{host}:{port}"
        try:
            end = first_end(self._settings.ssl_context(), host, port, _SECONDS)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code == HAS_ENDED:
                self._ends[broker] = min(time(), self._ends.get(broker, time()))
        except (OSError, ValueError):
            return
        else:
            self._ends[broker] = end.timestamp()
