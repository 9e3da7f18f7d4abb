"""A wrong value, for every setting there is: one line that says what to do."""

import pytest

from rabbit.errors import ConfigurationError
from rabbit.settings import Settings
from tests.unit.conftest import ALL_SETTINGS

NUMBER = ["garbage", "", "0", "-1", "1.5"]
SECONDS = ["garbage", "", "0", "-1", "nan", "inf"]
DELAY = ["garbage", "", "-1"]
NO_FILE = ["", "/no/such/file", "/tmp"]  # noqa: S108 - a directory, for certain
KIND = ["garbage", "", "fanout"]
QUEUE = ["", 201 * "x"]

WRONG: dict[str, list[str]] = {
    "RABBITMQ_URL": [
        "garbage",
        "http://broker",
        "amqp://",
        "amqp://broker:garbage",
        "amqp://broker:70000",
        "amqp://one,",
    ],
    "RABBITMQ_HOST": [
        *("", "one,", "broker:", "broker:garbage", ":5672"),
        *("[::1", "[::1]5672", "[::1]:", "[broker]:5672", "::1::", "a:b:c"),
    ],
    "RABBITMQ_PORT": [*NUMBER, "65536"],
    "RABBITMQ_VHOST": [""],
    "RABBITMQ_USERNAME": [""],
    "RABBITMQ_HEARTBEAT": [*NUMBER, "3601"],
    "RABBITMQ_CA_FILE": NO_FILE,
    "RABBITMQ_CERTIFICATE_FILE": NO_FILE,
    "RABBITMQ_KEY_FILE": NO_FILE,
    "STAGE": ["", "to upper", "to/upper", "to.upper"],
    "REPLICA": ["", "a b", "a/b", "two\nlines"],
    "INPUT_QUEUE": QUEUE,
    "INPUT_KIND": KIND,
    "OUTPUT_QUEUE": QUEUE,
    "OUTPUT_KIND": KIND,
    "QUEUE_TYPE": ["garbage", "", "stream"],
    "TOPOLOGY": ["garbage", ""],
    "PREFETCH": [*NUMBER, "65536"],
    "CONCURRENCY": [*NUMBER, "1001"],
    "BATCH_SIZE": [*NUMBER, "65536"],
    "BATCH_SECONDS": ["garbage", "", "-1", "nan", "inf", "86401"],
    "POISON_PILL": [""],
    "RETRY_DELAYS": ["garbage", "0", "1,-1", "1;5", "nan", "inf", "1,86401", ",".join(21 * "1")],
    "HANDLER_TIMEOUT": SECONDS,
    "MAX_MESSAGE_BYTES": NUMBER,
    "DRAIN_TIMEOUT": [*SECONDS, "86401"],
    "PUBLISH_TIMEOUT": SECONDS,
    "LOG_LEVEL": ["garbage", "", "critical"],
    "LOG_FORMAT": ["garbage", "", "xml"],
    "TO_UPPER_DELAY": DELAY,
    "PRINTER_DELAY": DELAY,
    "PROGRESS": ["garbage", "", "2"],
    "TOTAL_BYTES": ["garbage", "", "-1", "1.5"],
    "RABBITMQ_MANAGEMENT_URL": ["garbage", "", "amqp://broker", "http://", "http://broker/api"],
    "HALT_TIMEOUT": SECONDS,
    "PARTITIONS": ["0", "257", "many", "1.5"],
}

#: Any text is a password, a path or a message; keys are wrong only together with a kind.
NEVER_WRONG = {"RABBITMQ_PASSWORD", "READY_FILE", "ALIVE_FILE", "MESSAGES", "MESSAGE", "INPUT_KEYS"}

SECRET = {"RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL"}

TOGETHER = [
    ({"INPUT_KIND": "topic"}, "INPUT_KEYS is not set: INPUT_KIND=topic needs routing keys"),
    ({"INPUT_KIND": "direct", "INPUT_KEYS": ","}, "INPUT_KEYS is not set: INPUT_KIND=direct needs"),
    ({"INPUT_KEYS": "red"}, "INPUT_KEYS is set, but INPUT_KIND=work takes no routing keys"),
    (
        {"INPUT_KIND": "broadcast", "INPUT_KEYS": "red"},
        "INPUT_KEYS is set, but INPUT_KIND=broadcast takes no routing keys",
    ),
    (
        {"OUTPUT_KIND": "ordered", "QUEUE_TYPE": "classic"},
        "QUEUE_TYPE=classic is set, but an edge of kind ordered needs quorum queues",
    ),
    (
        {"INPUT_KIND": "ordered", "POISON_PILL": "HALT"},
        "POISON_PILL is set, but INPUT_KIND=ordered has many queues",
    ),
    (
        {"RABBITMQ_CERTIFICATE_FILE": __file__},
        "RABBITMQ_CERTIFICATE_FILE and RABBITMQ_KEY_FILE go together",
    ),
    (
        {"RABBITMQ_KEY_FILE": __file__},
        "RABBITMQ_CERTIFICATE_FILE and RABBITMQ_KEY_FILE go together",
    ),
    (
        {"RABBITMQ_CERTIFICATE_FILE": __file__, "RABBITMQ_KEY_FILE": __file__},
        "RABBITMQ_CERTIFICATE_FILE is set, but RABBITMQ_CA_FILE is not, and without it there is no",
    ),
    (
        {"RABBITMQ_CA_FILE": __file__, "RABBITMQ_URL": "amqps://one,amqp://two"},
        "RABBITMQ_CA_FILE is set, but RABBITMQ_URL has amqp://, which is without TLS: use amqps://",
    ),
    (
        {
            "RABBITMQ_CERTIFICATE_FILE": __file__,
            "RABBITMQ_KEY_FILE": __file__,
            "RABBITMQ_URL": "amqp://one",
        },
        "RABBITMQ_CERTIFICATE_FILE is set, but RABBITMQ_URL has amqp://",
    ),
]


def settings_with(variable: str) -> type[Settings]:
    """Return the class that has a setting: the one that all have, or a stage's own."""
    return next(each for each in ALL_SETTINGS if variable.lower() in each.model_fields)


def test_no_setting_is_forgotten_here() -> None:
    """A new setting needs an example of a wrong value, or a reason why there is none."""
    every = {name.upper() for each in ALL_SETTINGS for name in each.model_fields}

    assert every == set(WRONG) | NEVER_WRONG


@pytest.mark.parametrize(
    ("variable", "value"),
    [(variable, value) for variable, values in WRONG.items() for value in values],
)
def test_a_wrong_value_is_one_line(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the variable, what was given, unless that is secret, and what is allowed."""
    monkeypatch.setenv(variable, value)
    settings = settings_with(variable)
    shown = "the value (not shown)" if variable in SECRET else repr(value)
    allowed = settings.model_fields[variable.lower()].description

    with pytest.raises(ConfigurationError) as raised:
        settings.load()

    line = f"{variable}: {shown} is not allowed; allowed: {allowed}"
    assert line == str(raised.value).partition("; it cannot be read: ")[0]
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("settings", ALL_SETTINGS)
def test_every_setting_says_what_is_allowed(settings: type[Settings]) -> None:
    """The description is what a person reads when a value is wrong."""
    silent = [name for name, field in settings.model_fields.items() if not field.description]

    assert silent == []


@pytest.mark.parametrize(("environment", "message"), TOGETHER)
def test_settings_that_do_not_go_together(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone is allowed; the line names both."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError) as raised:
        Settings.load()

    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("variable", sorted(NEVER_WRONG - {"INPUT_KEYS"}))
def test_any_text_is_allowed(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to refuse in a password, a path or a message."""
    monkeypatch.setenv(variable, " $%/\\'\"ü ")

    assert settings_with(variable).load() is not None


@pytest.mark.parametrize("value", ["amqp://me:hunter2@", "http://me:hunter2@broker", "hunter2"])
def test_a_secret_is_never_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the line nor in an error it was raised from: tracebacks are logged too."""
    monkeypatch.setenv("RABBITMQ_URL", value)

    with pytest.raises(ConfigurationError) as raised:
        Settings.load()

    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_what_kubernetes_sets_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service named rabbitmq puts an address into RABBITMQ_PORT of every pod."""
    monkeypatch.setenv("RABBITMQ_PORT", "tcp://10.0.0.1:5672")

    with pytest.raises(ConfigurationError) as raised:
        Settings.load()

    assert str(raised.value).startswith("RABBITMQ_PORT: 'tcp://10.0.0.1:5672' is not allowed")
    assert "a Service named rabbitmq" in str(raised.value)
    assert "enableServiceLinks: false" in str(raised.value)
