"""What the environment says, and what wins."""

import os
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import certifi
import pytest
from hypothesis import given
from pydantic import BaseModel, Field, SecretStr

from rabbit.errors import ConfigurationError
from rabbit.settings import Endpoint, Settings
from tests.unit.texts import texts

#: Letters of each length in UTF-8, and what has a meaning in a URL.
names = texts("aü漢😀 %:/@?#[],+&=\\\"'\n", min_size=1)

LOCAL = Endpoint("localhost", 5672, "/", "guest", "guest", tls=False)


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for /run/secrets."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    monkeypatch.setattr("rabbit.settings.SECRETS_DIRECTORY", directory)
    return directory


def login(username: str, password: str) -> Endpoint:
    """Return the local broker with another login."""
    return LOCAL._replace(username=username, password=password)


def endpoint_of(url: str) -> Endpoint:
    """Return the only endpoint that a URL names."""
    [endpoint] = Settings.load(rabbitmq_url=url).endpoints
    return endpoint


def test_defaults() -> None:
    """Without any setting, a stage is ready for a broker next to it."""
    settings = Settings.load()

    assert settings.endpoints == [LOCAL]
    assert settings.rabbitmq_heartbeat == 10
    assert (settings.input_queue, settings.output_queue) == (None, None)
    assert (settings.input_kind, settings.output_kind, settings.input_keys) == ("work", "work", ())
    assert (settings.prefetch, settings.concurrency, settings.poison_pill) == ("auto", 1, None)
    assert settings.retry_delays == (1.0, 5.0, 30.0)
    assert (settings.handler_timeout, settings.max_message_bytes) == (None, 16 * 1024 * 1024)
    assert (settings.drain_timeout, settings.publish_timeout) == (20.0, None)
    assert (settings.log_level, settings.log_format) == ("info", "console")
    assert os.uname().nodename == settings.replica


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting comes from the variable of its name."""
    monkeypatch.setenv("INPUT_QUEUE", "upper")
    monkeypatch.setenv("PREFETCH", "25")
    monkeypatch.setenv("DRAIN_TIMEOUT", "2.5")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    settings = Settings.load()

    assert settings.input_queue == "upper"
    assert settings.prefetch == 25
    assert settings.drain_timeout == 2.5
    assert settings.log_level == "warning"


def test_the_environment_is_read_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded does not change any more; what is loaded next is read anew."""
    monkeypatch.setenv("CONCURRENCY", "2")
    before = Settings.load()
    monkeypatch.setenv("CONCURRENCY", "3")

    assert (before.concurrency, Settings.load().concurrency) == (2, 3)


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None means not given."""
    monkeypatch.setenv("INPUT_QUEUE", "from the environment")

    assert Settings.load(input_queue="given").input_queue == "given"
    assert Settings.load(input_queue=None).input_queue == "from the environment"


def test_an_argument_wins_over_a_wrong_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not used does no harm."""
    monkeypatch.setenv("RABBITMQ_PORT", "garbage")

    assert Settings.load(rabbitmq_port=5673).rabbitmq_port == 5673


def test_the_environment_wins_over_a_secret(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in /run/secrets comes after the environment and before the default."""
    (secrets / "rabbitmq_password").write_text("from a file\n")
    assert Settings.load().rabbitmq_password.get_secret_value() == "from a file"

    monkeypatch.setenv("RABBITMQ_PASSWORD", "from the environment")
    assert Settings.load().rabbitmq_password.get_secret_value() == "from the environment"


def test_any_setting_may_be_a_secret(secrets: Path) -> None:
    """A whole URL, say."""
    (secrets / "rabbitmq_url").write_text("amqps://me:pw@broker/shop\n")

    assert [Endpoint("broker", 5671, "shop", "me", "pw", tls=True)] == Settings.load().endpoints


def test_a_wrong_secret_file_is_named_without_its_content(secrets: Path) -> None:
    """The message is the same as for the environment."""
    (secrets / "rabbitmq_url").write_text("http://user:hunter2@broker")

    with pytest.raises(ConfigurationError, match=r"^RABBITMQ_URL: ") as raised:
        Settings.load()
    assert "hunter2" not in str(raised.value)


def test_a_login_in_files_is_read_anew(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is replaced there holds at the next connect; what comes from elsewhere stays."""
    (secrets / "rabbitmq_username").write_text("me")
    (secrets / "RABBITMQ_PASSWORD").write_text("old")
    by_file = Settings.load()
    monkeypatch.setenv("RABBITMQ_PASSWORD", "environment")
    by_environment = Settings.load()
    (secrets / "rabbitmq_username").write_text("you")
    (secrets / "RABBITMQ_PASSWORD").write_text("new\n")

    assert by_file.endpoints == [login("me", "old")]
    assert by_file.renewed().endpoints == [login("you", "new")]
    assert by_environment.renewed().endpoints == [login("you", "environment")]
    by_code = Settings.load(rabbitmq_password="code")  # noqa: S106
    assert by_code.renewed().endpoints == [login("you", "code")]


def test_another_user_is_not_replaced_by_files(secrets: Path) -> None:
    """Whoever reads a dead letter does so as themselves, wherever the addresses are from."""
    (secrets / "rabbitmq_password").write_text("ours")
    (secrets / "rabbitmq_url").write_text("amqps://we:ours@broker/shop")
    settings = Settings.load()

    theirs = settings.as_user("ada", "hers").renewed()

    assert theirs.endpoints == [Endpoint("broker", 5671, "shop", "ada", "hers", tls=True)]
    assert settings.endpoints[0].username == "we"
    assert "hers" not in repr(theirs)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "http://me:hunter2@broker",
            "RABBITMQ_URL: .*/rabbitmq_url has no amqp:// or amqps:// URL",
        ),
        ("amqp://me:hunter2@broker:port", "RABBITMQ_URL: .*/rabbitmq_url has no"),
        ("", "rabbitmq_url: it is empty"),
    ],
)
def test_a_url_that_is_replaced_by_a_wrong_one_is_not_shown(
    secrets: Path, text: str, told: str
) -> None:
    """It is told which file it is, and that it is wrong; the process tries again later."""
    (secrets / "rabbitmq_url").write_text("amqps://me:pw@broker")
    loaded = Settings.load()
    (secrets / "rabbitmq_url").write_text(text)

    with pytest.raises(ValueError, match=told) as raised:
        loaded.renewed()

    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


def test_a_url_does_not_lead_out_of_tls(secrets: Path) -> None:
    """Who has set a CA file has TLS, whatever is put into another file later."""
    (secrets / "rabbitmq_url").write_text("amqps://me:pw@broker")
    loaded = Settings.load(rabbitmq_ca_file=certifi.where())
    (secrets / "rabbitmq_url").write_text("amqp://me:pw@broker")

    with pytest.raises(ValueError, match="RABBITMQ_CA_FILE is set, but"):
        loaded.renewed()


def test_secrets_are_not_shown() -> None:
    """Neither printed nor in a log line nor in a traceback's locals."""
    settings = Settings.load(
        rabbitmq_url="amqp://me:hunter2@broker", rabbitmq_password=SecretStr("hunter2")
    )

    assert "hunter2" not in f"{settings} {settings!r}"
    assert str(settings.endpoints[0]) == "broker:5672"


def test_several_hosts_are_tried_in_turn() -> None:
    """Each with the common port, unless it names its own; blanks do not matter."""
    settings = Settings.load(rabbitmq_host="one, two:5673,three", rabbitmq_port=5674)

    assert [(each.host, each.port) for each in settings.endpoints] == [
        ("one", 5674),
        ("two", 5673),
        ("three", 5674),
    ]


def test_the_parts_make_an_endpoint() -> None:
    """A CA file means TLS."""
    settings = Settings.load(
        rabbitmq_host="broker",
        rabbitmq_port=5671,
        rabbitmq_vhost="shop",
        rabbitmq_username="me",
        rabbitmq_password=SecretStr("p%w"),
        rabbitmq_ca_file=Path(certifi.where()),
    )

    assert [Endpoint("broker", 5671, "shop", "me", "p%w", tls=True)] == settings.endpoints


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://broker", Endpoint("broker", 5672, "/", "guest", "guest", tls=False)),
        ("amqp://broker/", Endpoint("broker", 5672, "/", "guest", "guest", tls=False)),
        ("amqp://broker/%2F", Endpoint("broker", 5672, "/", "guest", "guest", tls=False)),
        ("amqp://me@broker:5673/shop", Endpoint("broker", 5673, "shop", "me", "guest", tls=False)),
        ("amqps://me:pw@broker", Endpoint("broker", 5671, "/", "me", "pw", tls=True)),
        (
            "amqp://a%40b:p%3Aw%2F@broker/x%20y",
            Endpoint("broker", 5672, "x y", "a@b", "p:w/", False),
        ),
        ("amqp://[::1]:5673", Endpoint("::1", 5673, "/", "guest", "guest", tls=False)),
    ],
)
def test_a_url_names_everything(url: str, expected: Endpoint) -> None:
    """What it leaves out has RabbitMQ's defaults; reserved characters are percent-encoded."""
    assert expected == endpoint_of(url)


@given(names, names, names)
def test_percent_encoding_is_undone(vhost: str, username: str, password: str) -> None:
    """Any text can be a name or a password, percent-encoded."""
    login = f"{quote(username, safe='')}:{quote(password, safe='')}"
    endpoint = endpoint_of(f"amqp://{login}@broker/{quote(vhost, safe='')}")

    assert (vhost, username, password) == (endpoint.vhost, endpoint.username, endpoint.password)


def test_a_url_may_name_several_brokers() -> None:
    """With commas between; it wins over the parts."""
    settings = Settings.load(
        rabbitmq_url="amqp://one/a, amqps://two:5673/b", rabbitmq_host="ignored"
    )

    assert [(each.host, each.port, each.vhost) for each in settings.endpoints] == [
        ("one", 5672, "a"),
        ("two", 5673, "b"),
    ]


def test_routing_keys_have_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks around them do not matter, nor does a last comma."""
    monkeypatch.setenv("INPUT_KIND", "Topic")
    monkeypatch.setenv("INPUT_KEYS", "logs.*, orders.# ,")

    assert Settings.load().input_keys == ("logs.*", "orders.#")


@pytest.mark.parametrize(
    ("given", "delays"), [("0.5, 2,60 ,", (0.5, 2.0, 60.0)), ("", ()), (" ", ()), ("3", (3.0,))]
)
def test_delays_have_commas_between(
    given: str, delays: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None at all is allowed: then a message that fails is given up at once."""
    monkeypatch.setenv("RETRY_DELAYS", given)

    assert delays == Settings.load().retry_delays


def test_a_stage_may_have_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read and checked like the others."""

    class Own(Settings):
        delay: int = 0

    monkeypatch.setenv("DELAY", "3")
    assert Own.load().delay == 3

    monkeypatch.setenv("DELAY", "x")
    with pytest.raises(ConfigurationError, match=r"^DELAY: 'x' is not allowed; allowed: .*integer"):
        Own.load()


@pytest.mark.parametrize(
    "given",
    [
        {"rabbitmq_host": "broker:99999"},
        {"rabbitmq_host": "broker:0"},
        {"rabbitmq_url": "amqp://broker:0"},
        {"input_queue": 150 * "ü"},
        {"output_queue": 150 * "ü"},
        {"replica": 300 * "r"},
        {"stage": 300 * "s"},
        {"input_kind": "topic", "input_keys": 300 * "k"},
        {"rabbitmq_ca_file": __file__},
        {"rabbitmq_hots": "broker"},
    ],
)
def test_what_can_only_fail_later_is_refused_at_once(given: dict[str, Any]) -> None:
    """A value that no broker could take, and a setting that is misspelt."""
    with pytest.raises(ConfigurationError):
        Settings.load(**given)


def test_an_endpoint_does_not_show_its_password() -> None:
    """Whoever logs an endpoint logs no secret."""
    [endpoint] = Settings.load(rabbitmq_password="hunter2").endpoints  # noqa: S106 - of nobody

    assert "hunter2" not in repr(endpoint)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("::1", "[::1]:5672"),
        ("[::1]", "[::1]:5672"),
        ("[::1]:5673", "[::1]:5673"),
        ("[2001:db8::7]:1, fe80::1%eth0 ,one:2", "[2001:db8::7]:1 [fe80::1%eth0]:5672 one:2"),
    ],
)
def test_a_host_may_be_an_ipv6_address(given: str, told: str) -> None:
    """With or without a port, which needs brackets; it is shown with them."""
    endpoints = Settings.load(rabbitmq_host=given).endpoints

    assert told == " ".join(map(str, endpoints))
    assert not any("[" in endpoint.host for endpoint in endpoints)


class Inner(BaseModel):
    """A setting that is made of others."""

    count: int


class Rich(Settings):
    """Settings that are given as JSON, or by another name."""

    items: list[str] = Field(default_factory=list)
    inner: Inner | None = None
    named: str = Field("mine", validation_alias="OTHER_NAME")


def test_settings_in_json_of_another_process() -> None:
    """As that process reads them."""
    read = Rich.read({"ITEMS": '["a", "b"]', "INNER": '{"count": 3}', "OTHER_NAME": "theirs"})

    assert (read.items, read.inner, read.named) == (["a", "b"], Inner(count=3), "theirs")


def test_nothing_of_our_own_environment_is_another_process_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By whatever name."""
    for name, value in (("ITEMS", '["a"]'), ("OTHER_NAME", "ours"), ("CONCURRENCY", "7")):
        monkeypatch.setenv(name, value)

    read = Rich.read({})

    assert (read.items, read.named, read.concurrency) == ([], "mine", 1)


@pytest.mark.parametrize("value", ["hunter2,b", "[", '{"a": "hunter2"}'])
def test_what_is_no_json_of_another_process_is_one_line(value: str) -> None:
    """It names the variable, and does not show the value."""
    with pytest.raises(ConfigurationError, match=r"^ITEMS: the value") as caught:
        Rich.read({"ITEMS": value})

    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["poison_pill", "rabbitmq_password", "no_such"])
def test_a_setting_that_is_assigned_is_not_shown(name: str) -> None:
    """It cannot be changed: the error says so, and nothing of the value."""
    settings, value = Settings.load(), "hunter2"

    with pytest.raises(ConfigurationError, match=f"^{name.upper()}: .* not be changed") as caught:
        setattr(settings, name, value)

    assert value not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ConfigurationError, match="not be changed"):
        delattr(settings, name)
