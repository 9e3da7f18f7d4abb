"""Certificates for TLS between two ends in one process."""

import socket
import ssl
from typing import NamedTuple

import trustme


class Contexts(NamedTuple):
    """How each end of a connection speaks TLS.

    Attributes:
        client: knows the CA.
        server: has a certificate for localhost.
    """

    client: ssl.SSLContext
    server: ssl.SSLContext

    def accept(self, sock: socket.socket, timeout_seconds: float) -> ssl.SSLSocket:
        """Shake hands as the server; an end without TLS's farewell is an error for it."""
        sock.settimeout(timeout_seconds)
        return self.server.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)


class Certificates:
    """A CA, and a server's certificate."""

    def __init__(self) -> None:
        """Make them."""
        self._ca = trustme.CA()
        self._server = self._ca.issue_cert("localhost")

    def contexts(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Contexts:
        """Return what both ends need to speak this version."""
        client = ssl.create_default_context()
        self._ca.configure_trust(client)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server.configure_cert(server)
        server.minimum_version = server.maximum_version = version
        return Contexts(client, server)
