"""What `make secure` writes, and what it leaves alone. No broker is asked."""

import base64
import errno
import hashlib
import io
import json
import os
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import trustme
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.control import certificates
from services.control.secure import Rotate, secure

CONFIG: dict[str, Any] = {
    "rabbitmq": {"environment": {"RABBITMQ_DEFAULT_USER": "pipeline"}},
    "source": {"environment": {"STAGE": "producer", "OUTPUT_QUEUE": "my_queue"}},
    "printer": {"environment": {"INPUT_QUEUE": "my_queue"}},
    "control": {"environment": {"RABBITMQ_HOST": "rabbitmq"}},
    "board": {"environment": {"RABBITMQ_HOST": "rabbitmq"}},
    "prometheus": {"environment": {}},
    "database": {"environment": {}},
}
USERS = {"producer", "printer", "control", "board", "prometheus", "administrator"}

Make = Callable[..., str]


@pytest.fixture
def make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Make:
    """Run the command on a folder; return what it prints."""

    def run(
        *rotate: Rotate,
        without: str = "",
        former: tuple[str, ...] = (),
        names: tuple[str, ...] = (),
    ) -> str:
        services = {name: entry for name, entry in CONFIG.items() if name != without}
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"services": services})))
        secure(tmp_path, list(rotate), list(former), list(names))
        said = capsys.readouterr()
        sys.stderr.write(said.err)  # for whom it matters
        return said.out

    return run


def contents(folder: Path) -> dict[str, str]:
    """Return what each file says, by its path in the folder, but for the mark of a change."""
    files = [each for each in folder.rglob("*") if each.is_file() and "unfinished" not in each.name]
    return {str(each.relative_to(folder)): each.read_text() for each in files}


def users(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the users of the definitions."""
    made = json.loads((folder / "definitions.json").read_text())
    return {user["name"]: user for user in made["users"]}


def is_of(password: str, user: dict[str, Any]) -> bool:
    """Tell whether the broker would let this user in."""
    kept = base64.b64decode(user["password_hash"])
    return kept[4:] == hashlib.sha256(kept[:4] + password.encode()).digest()


def test_every_user_has_a_password_of_his_own(make: Make, tmp_path: Path) -> None:
    """As files; the definitions have hashes, and one administrator."""
    make()

    files, known = contents(tmp_path), users(tmp_path)
    passwords = {name: files[f"passwords/{name}"] for name in USERS}
    assert known.keys() == passwords.keys() == USERS
    assert len(set(passwords.values())) == len(USERS)
    assert min(map(len, passwords.values())) >= 43
    assert all(is_of(passwords[name], known[name]) for name in USERS)
    assert [each for each in passwords.values() if each in files["definitions.json"]] == []
    assert [name for name in USERS if "administrator" in known[name]["tags"]] == ["administrator"]


def test_brokers_have_other_names_elsewhere(make: Make, tmp_path: Path) -> None:
    """A certificate without such a name is replaced, and one that has it stays; so do its names."""
    make()
    make(names=("rabbitmq.pipeline.svc",))
    named = (tmp_path / "server.pem").read_text()
    make(names=("rabbitmq.pipeline.svc",))
    make()

    assert (tmp_path / "server.pem").read_text() == named
    assert {"rabbitmq", "localhost", "rabbitmq.pipeline.svc"} <= {*certificates.names(named)}
    assert (tmp_path / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("name", ["bücher.example", "amqps://rabbitmq", "rabbitmq:5671", "-a"])
def test_what_is_no_name_is_told_before_anything_is_changed(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """No mark is left that keeps `make up` from starting anything."""
    with pytest.raises(typer.Exit) as raised:
        make(names=("rabbitmq.example", name))

    assert raised.value.exit_code == 2
    assert f"NAMES: {name!r} is no DNS name" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_names_in_another_form_are_the_same(make: Make, tmp_path: Path) -> None:
    """Their certificate stays."""
    make(names=("rabbitmq.example", "*.rabbitmq.example", "fd00::5"))
    before = (tmp_path / "server.pem").read_text()
    make(names=("RabbitMQ.example", "fd00:0:0::5"))

    assert (tmp_path / "server.pem").read_text() == before


def test_what_is_there_stays(make: Make, tmp_path: Path) -> None:
    """All but the salt of the hashes; a stage that comes later gets a user of its own."""
    make(without="printer")
    before = contents(tmp_path)
    make()
    after = contents(tmp_path)

    assert {each for each in after if after[each] != before.get(each)} == {
        "definitions.json",
        "passwords/printer",
    }


def test_passwords_are_replaced_where_containers_see_it(make: Make, tmp_path: Path) -> None:
    """In the same files, which are mounted one by one; certificates stay."""
    make()
    before, file = contents(tmp_path), tmp_path / "passwords/printer"
    inode = file.stat().st_ino
    make(Rotate.PASSWORDS)
    after = contents(tmp_path)

    changed = {each for each in after if after[each] != before[each]}
    assert changed == {"definitions.json", *(f"passwords/{name}" for name in USERS)}
    assert file.stat().st_ino == inode
    assert is_of(file.read_text(), users(tmp_path)["printer"])


def handshake(server: Path, ca: str) -> bool:
    """Tell whether who knows this CA believes the broker."""
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(server / "server.pem", server / "server.key")
    near = ssl.create_default_context(cadata=ca).wrap_bio(here, there, server_hostname="rabbitmq2")
    far = shown.wrap_bio(there, here, server_side=True)
    for side in (near, far, near, far):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


def test_a_ca_that_is_replaced_is_known_for_one_more_time(
    make: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Who has read the new one believes the old certificate, too; the one before that is gone."""
    make()
    first, old = contents(tmp_path), tmp_path_factory.mktemp("old")
    for name in ("server.pem", "server.key"):
        (old / name).write_text(first[name])
    make(Rotate.CERTIFICATES)
    second = contents(tmp_path)
    make(Rotate.CERTIFICATES)

    assert handshake(old, first["ca.pem"])
    assert handshake(old, second["ca.pem"])
    assert not handshake(old, contents(tmp_path)["ca.pem"])
    assert handshake(tmp_path, contents(tmp_path)["ca.pem"])
    assert not handshake(tmp_path, first["ca.pem"])
    assert {each for each in second if second[each] != first[each]} == {
        "ca.pem",
        "definitions.json",
        "server.key",
        "server.pem",
    }


def bring(folder: Path, *names: str) -> None:
    """Put certificates of one's own CA into the folder: with one between that and the brokers'."""
    ca = trustme.CA()
    between = ca.create_child_ca()
    own = between.issue_cert(*filter(None, names), common_name="elsewhere")
    (folder / "ca.pem").write_bytes(ca.cert_pem.bytes())
    (folder / "server.pem").write_bytes(b"".join(each.bytes() for each in own.cert_chain_pems))
    (folder / "server.key").write_bytes(own.private_key_pem.bytes())


def test_names_are_those_of_a_certificate_that_was_brought_along(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a client sees it: *.example.com is for each name there; others are told."""
    bring(tmp_path, "rabbitmq", "*.example.com")
    before = contents(tmp_path)
    make(names=("rabbitmq.example.com", "*.example.com"))
    assert before.items() <= contents(tmp_path).items()
    with pytest.raises(typer.Exit) as raised:
        make(names=("rabbitmq.example.org",))

    assert raised.value.exit_code == 2
    said = capsys.readouterr().err
    assert "certificate is not valid for 'rabbitmq.example.org'" in said


def test_certificates_that_were_brought_along_are_used_and_not_replaced(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One's own CA may do what it likes; only who has made them can make others."""
    make()
    bring(tmp_path, "rabbitmq", "rabbitmq2")
    before = contents(tmp_path)
    make()
    with pytest.raises(typer.Exit) as raised:
        make(Rotate.PASSWORDS, Rotate.CERTIFICATES)

    assert raised.value.exit_code == 2
    assert "secrets/server.pem was not made here: put new" in capsys.readouterr().err
    changed = {name for name, text in contents(tmp_path).items() if text != before[name]}
    assert changed == {"definitions.json"}
    assert handshake(tmp_path, before["ca.pem"])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("server.pem", "no certificate", "secrets/server.pem is no certificate in PEM"),
        ("server.key", "no key", "server.pem and server.key are no PEM pair"),
        ("ca.pem", "no CA", "ca.pem is no certificate in PEM"),
        ("server.key", "other", "server.key is the key of another certificate than server.pem"),
        ("ca.pem", "other", "who trusts ca.pem does not believe server.pem: "),
        ("all", "elsewhere", "Hostname mismatch, certificate is not valid for 'rabbitmq'"),
        ("all", "", "Hostname mismatch, certificate is not valid for 'rabbitmq'"),
    ],
)
def test_what_does_not_belong_together_is_told_before_anything_is_changed(
    make: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    text: str,
    said: str,
) -> None:
    """No stage would connect; passwords that were to be replaced are what they were."""
    make()
    if file == "all":
        bring(tmp_path, text)
    elif text == "other":
        kept = contents(tmp_path)
        bring(tmp_path, "rabbitmq")
        for name in {"ca.pem", "server.pem", "server.key"} - {file}:
            (tmp_path / name).write_text(kept[name])
    else:
        (tmp_path / file).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(typer.Exit) as raised:
        make(Rotate.PASSWORDS)

    assert raised.value.exit_code == 2
    assert said in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["ca.pem", "server.pem", "server.key", "definitions.json", "passwords/printer"]
)
@pytest.mark.parametrize("is_link", [True, False])
def test_a_file_that_cannot_be_used_is_told_before_anything_is_changed(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, *, is_link: bool
) -> None:
    """Such as a link to what is not in the container; no mark is left."""
    make()
    (tmp_path / "unfinished").unlink()
    (tmp_path / name).unlink()
    if is_link:
        (tmp_path / name).symlink_to("/nowhere/live/server.pem")
        said = f"secrets/{name} is a link that a container cannot follow: put a copy of the file"
    else:
        (tmp_path / name).mkdir()
        said = f"secrets/{name}: Is a directory. It has to be a file that you may read and write"
    before = contents(tmp_path)
    with pytest.raises(typer.Exit) as raised:
        make(Rotate.PASSWORDS)

    assert raised.value.exit_code == 2
    assert said in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert not (tmp_path / "unfinished").exists()


def test_a_disk_that_is_full_is_told(
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And what was not written is made by the next one."""
    with monkeypatch.context() as patched:
        full = OSError(errno.ENOSPC, "No space left on device")
        patched.setattr("os.open", Mock(side_effect=full))
        with pytest.raises(typer.Exit) as raised:
            make()
    assert raised.value.exit_code == 2
    assert "secrets/unfinished: No space left on device." in capsys.readouterr().err
    make()
    assert users(tmp_path).keys() == USERS


def test_a_key_that_tls_has_no_use_for_is_told(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's TLS has no cipher for it, as with some curves."""
    key = ec.generate_private_key(ec.SECP256K1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rabbitmq")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(now)
    own = builder.not_valid_after(now + timedelta(1)).sign(key, hashes.SHA256())
    for file in ("ca.pem", "server.pem"):
        (tmp_path / file).write_bytes(own.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "server.key").write_bytes(private)
    with pytest.raises(typer.Exit) as raised:
        make()

    assert raised.value.exit_code == 2
    assert "TLS does not come about with server.pem: " in capsys.readouterr().err


def test_a_file_that_containers_cannot_read_is_told_before_anything_is_changed(
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is somebody else's, and only their group may read it."""
    bring(tmp_path, "rabbitmq")
    (tmp_path / "server.key").chmod(0o640)
    monkeypatch.setattr(Path, "chmod", Mock(side_effect=PermissionError))
    before = contents(tmp_path)
    with pytest.raises(typer.Exit) as raised:
        make()

    assert raised.value.exit_code == 2
    assert "chmod 644 secrets/server.key" in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.parametrize("text", ["no CA", ""])
def test_a_ca_that_is_lost_is_made_anew(make: Make, tmp_path: Path, text: str) -> None:
    """As the message about it says; nobody knows the old one any more."""
    make()
    (tmp_path / "ca.pem").write_text(text)
    make(Rotate.CERTIFICATES)

    assert handshake(tmp_path, contents(tmp_path)["ca.pem"])


@pytest.mark.parametrize("files", [["ca.pem"], ["ca.pem", "server.key"]])
def test_one_that_was_interrupted_is_finished(make: Make, tmp_path: Path, files: list[str]) -> None:
    """With all it has written so far; who asks meanwhile believes what the broker shows still."""
    make()
    first = contents(tmp_path)
    make(Rotate.CERTIFICATES)
    assert (tmp_path / "unfinished").read_text() == "certificates"
    for name in {"server.key", "server.pem"} - {*files}:  # as if it had not come so far
        (tmp_path / name).write_text(first[name])
    make(Rotate.CERTIFICATES)

    old = tmp_path / "passwords"  # a folder that is there
    for name in ("server.pem", "server.key"):
        (old / name).write_text(first[name])
    assert handshake(old, contents(tmp_path)["ca.pem"])
    assert handshake(tmp_path, contents(tmp_path)["ca.pem"])


@pytest.mark.parametrize("name", ["passwords/printer", "ca.pem", "server.key", "server.pem"])
def test_names_of_one_that_was_interrupted_are_not_lost(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Wherever it was: it has left a note of them, and that certificates are to be replaced."""
    make()
    (tmp_path / "unfinished").unlink()
    (tmp_path / "passwords/printer").unlink()
    opened = os.open

    def killed(path: Path, *how: int) -> int:
        if path == tmp_path / name:
            raise KeyboardInterrupt
        return opened(path, *how)

    with monkeypatch.context() as patched:
        patched.setattr("os.open", killed)
        with pytest.raises(KeyboardInterrupt):
            make(names=("rabbitmq.example",))
    left = [Rotate(each) for each in (tmp_path / "unfinished").read_text().split()]
    make(*left)  # as deploy/bin/secure does

    assert "rabbitmq.example" in certificates.names((tmp_path / "server.pem").read_text())
    assert handshake(tmp_path, contents(tmp_path)["ca.pem"])


def test_names_count_until_it_is_finished(make: Make, tmp_path: Path) -> None:
    """One's own certificate, which is brought along later, need not have them."""
    make()
    make(names=("rabbitmq.example",))
    (tmp_path / "unfinished").unlink()
    bring(tmp_path, "rabbitmq")
    make()

    assert (tmp_path / "unfinished").read_text() == ""


def test_certificates_may_be_brought_along_while_one_is_unfinished(
    make: Make, tmp_path: Path
) -> None:
    """In place of those that were to be replaced, and for other names."""
    make()
    make(Rotate.CERTIFICATES, names=("rabbitmq.example",))
    bring(tmp_path, "rabbitmq")
    before = contents(tmp_path)
    make(Rotate.CERTIFICATES)

    assert before["server.pem"] == contents(tmp_path)["server.pem"]
    assert (tmp_path / "unfinished").read_text() == ""


def test_who_is_gone_does_not_log_in(make: Make, tmp_path: Path) -> None:
    """A stage that is no more, and the default user of a broker that was there before."""
    make()
    make(without="source", former=("pipeline", "guest"))

    known = users(tmp_path)
    rights = json.loads((tmp_path / "definitions.json").read_text())["permissions"]
    gone = {"pipeline", "guest", "producer"}
    assert known.keys() == USERS | gone
    assert {name for name in known if not known[name]["password_hash"]} == gone
    assert {each["write"] for each in rights if each["user"] in gone} == {"^$"}


def test_who_comes_back_has_another_password(make: Make, tmp_path: Path) -> None:
    """The one before may be why the stage had to go."""
    make()
    before = (tmp_path / "passwords/producer").read_text()
    make(without="source")
    make()

    after = (tmp_path / "passwords/producer").read_text()
    assert after != before
    assert is_of(after, users(tmp_path)["producer"])


def test_who_cannot_log_in_any_more_is_told_once(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage may be there still: in a file that COMPOSE_FILE did not name this time."""
    make()
    capsys.readouterr()
    make(without="source")
    first = capsys.readouterr().err
    password = (tmp_path / "passwords/producer").read_text()
    make(without="source")
    second = capsys.readouterr().err

    assert "producer: no stage of this name is in the files of Compose that were read" in first
    assert "COMPOSE_FILE= with its file too, make secure, make up" in first
    assert "producer" not in second
    assert (tmp_path / "passwords/producer").read_text() == password
    assert not users(tmp_path)["producer"]["password_hash"]


def test_a_user_that_was_not_made_here_is_left_alone(make: Make, tmp_path: Path) -> None:
    """Neither the password that somebody keeps beside ours, nor whether that user may log in."""
    make()
    (tmp_path / "passwords/mine").write_text("of my own")
    make(Rotate.PASSWORDS)

    assert (tmp_path / "passwords/mine").read_text() == "of my own"
    assert "mine" not in users(tmp_path)


def test_who_is_gone_is_so_after_a_full_disk_too(make: Make, tmp_path: Path) -> None:
    """Definitions of which a part was written do not say any more who was made here."""
    make()
    (tmp_path / "definitions.json").write_text('{"users": [')
    make(without="source")

    assert not users(tmp_path)["producer"]["password_hash"]


@pytest.mark.parametrize("there", [["ca.pem"], ["ca.pem", "server.key"], ["server.key"]])
def test_a_part_of_what_was_brought_along_is_not_overwritten(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], there: list[str]
) -> None:
    """It may be the only copy. What an interrupted first run has left is made anew."""
    bring(tmp_path, "rabbitmq")
    for name in {"ca.pem", "server.key", "server.pem"} - {*there}:
        (tmp_path / name).unlink()
    before = contents(tmp_path)
    with pytest.raises(typer.Exit) as raised:
        make()

    assert raised.value.exit_code == 2
    assert f"has {' and '.join(there)}, and no server.pem" in capsys.readouterr().err
    assert contents(tmp_path) == before
    (tmp_path / "unfinished").touch()
    make()
    assert handshake(tmp_path, contents(tmp_path)["ca.pem"])


def test_containers_can_read_what_they_are_given(make: Make, tmp_path: Path) -> None:
    """Whatever modes the files had: the folder is for its owner only."""
    make()
    for name in ("server.key", "passwords/printer", "definitions.json"):
        (tmp_path / name).chmod(0o600)
    make()

    modes = {each.stat().st_mode & 0o777 for each in tmp_path.rglob("*") if each.is_file()}
    assert modes == {0o644}


def test_what_a_service_may_do_is_not_guessed(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is neither a stage nor control does not get the rights of control."""
    environment = {"RABBITMQ_HOST": "rabbitmq", "STAGE": "tool"}
    monkeypatch.setitem(CONFIG, "tool", {"environment": environment})
    another = {"build": {"args": {"STAGE": "control"}}, "environment": {"RABBITMQ_HOST": "r"}}
    monkeypatch.setitem(CONFIG, "nightly", another)
    made = make()

    assert "\n  tool:" not in made
    assert "tool: what it may do is not known" in capsys.readouterr().err
    assert 'RABBITMQ_USERNAME: "control"' in made.split("\n  nightly:\n")[1].split("\n\n")[0]


def test_another_number_of_partitions_is_refused_until_those_there_are_removed(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker would make them beside the others, and give them keys that wait elsewhere."""
    number = {"INPUT_QUEUE": "orders", "INPUT_KIND": "ordered", "PARTITIONS": "2"}
    monkeypatch.setitem(CONFIG, "reader", {"environment": number})
    make()
    before = contents(tmp_path)
    number["PARTITIONS"] = "3"
    with pytest.raises(typer.Exit) as raised:
        make(Rotate.PASSWORDS)
    said = capsys.readouterr().err
    after = contents(tmp_path)
    (tmp_path / "repartitioned").write_text("orders\n")
    make()
    number["PARTITIONS"] = "4"
    with pytest.raises(typer.Exit):
        make()

    assert raised.value.exit_code == 2
    assert "'orders' has 2 partitions, and PARTITIONS=3 is declared. Nothing was changed" in said
    assert "echo orders >>secrets/repartitioned, make secure, make up" in said
    assert after == before
    made = json.loads((tmp_path / "definitions.json").read_text())["queues"]
    assert "orders.2" in {each["name"] for each in made}


def test_services_get_what_is_theirs(make: Make) -> None:
    """Each stage the password of its user, control's that of control; others nothing."""
    made = make()
    entries = dict(zip(CONFIG, range(9), strict=False))
    parts = {name: made.split(f"\n  {name}:\n")[-1].split("\n\n")[0] for name in entries}

    assert 'RABBITMQ_USERNAME: "producer"\n' in parts["source"]
    assert "source: secured_password_producer, target: rabbitmq_password" in parts["source"]
    assert "source: secured_password_control, " in parts["control"]
    assert "source: secured_password_board, " in parts["board"]
    assert "source: secured_password_prometheus, " in parts["prometheus"]
    assert "RABBITMQ_USERNAME" not in parts["prometheus"]
    assert "inet_dist_use_interface {127,0,0,1}" in parts["rabbitmq"]
    assert "\n  database:" not in made


def test_certificates_are_for_a_year() -> None:
    """And for all names that a broker is asked for by."""
    _, server, _ = certificates.make(["rabbitmq", "127.0.0.1"])

    assert certificates.names(server) == ["rabbitmq", "127.0.0.1"]
    assert certificates.is_own(server)
