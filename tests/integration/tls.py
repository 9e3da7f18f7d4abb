"""A broker that speaks TLS and demands client certificates, and the certificates for it."""

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, cast

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.broker import Broker
from tests.ports import free_port

_INSIDE = "/etc/rabbitmq"

#: AMQP and the management API with TLS, beside those without.
CONFIGURATION = """
listeners.ssl.default = 5671
management.tcp.port = 15672
management.ssl.port = 15671
management.ssl.cacertfile = /etc/rabbitmq/ca.pem
management.ssl.certfile = /etc/rabbitmq/server.pem
management.ssl.keyfile = /etc/rabbitmq/server.key
management.ssl.verify = verify_peer
management.ssl.fail_if_no_peer_cert = true
"""

#: It has new keys agreed upon all the time, as it would by itself after a day or a terabyte: after
#: so many bytes with TLS 1.3, after so many records with 1.2.
ADVANCED = """
[{rabbit, [{ssl_options, [
    {cacertfile, "/etc/rabbitmq/ca.pem"},
    {certfile, "/etc/rabbitmq/server.pem"},
    {keyfile, "/etc/rabbitmq/server.key"},
    {verify, verify_peer},
    {fail_if_no_peer_cert, true},
    {key_update_at, 20000},
    {renegotiate_at, 50}
]}]}].
"""


class Certificates:
    """A CA, what it has issued, and a CA that nobody knows."""

    def __init__(self, folder: Path) -> None:
        """Write them into a folder."""
        self._folder = folder
        self._ca, self._stranger = trustme.CA(), trustme.CA()
        self.ca = self._write("ca", self._ca.cert_pem)
        self.other_ca = self._write("other-ca", self._stranger.cert_pem)
        self.client = self._pair("client", self._ca.issue_cert("client"))
        self.unknown = self._pair("unknown", self._stranger.issue_cert("client"))
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        self.expired = self._pair("expired", self._ca.issue_cert("client", not_after=long_ago))
        self.server = self._pair("server", self._ca.issue_cert("localhost"))
        self.other_server = self._pair("other-server", self._stranger.issue_cert("localhost"))
        soon = datetime.now(UTC) + timedelta(days=29)
        self.ending_server = self._pair(
            "ending-server", self._ca.issue_cert("localhost", not_after=soon)
        )
        self.old_server = self._pair(
            "old-server", self._ca.issue_cert("localhost", not_after=long_ago)
        )
        self.elsewhere = self._pair("elsewhere", self._ca.issue_cert("elsewhere"))
        between = self._between(soon)
        signed = between.issue_cert("localhost")
        self.ending_between = self._pair("ending-between", signed)
        with self.ending_between["RABBITMQ_CERTIFICATE_FILE"].open("ab") as chain:
            chain.write(between.cert_pem.bytes())

    def _between(self, end: datetime) -> trustme.CA:
        """Make a CA that ours has signed, and that ends by itself."""
        made = self._ca.create_child_ca()
        ours, key = (
            x509.load_pem_x509_certificate(self._ca.cert_pem.bytes()),
            serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None),
        )
        child = x509.load_pem_x509_certificate(made.cert_pem.bytes())
        builder = (
            x509.CertificateBuilder()
            .issuer_name(ours.subject)
            .subject_name(child.subject)
            .public_key(child.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(child.not_valid_before_utc)
            .not_valid_after(end)
        )
        for each in child.extensions:
            builder = builder.add_extension(each.value, critical=each.critical)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        cert = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return trustme.CA.from_pem(cert, made.private_key_pem.bytes())

    def _write(self, name: str, blob: trustme.Blob) -> Path:
        path = self._folder / f"{name}.pem"
        blob.write_to_path(path)
        return path

    def _pair(self, name: str, made: trustme.LeafCert) -> dict[str, Any]:
        return {
            "RABBITMQ_CERTIFICATE_FILE": self._write(name, made.cert_chain_pems[0]),
            "RABBITMQ_KEY_FILE": self._write(f"{name}-key", made.private_key_pem),
        }


class Handshakes:
    """Listens with a certificate, and has nothing to say once TLS is agreed upon.

    Attributes:
        port: where.
    """

    def __init__(self, pair: Mapping[str, Path]) -> None:
        """Show this certificate."""
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(pair["RABBITMQ_CERTIFICATE_FILE"], pair["RABBITMQ_KEY_FILE"])
        self.port = free_port()

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, suppress(OSError):
                self._context.wrap_socket(near, server_side=True)


class TlsBroker(Broker):
    """One broker that speaks TLS at `tls_port`, and at its usual port does not.

    Attributes:
        tls_port: where AMQP is spoken with TLS.
        tls_management_url: likewise the management API.
    """

    def __init__(self, certificates: Certificates) -> None:
        """Prepare it; see `Broker`."""
        super().__init__()
        self.tls_port, management_port = free_port(), free_port()
        self.tls_management_url = f"https://localhost:{management_port}"
        for inside, outside in ((5671, self.tls_port), (15671, management_port)):
            self._container.ports[str(inside)] = cast("int", (self.host, outside))
        server = certificates.server
        files: Mapping[str, bytes] = {
            "ca.pem": certificates.ca.read_bytes(),
            "server.pem": server["RABBITMQ_CERTIFICATE_FILE"].read_bytes(),
            "server.key": server["RABBITMQ_KEY_FILE"].read_bytes(),
            "conf.d/91-tls.conf": CONFIGURATION.encode(),
            "advanced.config": ADVANCED.encode(),
        }
        for name, content in files.items():
            self._container.with_copy_into_container(content, f"{_INSIDE}/{name}", mode=0o644)
