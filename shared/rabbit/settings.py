"""What the environment says: every setting, its default and what is allowed."""

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from rabbit.errors import ConfigurationError
from rabbit.settings_errors import NOT_SHOWN, explain, explain_unparsed, is_open, told
from rabbit.settings_files import (
    check_readable,
    check_secrets,
    read_secret,
    secrets_among,
    tls_context,
)
from rabbit.topology import MOST_PARTITIONS, Kind, QueueType

LONGEST_NAME_BYTES = 200
LONGEST_KEY_BYTES = 255
MOST_DELAYS = 20
SHORTEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.001, 86400
SECRETS_DIRECTORY = Path("/run/secrets")
#: What may be replaced while a process runs.
_LOGIN = {"rabbitmq_url", "rabbitmq_username", "rabbitmq_password"}
_AMQP_PORTS = {"amqp": 5672, "amqps": 5671}
_PORTS = range(1, 65536)

# The length is bounded apart: 80 times a class of Unicode letters is an automaton of 9 MB.
_STAGE = r"^[\w-]+$"
_REPLICA = r"^[\w.-]+$"


def _short(value: str) -> str:
    """Accept what AMQP can carry as a short string, with room for what is added to a name."""
    if not 1 <= len(value.encode()) <= LONGEST_NAME_BYTES:
        raise ValueError
    return value


def _routing_key(value: str) -> str:
    """Accept a routing key to bind with; a line break in it is a list that was meant otherwise."""
    if not 1 <= len(value.encode()) <= LONGEST_KEY_BYTES or not value.isprintable():
        raise ValueError
    return value


Name = Annotated[str, AfterValidator(_short)]
RoutingKey = Annotated[str, AfterValidator(_routing_key)]


class Endpoint(NamedTuple):
    """Where one broker listens and how to log in there."""

    host: str
    port: int
    vhost: str
    username: str
    password: str
    tls: bool

    def __str__(self) -> str:
        """Name the broker without its password, for people."""
        return f"{self.shown_host}:{self.port}"

    @property
    def shown_host(self) -> str:
        """The host as it stands in front of a port: an IPv6 address in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __repr__(self) -> str:
        """Do the same in a log or a traceback."""
        return str(self)


def _endpoint_of_url(url: str) -> Endpoint:
    """Take one `amqp://user:password@host:port/vhost` apart.

    The default virtual host and the percent-encoding follow RabbitMQ's URI specification.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in _AMQP_PORTS or not parts.hostname:
        raise ValueError
    return Endpoint(
        host=parts.hostname,
        port=_AMQP_PORTS[parts.scheme] if parts.port is None else _port(parts.port),
        vhost=unquote(parts.path[1:]) if len(parts.path) > 1 else "/",
        username=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        tls=parts.scheme == "amqps",
    )


def _endpoint_of_host(host: str, default_port: int) -> tuple[str, int]:
    """Split `host`, `host:port`, an IPv6 address, or one in brackets with or without a port."""
    host = host.strip()
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        IPv6Address(name)
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError
        colon, port = rest[:1], rest[1:]
    elif host.count(":") > 1:
        name, colon, port = str(IPv6Address(host)), "", ""
    else:
        name, colon, port = host.partition(":")
    if not name or (colon and not port.isdigit()):
        raise ValueError
    return name, _port(int(port)) if colon else default_port


def _readable(path: Path) -> Path:
    try:
        check_readable(path)
    except ValueError as error:
        raise told(str(error)) from error
    return path


def _port(number: int) -> int:
    if number not in _PORTS:
        raise ValueError
    return number


#: A file that is there, not empty, and may be read.
ReadableFile = Annotated[Path, AfterValidator(_readable)]


def _frozen(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name.upper()}: settings can not be changed: set it in the environment, or give "
        "it to the constructor"
    )


class Settings(BaseSettings):
    """The settings of a stage, each from the environment variable of the same name.

    Order: an argument in code, the environment, a file of that name in /run/secrets, the default.
    A description says what is allowed; it is what a person reads when a value is wrong.
    Extend it in a stage (`class Settings(rabbit.Settings)`) to give the stage settings of its own.
    What a check of one's own raises is not shown where it could hold a secret; a
    `ConfigurationError` is meant for a person, and always shown.
    """

    #: Where each part of the login stands that a file has told.
    _login_files: dict[str, Path] = PrivateAttr(default_factory=dict)
    _user: tuple[str, SecretStr] | None = PrivateAttr(None)

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        env_ignore_empty=False,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    rabbitmq_url: SecretStr | None = Field(
        None, description="amqp:// or amqps://user:password@host:port/vhost, several with commas"
    )
    rabbitmq_host: str = Field(
        "localhost",
        description="host or host:port, several with commas; IPv6 with a port: [::1]:5672",
    )
    rabbitmq_port: int | None = Field(None, ge=1, le=65535, description="a port number, 1 to 65535")
    rabbitmq_vhost: Name = Field("/", description="the name of a virtual host")
    rabbitmq_username: Name = Field("guest", description="a user name")
    rabbitmq_password: SecretStr = Field(SecretStr("guest"), description="that user's password")
    rabbitmq_heartbeat: int = Field(
        10, ge=1, le=3600, description="seconds between heartbeats, 1 to 3600"
    )
    rabbitmq_ca_file: ReadableFile | None = Field(
        None, description="a PEM file with the CA that signed the broker's certificate"
    )
    rabbitmq_certificate_file: ReadableFile | None = Field(
        None, description="a PEM file with this client's certificate"
    )
    rabbitmq_key_file: ReadableFile | None = Field(
        None, description="a PEM file with the key of this client's certificate"
    )

    stage: str | None = Field(
        None, pattern=_STAGE, max_length=80, description="letters, digits, '_' and '-', up to 80"
    )
    replica: str = Field(
        default_factory=socket.gethostname,
        pattern=_REPLICA,
        max_length=80,
        description="letters, digits, '_', '-' and '.', up to 80",
    )
    input_queue: Name | None = Field(None, description="the name of a queue, 1 to 200 bytes")
    input_kind: Kind = Field("work", description="work, broadcast, direct, topic or ordered")
    input_keys: Annotated[tuple[RoutingKey, ...], NoDecode] = Field(
        (),
        description="routing keys with commas between, each up to 255 bytes, for direct and topic",
    )
    output_queue: Name | None = Field(None, description="the name of a queue, 1 to 200 bytes")
    output_kind: Kind = Field("work", description="work, broadcast, direct, topic or ordered")
    partitions: int = Field(
        8, ge=1, le=MOST_PARTITIONS, description=f"a number of queues, 1 to {MOST_PARTITIONS}"
    )

    queue_type: QueueType = Field("quorum", description="quorum or classic")
    topology: Literal["declared", "given"] = Field("declared", description="declared or given")

    prefetch: Literal["auto"] | Annotated[int, Field(ge=1, le=65535)] = Field(
        "auto", description="auto, or a number of messages, 1 to 65535"
    )
    concurrency: int = Field(1, ge=1, le=1000, description="a number of threads, 1 to 1000")
    batch_size: int = Field(500, ge=1, le=65535, description="a number of messages, 1 to 65535")
    batch_seconds: float = Field(
        0.2, ge=0, le=86400, allow_inf_nan=False, description="seconds, 0 to 86400"
    )
    poison_pill: str | None = Field(
        None, min_length=1, description="a text that halts the replica that receives it"
    )
    retry_delays: Annotated[tuple[float, ...], NoDecode] = Field(
        (1.0, 5.0, 30.0),
        description="up to 20 times seconds with commas between, 0.001 to 86400; empty: none",
    )
    handler_timeout: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="seconds, above 0; not set: no limit"
    )
    max_message_bytes: int = Field(16777216, ge=1, description="a number of bytes, 1 or more")
    drain_timeout: float = Field(
        20.0, gt=0, le=86400, allow_inf_nan=False, description="seconds, above 0, up to 86400"
    )
    publish_timeout: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="seconds, above 0; not set: wait for ever"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )
    log_format: Literal["console", "json"] = Field("console", description="console or json")
    ready_file: Path | None = Field(
        None, description="a path; the file exists and is fresh while the stage is ready"
    )
    alive_file: Path | None = Field(
        None, description="a path; the file is fresh while the stage's loop turns"
    )

    @field_validator(
        "log_level",
        "log_format",
        "input_kind",
        "output_kind",
        "queue_type",
        "topology",
        mode="before",
    )
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("input_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(key.strip() for key in value.split(",") if key.strip())
        return value

    @field_validator("retry_delays", mode="before")
    @classmethod
    def _split_delays(cls, value: Any) -> object:  # noqa: ANN401 - pydantic's
        given = value.split(",") if isinstance(value, str) else value
        delays = tuple(float(each) for each in given if str(each).strip())
        shortest, longest = min(delays, default=1.0), max(delays, default=1.0)
        if not SHORTEST_DELAY_SECONDS <= shortest <= longest <= LONGEST_DELAY_SECONDS:
            raise ValueError
        if len(delays) > MOST_DELAYS:
            raise ValueError
        return delays

    @field_validator("rabbitmq_url")
    @classmethod
    def _check_url(cls, value: SecretStr | None) -> SecretStr | None:
        for url in () if value is None else value.get_secret_value().split(","):
            _endpoint_of_url(url)
        return value

    @field_validator("rabbitmq_port", mode="before")
    @classmethod
    def _check_port(cls, value: object) -> object:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise told(
                "Kubernetes sets this for a Service named rabbitmq: give the pod "
                "enableServiceLinks: false, or set RABBITMQ_PORT"
            )
        return value

    @field_validator("rabbitmq_host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        for host in value.split(","):
            _endpoint_of_host(host, default_port=0)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        try:
            self._check_keys()
            self._check_ordered()
            self._check_tls()
        except ValueError as error:
            raise told(str(error)) from None
        return self

    def _check_keys(self) -> None:
        routed = self.input_kind in {"direct", "topic"}
        if routed and not self.input_keys:
            msg = f"INPUT_KEYS is not set: INPUT_KIND={self.input_kind} needs routing keys"
            raise ValueError(msg)
        if self.input_keys and not routed:
            msg = f"INPUT_KEYS is set, but INPUT_KIND={self.input_kind} takes no routing keys"
            raise ValueError(msg)

    def _check_ordered(self) -> None:
        if "ordered" in {self.input_kind, self.output_kind} and self.queue_type != "quorum":
            msg = "QUEUE_TYPE=classic is set, but an edge of kind ordered needs quorum queues"
            raise ValueError(msg)
        if self.input_kind == "ordered" and self.poison_pill:
            msg = (
                "POISON_PILL is set, but INPUT_KIND=ordered has many queues, and a pill stands in "
                "one: use `make halt`"
            )
            raise ValueError(msg)

    def _check_tls(self) -> None:
        """Refuse what means TLS, and would be without it."""
        if bool(self.rabbitmq_certificate_file) != bool(self.rabbitmq_key_file):
            msg = "RABBITMQ_CERTIFICATE_FILE and RABBITMQ_KEY_FILE go together: set both or none"
            raise ValueError(msg)
        if not (self.rabbitmq_ca_file or self.rabbitmq_certificate_file):
            return
        if not all(endpoint.tls for endpoint in self.endpoints):
            name = "CA" if self.rabbitmq_ca_file else "CERTIFICATE"
            cure = (
                "RABBITMQ_CA_FILE is not, and without it there is no TLS: set it too"
                if self.rabbitmq_url is None
                else "RABBITMQ_URL has amqp://, which is without TLS: use amqps://"
            )
            raise ValueError(f"RABBITMQ_{name}_FILE is set, but {cure}")
        self.ssl_context()

    def ssl_context(self) -> ssl.SSLContext:
        """Return how to check the broker's certificate, and which one to show it.

        Raises:
            ValueError: one of the files cannot be read, or is no PEM file of its kind. What was
                right when the process started may be away when it connects again.
        """
        return tls_context(
            self.rabbitmq_ca_file, self.rabbitmq_certificate_file, self.rabbitmq_key_file
        )

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Show what may be shown; pydantic makes repr and str of it."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            is_shown = value is None or isinstance(value, SecretStr) or is_open(type(self), name)
            yield name, value if is_shown else NOT_SHOWN

    def __setattr__(self, name: str, value: object) -> None:
        """Raise ConfigurationError, without the value, which pydantic would show."""
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            raise _frozen(name)

    def __delattr__(self, name: str) -> None:
        """Likewise."""
        if name.startswith("_"):
            super().__delattr__(name)
        else:
            raise _frozen(name)

    @classmethod
    def load(cls, **given: Any) -> Self:  # noqa: ANN401 - the values are checked by the model
        """Read the environment; a `given` value that is not None wins over it.

        Raises:
            ConfigurationError: naming the variable, what was given and what is allowed.
        """
        unknown = sorted(set(given) - set(cls.model_fields))
        if unknown:
            raise ConfigurationError(f"{unknown[0]} is no setting: is it spelt right?")
        try:
            check_secrets(SECRETS_DIRECTORY, cls.model_fields)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        secrets = SECRETS_DIRECTORY if SECRETS_DIRECTORY.is_dir() else None
        chosen = {name: value for name, value in given.items() if value is not None}
        loaded = cls._checked(lambda: {"_secrets_dir": secrets, **chosen})
        told = {*chosen, *(name.lower() for name in os.environ)}
        loaded._login_files = secrets_among(SECRETS_DIRECTORY, _LOGIN - told)  # noqa: SLF001
        return loaded

    def renewed(self) -> Self:
        """Return the same settings, with the login as files in /run/secrets have it now.

        A password that is replaced there is used at the next connect, without a restart.

        Raises:
            ValueError: such a file cannot be read, or is no URL; without what is in it.
        """
        parts: dict[str, str | SecretStr] = {}
        for name, file in self._login_files.items():
            text = read_secret(file)
            parts[name] = text if name == "rabbitmq_username" else SecretStr(text)
        renewed = self.model_copy(update=parts)
        try:
            _ = renewed.endpoints
        except ValueError:  # which may show the URL
            file = self._login_files["rabbitmq_url"]
            raise ValueError(f"RABBITMQ_URL: {file} has no amqp:// or amqps:// URL") from None
        renewed._check_tls()  # noqa: SLF001 - a URL must not lead out of TLS
        return renewed

    def as_user(self, username: str, password: str) -> Self:
        """Return the same settings with another login, whatever files in /run/secrets have.

        Args:
            username: a RabbitMQ user.
            password: that user's.
        """
        other = self.model_copy()
        other._user = username, SecretStr(password)  # noqa: SLF001
        return other

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the environment of another process, and nothing else.

        Args:
            environment: its variables. Files that are named there are that process's, and are not
                looked at; nor are the secrets it may have.

        Raises:
            ConfigurationError: as `load`.
        """

        def read() -> dict[str, Any]:
            source = EnvSettingsSource(cls)
            source.env_vars = {
                name.lower(): value
                for name, value in environment.items()
                if not (name.lower() in cls.model_fields and name.lower().endswith("_file"))
            }
            # With this prefix, no variable of our own environment is found.
            none = {"_env_prefix": "another process's:", "_env_prefix_target": "all"}
            return {"_secrets_dir": None, **none, **source()}

        return cls._checked(read)

    @classmethod
    def _checked(cls, read: Callable[[], dict[str, Any]]) -> Self:
        try:
            return cls(**read())
        except ConfigurationError as error:
            line = str(error)
        except ValidationError as error:
            line = explain(cls, error)
        except SettingsError as error:
            line = explain_unparsed(cls, error)
        except Exception as error:  # noqa: BLE001 - of a stage's own check: it may hold any value
            line = f"{cls.__name__}: a check of its own raised {type(error).__name__} {NOT_SHOWN}"
        # Not where it was caught: what is known there, values included, would go along with it.
        raise ConfigurationError(line)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The brokers to try, in turn."""
        if self._user is None:
            return self._own_endpoints()
        user, password = self._user
        secret = password.get_secret_value()
        own = self._own_endpoints()
        return [each._replace(username=user, password=secret) for each in own]

    def _own_endpoints(self) -> list[Endpoint]:
        if self.rabbitmq_url is not None:
            urls = self.rabbitmq_url.get_secret_value().split(",")
            return [_endpoint_of_url(url) for url in urls]
        tls = self.rabbitmq_ca_file is not None
        port = self.rabbitmq_port or _AMQP_PORTS["amqps" if tls else "amqp"]
        addresses = [_endpoint_of_host(host, port) for host in self.rabbitmq_host.split(",")]
        return [
            Endpoint(
                host,
                port,
                self.rabbitmq_vhost,
                self.rabbitmq_username,
                self.rabbitmq_password.get_secret_value(),
                tls=tls,
            )
            for host, port in addresses
        ]
