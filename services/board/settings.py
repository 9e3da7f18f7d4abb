"""What the environment may say of the board, beside what every stage and control have."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from rabbit.operations.management import ControlSettings

#: By these names it is reached where it runs: on its machine, and from containers beside it.
_OWN_HOSTS = {"localhost", "board"}

_URL = r"https?://[^/,\s@]+/?"


class BoardSettings(ControlSettings):
    """Where the board listens, and how people reach it."""

    listen_host: str = Field("0.0.0.0", description="an address to listen on")  # noqa: S104 - of a container; its port is published on 127.0.0.1
    listen_port: int = Field(8080, ge=1, le=65535, description="a port number, 1 to 65535")
    board_urls: str | None = Field(
        None,
        pattern=rf"^{_URL}(\s*,\s*{_URL})*$",
        description="http:// or https://name, several with commas",
    )
    board_proxies: str | None = Field(
        None, description="IP addresses, or networks as 10.0.0.0/8, with commas"
    )

    @field_validator("board_proxies")
    @classmethod
    def _check_proxies(cls, given: str | None) -> str | None:
        _networks(given)
        return given

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Whose word is taken for where a request comes from."""
        return _networks(self.board_proxies)

    @property
    def hosts(self) -> frozenset[str]:
        """The names by which it is reached, in lower case; any IP address is one, beside these."""
        return frozenset(_OWN_HOSTS | {urlsplit(url).hostname or "" for url in self._urls})

    @property
    def secure_hosts(self) -> frozenset[str]:
        """Those by which it is reached with TLS, which a proxy in front of it has."""
        urls = [url for url in self._urls if url.startswith("https:")]
        return frozenset(urlsplit(url).hostname or "" for url in urls)

    @property
    def _urls(self) -> list[str]:
        return _parts(self.board_urls)


def _networks(given: str | None) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(each) for each in _parts(given))


def _parts(given: str | None) -> list[str]:
    return [each.strip() for each in (given or "").split(",") if each.strip()]
