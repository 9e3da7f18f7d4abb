"""The folder `secrets`: passwords, certificates and definitions, each in a file of its own."""

import json
import os
import secrets
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from rabbit import ConfigurationError
from rabbit.topology import CENSUS_SUFFIX

from . import certificates

_PASSWORD_BYTES = 32
#: The folder is its owner's; in a container, each file is for the user that runs there.
_MODE = 0o644
#: What may be brought along.
_CERTIFICATES = ("ca.pem", "server.pem", "server.key")
#: What is being replaced, until brokers know it, and what brokers are to be called, too.
_UNFINISHED, _UNFINISHED_NAMES = "unfinished", "unfinished_names"
#: The ordered edges whose partitions were removed, a line each.
_REPARTITIONED = "repartitioned"
#: Of a user who was let in before.
_GONE = (
    "no stage of this name is in the files of Compose that were read: this user cannot log in any "
    "more. If the stage is to stay: COMPOSE_FILE= with its file too, make secure, make up"
)


class Folder:
    """What secures a pipeline; what is there stays, unless it is to be replaced."""

    def __init__(self, path: Path) -> None:
        """Use a folder that is there."""
        self._path = path.resolve()

    def needed(self, names: Iterable[str]) -> list[str]:
        """Return what brokers are to be called, too, as certificates have it.

        Those that one that was interrupted was given are among them, unless certificates have been
        brought along since.

        Raises:
            ConfigurationError: one of them is no name.
        """
        is_left = self._has(_UNFINISHED_NAMES) and (self._path / _UNFINISHED).exists()
        left = self._read(_UNFINISHED_NAMES).split() if is_left and not self._is_brought() else []
        try:
            return [certificates.normal(name) for name in (*left, *names)]
        except ValueError as error:
            raise ConfigurationError(f"NAMES: {error}. Nothing was changed") from None

    def wanted(self, renew: Iterable[str]) -> set[str]:
        """Return what is to be replaced, but for what was brought along in place of it.

        Args:
            renew: what one that was interrupted was to replace is among it.

        Raises:
            ConfigurationError: the certificate that is there is none.
        """
        left = self._read(_UNFINISHED).split() if self._has(_UNFINISHED) else []
        is_moot = "certificates" in left and self._is_brought()
        return {*renew} - ({"certificates"} if is_moot else set())

    def check_partitions(self, made: dict[str, Any]) -> None:
        """See that each ordered edge has as many partitions as before, unless they were removed.

        A broker that is told of more makes them beside those that messages wait in.

        Args:
            made: what a broker is to know.

        Raises:
            ConfigurationError: one has another number.
        """
        removed = self._read(_REPARTITIONED).splitlines() if self._has(_REPARTITIONED) else []
        before = _partitions(self._known() or {})
        for place, number in _partitions(made).items():
            there, (_, edge) = before.get(place, number), place
            if there != number and edge not in removed:
                raise ConfigurationError(
                    f"{edge!r} has {there} partitions, and PARTITIONS={number} is declared. "
                    "Nothing was changed: another number would mix up the order. Set it as it is; "
                    f"or make drain, make repartition ARGS={shlex.quote(edge)}, then echo "
                    f"{shlex.quote(edge)} >>secrets/{_REPARTITIONED}, make secure, make up"
                )

    def _is_brought(self) -> bool:
        if not self._has("server.pem"):
            return False
        self.end()  # so it is a certificate
        return not certificates.is_own(self._read("server.pem"))

    def check(self, names: Iterable[str], users: Iterable[str], *, renew: bool) -> None:
        """See, before anything is changed, whether the files that are there will do.

        Args:
            names: what brokers are called.
            users: who has a password.
            renew: whether certificates are to be replaced.

        Raises:
            ConfigurationError: no stage would believe a broker that shows them, or they are to be
                replaced and were brought along, or one of them is missing; or a file cannot be
                used from within a container.
        """
        self._check_files(users, renew=renew)
        if not self._has("server.pem"):
            brought = [name for name in ("ca.pem", "server.key") if self._has(name)]
            if brought and not (self._path / _UNFINISHED).exists():
                raise ConfigurationError(
                    f"the folder secrets has {' and '.join(brought)}, and no server.pem: put it "
                    "there, if they were brought along; else remove them, then make secure"
                )
            return
        if self._is_brought() and renew:
            raise ConfigurationError(
                "secrets/server.pem was not made here: put new ca.pem, server.pem and "
                "server.key in place of these, then make secure"
            )
        ca, server, key = (self._path / name for name in _CERTIFICATES)
        why = None if renew else certificates.why_refused(ca, server, key, names)
        if why:
            raise ConfigurationError(
                f"in the folder secrets, {why}. Put right what was brought along; of certificates "
                "that were made here: make secure ROTATE=certificates"
            )

    def _check_files(self, users: Iterable[str], *, renew: bool) -> None:
        """See whether what is to be read, or written, can be."""
        for name in _CERTIFICATES:
            self._open(name, "r+b" if renew else "rb")
        self._open("definitions.json", "r+b")
        for user in users:
            self._open(f"passwords/{user}", "rb")

    def _open(self, name: str, mode: str) -> None:
        path = self._path / name
        if path.is_symlink() and not (path.exists() and path.resolve().is_relative_to(self._path)):
            raise ConfigurationError(
                f"secrets/{name} is a link that a container cannot follow: put a copy of the file "
                "itself there (cp -L), each time that it is renewed"
            )
        try:
            with path.open(mode):
                pass
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _unusable(name, error) from None

    def lacks(self, names: Iterable[str]) -> bool:
        """Tell whether there is a certificate that was made here, and not for all of these names.

        Raises:
            ConfigurationError: it is none.
        """
        if not self._has("server.pem") or self._is_brought():
            return False
        known = {name.lower() for name in certificates.names(self._read("server.pem"))}
        return not {*names} <= known

    def begin(self, renew: Iterable[str], names: Sequence[str]) -> None:
        """Note that something is being changed, and what is to be replaced: see deploy/bin/secure.

        Whoever is killed before all is written, and brokers know it, leaves this behind.

        Args:
            renew: what is to be replaced.
            names: what brokers are to be called, too; they count only beside the mark.
        """
        if names or self._has(_UNFINISHED_NAMES):
            self._write(_UNFINISHED_NAMES, " ".join(names))
        self._write(_UNFINISHED, " ".join(sorted(renew)))

    def passwords(self, users: Iterable[str], *, renew: bool) -> dict[str, str]:
        """Return the password of each user; those that there are none of are made."""
        made = {}
        for user in users:
            name = f"passwords/{user}"
            if renew or not self._has(name):
                self._write(name, secrets.token_urlsafe(_PASSWORD_BYTES))
                typer.echo(f"{user}: a new password", err=True)
            made[user] = self._read(name)
        return made

    def lock_out(self, users: Iterable[str]) -> list[str]:
        """Return who was made here, and is none of these: of stages that are gone.

        One that comes back has another password: the one before may be why it had to go. What
        somebody else has put beside our passwords stays as it is.
        """
        kept = {file.name for file in (self._path / "passwords").iterdir()}
        let_in = self._let_in(kept)
        gone = sorted(let_in.keys() & kept - {*users})
        for user in gone:
            if let_in[user]:
                self._write(f"passwords/{user}", secrets.token_urlsafe(_PASSWORD_BYTES))
                typer.echo(f"{user}: {_GONE}", err=True)
        return gone

    def _let_in(self, kept: Iterable[str]) -> dict[str, bool]:
        """Return who was made here, and whether the definitions let them in; else, of all kept."""
        known = self._known()
        if known is None:
            return dict.fromkeys(kept, True)
        return {user["name"]: bool(user["password_hash"]) for user in known.get("users", ())}

    def _known(self) -> dict[str, Any] | None:
        """Return the definitions that are there; None: a part of them, as of a full disk."""
        if not (self._path / "definitions.json").exists():
            return {}
        try:
            return dict(json.loads(self._read("definitions.json")))
        except (ValueError, TypeError):
            return None

    def certificates(self, names: Iterable[str], *, renew: bool) -> None:
        """Make a CA and the brokers' certificate, if there are none.

        The new CA is there before what it has signed, and the one before it stays beside it:
        whoever connects meanwhile knows the CA of whichever certificate is shown.
        """
        wanted = dict.fromkeys(names)
        before = self._read("server.pem") if self._has("server.pem") else ""
        if before and not renew:
            return
        if before:
            wanted |= dict.fromkeys(certificates.names(before))
        ca, server, key = certificates.make(wanted)
        old = self._path / "ca.pem"
        known = old.read_bytes() if before and old.exists() else b""
        trusted = certificates.of_both(ca, known, before) if before else ca
        self._write("ca.pem", trusted)
        self._write("server.key", key)
        self._write("server.pem", server)
        typer.echo(f"new certificates, for {', '.join(wanted)}", err=True)

    def cookie(self) -> None:
        """Make the secret that brokers have in common, if there is none."""
        if not self._has("erlang_cookie"):
            self._write("erlang_cookie", secrets.token_hex(_PASSWORD_BYTES))

    def definitions(self, made: dict[str, Any]) -> None:
        """Write what a broker is to know."""
        self._write("definitions.json", json.dumps(made, indent=2))
        (self._path / _REPARTITIONED).unlink(missing_ok=True)

    def show(self) -> None:
        """Let containers read what they are given, also what was brought along.

        Raises:
            ConfigurationError: a file is somebody else's.
        """
        for path in self._path.rglob("*"):
            if not path.is_file() or path.stat().st_mode & _MODE == _MODE:
                continue
            try:
                path.chmod(_MODE)
            except OSError:
                name = path.relative_to(self._path)
                raise ConfigurationError(
                    f"secrets/{name} cannot be read in containers, by another user: "
                    f"chmod {_MODE:o} secrets/{name}"
                ) from None

    def end(self) -> str:
        """Say when the brokers' certificate ends.

        Raises:
            ConfigurationError: one that was brought along is no certificate.
        """
        try:
            return f"{certificates.end(self._read('server.pem')):%Y-%m-%d}"
        except ValueError:
            raise ConfigurationError("secrets/server.pem is no certificate in PEM") from None

    def _has(self, name: str) -> bool:
        path = self._path / name
        return path.exists() and path.stat().st_size > 0  # a full disk may have left it empty

    def _read(self, name: str) -> str:
        try:
            return (self._path / name).read_text()
        except OSError as error:
            raise _unusable(name, error) from None

    def _write(self, name: str, text: str) -> None:
        """Write into the file that is there, if it is: containers know it by its inode."""
        path = self._path / name
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, _MODE), "w") as file:
                file.write(text)
                file.truncate()
        except OSError as error:
            raise _unusable(name, error) from None


def _partitions(made: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Return how many partitions each ordered edge has, by virtual host and name."""
    return {
        (each["vhost"], each["name"].removesuffix(CENSUS_SUFFIX)): each["arguments"]["x-max-length"]
        for each in made.get("queues", ())
        if each["name"].endswith(CENSUS_SUFFIX) and "x-max-length" in each["arguments"]
    }


def _unusable(name: str, error: OSError) -> ConfigurationError:
    """Say what is wrong with a file, or the disk."""
    return ConfigurationError(
        f"secrets/{name}: {error.strerror}. It has to be a file that you may read and write, on a "
        "disk with room: put that right, then make secure"
    )
