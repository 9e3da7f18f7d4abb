"""What is wrong with a setting is told without any secret, whatever the setting is."""

import traceback
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from rabbit import ConfigurationError
from rabbit.settings import Settings

SECRET = "hunter2-and-more"  # noqa: S105 - planted, to be looked for


class Missing(Settings):
    """A setting without a default."""

    needed: str


class Aliased(Settings):
    """Read from a variable of another name."""

    needed: int = Field(validation_alias="OTHER_NAME", description="a number")


class Account(BaseModel):
    """A model within the settings."""

    user: int
    word: SecretStr


class Nested(Settings):
    """A model within."""

    account: Account = Field(description="an account")


class Listed(Settings):
    """Is read as JSON."""

    hosts: list[int] = Field([], description="a list of numbers")


class Secrets(Settings):
    """Secrets within a list, and a map of them."""

    words: list[SecretStr] = Field([], max_length=0, description="none")
    by_name: dict[str, SecretStr | int] = Field({}, max_length=0, description="none")


class Named(Settings):
    """Secret by its name only."""

    api_token: str = Field("", max_length=3)


class Text(Settings):
    """Any text: what it is for, only the stage knows."""

    db_pass: str = Field("", max_length=3)
    auth: str | None = Field(None, validation_alias="AUTH_CODE", max_length=3, description="three")


class Spoken(Settings):
    """A text with a check that says too much."""

    word: str = ""

    @field_validator("word")
    @classmethod
    def _check(cls, value: object) -> object:
        msg = f"wrong: {value}"
        raise ValueError(msg)


class Counted(Settings):
    """A number with a check that says too much of something else."""

    number: int = 0

    @field_validator("number")
    @classmethod
    def _check(cls, value: object) -> object:
        msg = f"wrong: {value}, {SECRET}"
        raise ValueError(msg)


class Checked(Settings):
    """With a check that says too much."""

    word: SecretStr = SecretStr("")

    @field_validator("word")
    @classmethod
    def _check(cls, value: SecretStr) -> SecretStr:
        msg = f"wrong: {value.get_secret_value()}"
        raise ValueError(msg)


class Raising(Settings):
    """With a check that raises something that is no finding."""

    word: SecretStr = SecretStr("")

    @field_validator("word")
    @classmethod
    def _check(cls, value: SecretStr) -> SecretStr:
        raise KeyError(value.get_secret_value())


class Together(Settings):
    """With a check of all of it."""

    word: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _check(self) -> Self:
        msg = f"wrong: {self.word.get_secret_value()}"
        raise ValueError(msg)


class Meant(Settings):
    """With a check that speaks to a person."""

    low: int = 2
    high: int = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        msg = "LOW is above HIGH"
        raise ConfigurationError(msg)


CASES: list[tuple[type[Settings], dict[str, str], str]] = [
    (Missing, {}, "NEEDED is not set, and has no default"),
    (Aliased, {}, "OTHER_NAME is not set, and has no default; allowed: a number"),
    (Aliased, {"OTHER_NAME": "x"}, "OTHER_NAME: 'x' is not allowed; allowed: a number"),
    (
        Nested,
        {"ACCOUNT": f'{{"user": "{SECRET}", "word": "w"}}'},
        "ACCOUNT.user: the value (not shown) is not allowed; allowed: an account",
    ),
    (Nested, {"ACCOUNT": f'{{"word": "{SECRET}"}}'}, "ACCOUNT.user is not set"),
    (Nested, {"ACCOUNT": SECRET}, "ACCOUNT: the value (not shown) is not JSON"),
    (Listed, {"HOSTS": SECRET}, "HOSTS: the value (not shown) is not JSON; allowed, as JSON: a"),
    (Listed, {"HOSTS": f'["{SECRET}"]'}, "HOSTS: the value (not shown) is not allowed; allowed: a"),
    (Secrets, {"WORDS": f'["{SECRET}"]'}, "WORDS: the value (not shown)"),
    (Secrets, {"BY_NAME": f'{{"{SECRET}": []}}'}, "BY_NAME: the value (not shown)"),
    (Named, {"API_TOKEN": SECRET}, "API_TOKEN: the value (not shown) is not allowed"),
    (Text, {"DB_PASS": SECRET}, "DB_PASS: the value (not shown) is not allowed; allowed: see Text"),
    (
        Text,
        {"AUTH_CODE": SECRET},
        "AUTH_CODE: the value (not shown) is not allowed; allowed: three",
    ),
    (Spoken, {"WORD": SECRET}, "WORD: the value (not shown) is not allowed; allowed: see Spoken"),
    (Counted, {"NUMBER": "3"}, "NUMBER: '3' is not allowed; allowed: see Counted"),
    (Settings, {"RABBITMQ_HOST": f"amqp://u:{SECRET}@b"}, "RABBITMQ_HOST: the value (not shown)"),
    (Settings, {"RABBITMQ_PORT": f"tcp://u:{SECRET}@b"}, "RABBITMQ_PORT: the value (not shown)"),
    (Checked, {"WORD": SECRET}, "WORD: the value (not shown) is not allowed; allowed: see Checked"),
    (Raising, {"WORD": SECRET}, "Raising: a check of its own raised KeyError (not shown)"),
    (Together, {"WORD": SECRET}, "Together: a check of its own (not shown)"),
    (Meant, {}, "LOW is above HIGH"),
    (Settings, {"RABBITMQ_URL": f"http://u:{SECRET}@b"}, "RABBITMQ_URL: the value (not shown)"),
]


@pytest.mark.parametrize("way", ["load", "read"])
@pytest.mark.parametrize(("model", "environment", "line"), CASES)
def test_what_is_wrong_is_one_line_without_a_secret(
    model: type[Settings],
    environment: dict[str, str],
    line: str,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the line nor its traceback nor what it was caused by has one."""
    everything = {"RABBITMQ_PASSWORD": SECRET, **environment}
    for name, value in everything.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as raised:
        model.load() if way == "load" else model.read(everything)

    error = raised.value
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error.__context__)
    assert "\n" not in str(error)
    if way == "load":  # `read` takes no JSON apart
        assert str(error).startswith(line)


def test_settings_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they may stand in a log."""
    monkeypatch.setenv("RABBITMQ_PASSWORD", SECRET)
    monkeypatch.setenv("RABBITMQ_URL", f"amqp://u:{SECRET}@b")
    monkeypatch.setenv("API_TOKEN", "tok")
    loaded = Settings.load()
    own = Named.load()

    assert SECRET not in repr(loaded) + str(loaded) + repr(loaded.endpoints)
    assert "tok'" not in repr(own) + str(own)
    assert "rabbitmq_host='localhost'" in repr(own)


def test_what_has_an_alias_can_be_given_by_its_name() -> None:
    """It is not passed over without a word."""
    assert Aliased.load(needed=3).needed == 3


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([each for each, _, _ in CASES]),
    begin=st.sampled_from(["", "[", "{", '["', "amqp://x:", "1", "\n"]),
    end=st.sampled_from(["", "]", "}", '"]', "@[", ",", "\n"]),
    planted=st.data(),
)
def test_no_secret_gets_out(
    kind: type[Settings], begin: str, end: str, planted: st.DataObject
) -> None:
    """In whichever secret or structured setting it stands, alone or with something around it."""
    closed = [
        *("rabbitmq_password", "rabbitmq_url", "word", "words", "by_name"),
        *("hosts", "account", "api_token", "db_pass"),
    ]
    names = planted.draw(st.lists(st.sampled_from(closed), min_size=1))
    environment: dict[str, Any] = {name.upper(): f"{begin}{SECRET}{end}" for name in names}
    try:
        loaded = kind.read(environment)
    except ConfigurationError as error:
        said = "".join(traceback.format_exception(error)) + repr(error.__context__)
    else:
        said = repr(loaded)
    assert SECRET not in said
