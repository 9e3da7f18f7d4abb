"""A real PostgreSQL in a container, for tests of stages that have a database."""

import fcntl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, Self

import pytest

from tests.ports import free_ports
from tests.waiting import wait_until

if TYPE_CHECKING:
    from psycopg.sql import Composed

ROOT = Path(__file__).parents[2]

#: The official image; where no registry answers, one of this name is built from Debian packages.
IMAGE = "postgres:18"

_USER, _PASSWORD = "tester", "pa55-0f-the-te5ts"
_BOOT_SECONDS = 60.0


class Postgres:
    """One server for one test run; gone when the context is left.

    Attributes:
        url: how psycopg, or a stage, reaches it.
    """

    def __init__(self) -> None:
        """Prepare the container; it is started by `with`."""
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - takes long

        (port,) = free_ports(1)
        self.url = f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{port}/{_USER}"
        # What it has is gone with its container: it need not be synced to a disk.
        self._container = DockerContainer(IMAGE).with_command("-c fsync=off")
        self._container.with_env("POSTGRES_USER", _USER)
        self._container.with_env("POSTGRES_PASSWORD", _PASSWORD)
        self._container.ports["5432"] = ("127.0.0.1", port)  # type: ignore[assignment]

    def __enter__(self) -> Self:
        """Start it; wait until it answers."""
        _provide()
        self._container.start()
        try:
            wait_until(self._is_up, _BOOT_SECONDS, f"{IMAGE} takes connections")
        except BaseException:
            self._container.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the container and its data."""
        self._container.stop()

    def create(self, name: str) -> str:
        """Make a database; return its URL."""
        from psycopg import sql  # noqa: PLC0415 - only for tests that have a database

        self.rows(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url.rpartition("/")[0] + f"/{name}"

    def rows(self, query: "LiteralString | Composed", url: str | None = None) -> list[Any]:
        """Run a query, in another database than the first where a URL is given; return its rows."""
        import psycopg  # noqa: PLC0415 - likewise

        with psycopg.connect(url or self.url, autocommit=True, connect_timeout=5) as connection:
            done = connection.execute(query)
            return done.fetchall() if done.description else []

    def _is_up(self) -> bool:
        import psycopg  # noqa: PLC0415 - likewise

        with suppress(psycopg.OperationalError):
            return bool(self.rows("SELECT 1"))
        return False


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a real PostgreSQL."""
    with Postgres() as made:
        yield made


def _provide() -> None:
    """Have the image: from this machine, a registry, or Debian packages; one process at a time."""
    with (Path(tempfile.gettempdir()) / "pipeline-postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            ["docker", "image", "inspect", IMAGE],
            ["docker", "pull", "--quiet", IMAGE],
            ["deploy/offline/build", IMAGE],
        ):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
    pytest.fail(f"needs the image {IMAGE}: {done.stderr}", pytrace=False)
