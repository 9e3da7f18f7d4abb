"""Files that settings name: what cannot be used ends in one line, whoever runs the tests."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from rabbit.errors import ConfigurationError
from rabbit.settings import Settings
from rabbit.settings_files import check_readable
from tests.process import ROOT

PATIENCE_SECONDS = 10.0

#: It gives up its rights only now: Python itself may be where only we may read.
PROGRAM = """
import os, sys
from pathlib import Path
import rabbit.settings
from rabbit import ConfigurationError

rabbit.settings.SECRETS_DIRECTORY = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    rabbit.settings.Settings.load()
except ConfigurationError as error:
    print(error)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that every user may look into."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Make a CA."""
    return trustme.CA()


def pem(ca: trustme.CA, folder: Path) -> dict[str, Path]:
    """Write a CA's certificate and a certificate with its key; return the settings."""
    made = ca.issue_cert("client")
    files = {name: folder / f"{name}.pem" for name in ("ca", "certificate", "key")}
    ca.cert_pem.write_to_path(files["ca"])
    made.cert_chain_pems[0].write_to_path(files["certificate"])
    made.private_key_pem.write_to_path(files["key"])
    return {f"rabbitmq_{name}_file": path for name, path in files.items()}


def as_nobody(secrets: Path, **environment: object) -> str:
    """Load the settings as a user who may read nothing of ours; return what is told."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(secrets)],
        env={"PYTHONPATH": f"{ROOT / 'shared'}", **{k: str(v) for k, v in environment.items()}},
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stderr == ""
    return told.stdout


def loaded(**given: object) -> str:
    """Load them as we are; return what is told."""
    with pytest.raises(ConfigurationError) as raised:
        Settings.load(**given)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def test_files_that_are_right_are_taken(ca: trustme.CA, folder: Path) -> None:
    """And with them the port is that of TLS, unless one is given."""
    given = pem(ca, folder)

    assert [str(each) for each in Settings.load(**given).endpoints] == ["localhost:5671"]
    assert [str(each) for each in Settings.load(**given, rabbitmq_port=1).endpoints] == [
        "localhost:1"
    ]
    assert Settings.load(**given).endpoints[0].tls


@pytest.mark.parametrize("name", ["rabbitmq_ca_file", "rabbitmq_certificate_file"])
def test_a_file_of_another_user_is_told(ca: trustme.CA, folder: Path, name: str) -> None:
    """The line says which one, and that it is not for us."""
    given = pem(ca, folder)
    given[name].chmod(0)

    told = as_nobody(folder / "none", **{key.upper(): path for key, path in given.items()})

    assert told.startswith(f"{name.upper()}: ")
    assert str(given[name]) in told
    assert "not for the user that this process runs as" in told
    assert len(told.splitlines()) == 1


def test_a_secret_of_another_user_is_told(folder: Path) -> None:
    """Secrets are files too."""
    (folder / "rabbitmq_password").write_text("hunter2")
    (folder / "rabbitmq_password").chmod(0)

    told = as_nobody(folder)

    assert told.startswith(f"RABBITMQ_PASSWORD: {folder / 'rabbitmq_password'}: it cannot be read")
    assert len(told.splitlines()) == 1


def test_secrets_that_cannot_be_listed_are_told(folder: Path) -> None:
    """The folder may be what is not for us."""
    folder.chmod(0)

    told = as_nobody(folder)

    assert told.startswith(f"secrets in {folder} cannot be read")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.mkdir(), "it cannot be read: Is a directory"),
        (lambda path: path.write_bytes(b"hunter2\xff"), "is no text"),
        (lambda path: path.symlink_to("/nonexistent"), "No such file"),
    ],
)
def test_a_secret_that_is_none_is_told(
    make: object, told: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for an empty password; what is in it is not shown."""
    monkeypatch.setattr("rabbit.settings.SECRETS_DIRECTORY", folder)
    assert callable(make)
    make(folder / "RABBITMQ_PASSWORD")

    line = loaded()

    assert line.startswith(f"RABBITMQ_PASSWORD: {folder / 'RABBITMQ_PASSWORD'}")
    assert told in line
    assert "hunter2" not in line


def test_a_secret_is_read_and_other_files_are_let_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes has folders of its own beside them."""
    monkeypatch.setattr("rabbit.settings.SECRETS_DIRECTORY", folder)
    (folder / "..data").mkdir()
    (folder / "other").write_bytes(b"\xff")
    (folder / "rabbitmq_password").write_text("hunter2\n")

    assert Settings.load().rabbitmq_password.get_secret_value() == "hunter2"


def test_an_encrypted_key_is_told(ca: trustme.CA, folder: Path) -> None:
    """OpenSSL would ask for the pass phrase on the terminal, and wait for ever."""
    given = pem(ca, folder)
    path = given["rabbitmq_key_file"]
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )

    assert f"RABBITMQ_KEY_FILE: {path} is encrypted" in loaded(**given)


def test_a_key_of_another_certificate_is_told(ca: trustme.CA, folder: Path) -> None:
    """They are a pair."""
    given = pem(ca, folder)
    ca.issue_cert("other").private_key_pem.write_to_path(given["rabbitmq_key_file"])

    assert "key.pem is the key of another certificate than" in loaded(**given)


def test_an_empty_file_is_told(ca: trustme.CA, folder: Path) -> None:
    """A secret that was mounted before it was there, say."""
    given = pem(ca, folder)
    given["rabbitmq_ca_file"].write_bytes(b"")

    assert loaded(**given).endswith("it is empty")


def test_a_file_that_has_gone_is_an_error_of_its_own(ca: trustme.CA, folder: Path) -> None:
    """It is asked for again with each connection: one line then, too."""
    given = pem(ca, folder)
    settings = Settings.load(**given)
    given["rabbitmq_key_file"].unlink()

    with pytest.raises(ValueError, match=r"RABBITMQ_KEY_FILE: .* cannot be read: No such file"):
        settings.ssl_context()


def test_a_pipe_is_refused_unopened(folder: Path) -> None:
    """To open one waits for somebody who writes: in the loop's thread, for ever."""
    pipe = folder / "ca.pem"
    os.mkfifo(pipe)
    told: list[str] = []

    def check() -> None:
        with pytest.raises(ValueError, match="no regular file") as error:
            check_readable(pipe)
        told.append(str(error.value))

    checking = threading.Thread(target=check, daemon=True)
    checking.start()
    checking.join(PATIENCE_SECONDS)

    assert told == ["it is no regular file"]
