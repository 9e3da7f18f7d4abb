"""A secured pipeline, and what a stranger, a stage and the administrator see of it."""

import ssl
from collections.abc import Mapping
from pathlib import Path

import pika

from tests.e2e.broker import Broker
from tests.support.pipeline import Pipeline

STAGES = ("producer", "to_upper", "printer")


class Secured:
    """One secured pipeline.

    Attributes:
        pipeline: what runs it.
        folder: where its copy of the project is.
        said: what `make secure` and `make up` have printed.
    """

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        """Know a pipeline that is not secured yet.

        Args:
            pipeline: what runs it.
            folder: where its copy of the project is.
        """
        self.pipeline, self.said = pipeline, ""
        self.folder = folder

    def take(self) -> None:
        """Secure it, and start it."""
        for target in ("secure", "up"):
            done = self.pipeline.make(target, MESSAGES="hello world")
            self.said += done.stdout + done.stderr

    def secret(self, name: str) -> str:
        """Return what a file says."""
        return (self.folder / "secrets" / name).read_text()

    def secrets(self) -> Mapping[str, str]:
        """Return everything that nobody may see but those it is for."""
        files = ["erlang_cookie", "server.key", *(f"passwords/{user}" for user in self.users())]
        return {name: self.secret(name) for name in files}

    def needles(self) -> Mapping[str, str]:
        """Return one line of each secret, by which it is found however line breaks are written."""
        return {
            name: text.splitlines()[1 if "KEY" in text else 0]
            for name, text in self.secrets().items()
        }

    def users(self) -> list[str]:
        """Return who has a password."""
        return sorted(each.name for each in (self.folder / "secrets/passwords").iterdir())

    @property
    def context(self) -> ssl.SSLContext:
        """How somebody on this machine checks the broker's certificate."""
        return ssl.create_default_context(cafile=self.folder / "secrets/ca.pem")

    def connect(self, user: str, password: str | None = None) -> pika.BlockingConnection:
        """Log in with any client; default: with the user's own password."""
        password = self.secret(f"passwords/{user}") if password is None else password
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                "localhost",
                self.pipeline.amqp_port,
                credentials=pika.PlainCredentials(user, password),
                ssl_options=pika.SSLOptions(self.context, "localhost"),
            )
        )

    def broker(self, user: str = "administrator") -> Broker:
        """Return its management API, for somebody who logs in there."""
        return Broker(self.pipeline, f"{user}:{self.secret(f'passwords/{user}')}", self.context)
