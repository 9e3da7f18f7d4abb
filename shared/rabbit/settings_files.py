"""Files that settings name: certificates, keys and secrets, read at start and at each connect."""

import ssl
import stat
from collections.abc import Container
from pathlib import Path
from typing import NoReturn


def check_readable(path: Path) -> None:
    """Look into a file once.

    Raises:
        ValueError: it is missing, empty, no file, or not for the user that this process runs as.
            What is no regular file, a pipe say, is not opened: that may take for ever.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError("it is no regular file")
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {_why(error)}") from error
    if is_empty:
        raise ValueError("it is empty")


def check_secrets(directory: Path, names: Container[str]) -> None:
    """Look into the secrets that there are.

    Args:
        directory: where each is a file of its name, in whichever case.
        names: those of the settings, in lower case; other files are not looked at.

    Raises:
        ValueError: one line that names the secret that cannot be read, or is empty.
    """
    try:
        files = sorted(directory.iterdir()) if directory.exists() else []
    except OSError as error:
        raise ValueError(f"secrets in {directory} cannot be read: {_why(error)}") from error
    for file in files:
        if file.name.lower() in names:
            try:
                read_secret(file)
            except ValueError as error:
                raise ValueError(f"{file.name.upper()}: {error}") from error


def secrets_among(directory: Path, names: Container[str]) -> dict[str, Path]:
    """Return the file of each of these secrets that there is.

    Args:
        directory: where each is a file of its name, in whichever case.
        names: in lower case.
    """
    files = directory.iterdir() if directory.is_dir() else ()
    return {file.name.lower(): file for file in files if file.name.lower() in names}


def read_secret(file: Path) -> str:
    """Return what a file says, without blanks around it.

    Raises:
        ValueError: one line that names the file: it cannot be read, is empty, or is no text.
    """
    try:
        check_readable(file)
        return file.read_text().strip()
    except UnicodeDecodeError:  # which is a ValueError, and shows what it is about
        raise ValueError(f"{file} is no text") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def tls_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return how to check the broker's certificate, and which one to show it.

    Args:
        ca: a file with the CA's certificate; None: whom this machine trusts.
        certificate: a file with our own; None: none.
        key: a file with its key.

    Raises:
        ValueError: one of the files cannot be read, or is no PEM file of its kind.
    """
    for name, path in (("CA", ca), ("CERTIFICATE", certificate), ("KEY", key)):
        if path is not None:
            _check(f"RABBITMQ_{name}_FILE", path)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # as are the errors of ssl
        raise ValueError(f"RABBITMQ_CA_FILE: {ca} has no PEM certificates: {error}") from error
    if certificate and key:
        _load(context, certificate, key)
    return context


def _check(name: str, path: Path) -> None:
    try:
        check_readable(path)
    except ValueError as error:
        raise ValueError(f"{name}: {path}: {error}") from error


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def is_asked_for() -> NoReturn:  # by default OpenSSL asks on the terminal, and waits
        raise ValueError(f"RABBITMQ_KEY_FILE: {key} is encrypted: give a key without a pass phrase")

    try:
        context.load_cert_chain(certificate, key, password=is_asked_for)
    except OSError as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise ValueError(
                f"RABBITMQ_KEY_FILE: {key} is the key of another certificate than {certificate}, "
                "which RABBITMQ_CERTIFICATE_FILE names"
            ) from error
        msg = f"RABBITMQ_CERTIFICATE_FILE, RABBITMQ_KEY_FILE: not a PEM pair: {error}"
        raise ValueError(msg) from error


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "it is not for the user that this process runs as"
    return error.strerror or str(error)
