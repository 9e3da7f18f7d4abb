"""A CA for one pipeline, and the certificate that its brokers show."""

import ipaddress
import re
import secrets
import ssl
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: How long certificates last.
LIFETIME = timedelta(days=365)
#: Clocks differ.
_EARLIER = timedelta(hours=1)
#: Who has made them.
_ISSUER = "pipeline: make secure"

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$)(\*\.)?{_LABEL}(\.{_LABEL})*")


def make(names: Iterable[str]) -> tuple[str, str, str]:
    """Return a new CA, a certificate of it for servers of these names, and the key of that, in PEM.

    The key of the CA is not kept: nobody can make another certificate of it.
    """
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name(f"CA {datetime.now(UTC):%Y-%m-%d} {secrets.token_hex(4)}")
    of_the_key = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        _certificate(issuer, issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(of_the_key, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        _certificate(issuer, _name("broker"), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_alternative, names)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(of_the_key),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return _pem(ca), _pem(server), private.decode()


def of_both(new: str, old: bytes, shown: str) -> str:
    """Return the new CA, and the one before it: what is there already goes on to be trusted.

    Args:
        new: one certificate in PEM.
        old: the certificates that there were, if they are any.
        shown: the brokers' certificate, which one of those has signed.
    """
    issuer = x509.load_pem_x509_certificate(shown.encode()).issuer
    try:
        known = x509.load_pem_x509_certificates(old)
    except ValueError:
        known = []
    return new + "".join(_pem(each) for each in known if each.subject == issuer)


def why_refused(ca: Path, server: Path, key: Path, names: Iterable[str]) -> str | None:
    """Say why a client would not believe a broker that shows this certificate; None: it would.

    They shake hands, in memory, as a stage and a broker would.

    Args:
        ca: what the client trusts.
        server: the certificate, then those between it and the CA.
        key: its private key.
        names: what brokers are called by those who connect; *.example.com: any name there.
    """
    broker = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        broker.load_cert_chain(server, key, password=lambda: "")  # else it would ask for it
    except (OSError, ValueError) as error:  # as are the errors of ssl
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            return f"{key.name} is the key of another certificate than {server.name}"
        return (
            f"{server.name} and {key.name} are no PEM pair, or the key has a pass phrase: {error}"
        )
    try:
        client = ssl.create_default_context(cafile=ca)
    except OSError as error:
        return f"{ca.name} is no certificate in PEM: {error}"
    for name in names:
        try:
            _shake_hands(client, broker, name.replace("*", "any"))
        except ssl.SSLCertVerificationError as error:
            return f"who trusts {ca.name} does not believe {server.name}: {error.verify_message}"
        except ssl.SSLError as error:
            return f"TLS does not come about with {server.name}: {error}; is its key RSA or P-256?"
    return None


def _shake_hands(client: ssl.SSLContext, broker: ssl.SSLContext, name: str) -> None:
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(here, there, server_hostname=name)
    far = broker.wrap_bio(there, here, server_side=True)
    for side in (near, far, near):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()


def is_own(certificate: str) -> bool:
    """Tell whether a certificate was made here, and not brought along."""
    issuer = x509.load_pem_x509_certificate(certificate.encode()).issuer
    return any(
        each.value == _ISSUER for each in issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    )


def end(certificate: str) -> datetime:
    """Return when the first of these certificates ends."""
    found = x509.load_pem_x509_certificates(certificate.encode())
    return min(each.not_valid_after_utc for each in found)


def names(certificate: str) -> list[str]:
    """Return the names that a server may have."""
    server = x509.load_pem_x509_certificate(certificate.encode())
    try:
        found = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(each.value) for each in found]


def normal(name: str) -> str:
    """Return the name of a server as a certificate has it.

    Raises:
        ValueError: it is none.
    """
    with suppress(ValueError):
        return str(ipaddress.ip_address(name))
    if not _DNS_NAME.fullmatch(name.lower()):
        raise ValueError(
            f"{name!r} is no DNS name (an international one begins with xn--) and no IP address"
        )
    return name.lower()


def _certificate(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + LIFETIME)
    )


def _name(text: str) -> x509.Name:
    parts = {NameOID.ORGANIZATION_NAME: _ISSUER, NameOID.COMMON_NAME: text}
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts.items()])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    kinds = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        **kinds,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
