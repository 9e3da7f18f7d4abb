"""Log lines."""

import json
import logging
from datetime import datetime
from time import process_time

import pytest
from pydantic import SecretStr

from rabbit.logs import LONGEST_VALUE, logger
from rabbit.settings import Settings


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was logged; nothing is ever logged to stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def fail(message: str = "broken") -> None:
    """Raise an error, for a traceback."""
    raise ValueError(message)


def test_a_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Event, level, UTC time, the context bound once, and what the event brings."""
    log = logger(Settings.load(log_format="json"), stage="printer", replica="p1")
    log.warning("two\nlines", reason='"quoted"')

    [line] = lines(capsys)
    said = json.loads(line)
    assert datetime.fromisoformat(said.pop("timestamp")).tzname() == "UTC"
    assert said == {
        "event": "two\nlines",
        "level": "warning",
        "stage": "printer",
        "replica": "p1",
        "reason": '"quoted"',
    }


def test_a_traceback_is_part_of_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that reads the log gets it with the event."""
    log = logger(Settings.load(log_format="json"))
    try:
        fail()
    except ValueError as error:
        log.warning("message failed", exc_info=error)  # as the dispatcher logs it

    [line] = lines(capsys)
    assert "Traceback" in json.loads(line)["exception"]
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_a_console_line_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, without colours where nobody looks at a terminal."""
    logger(Settings.load(), stage="printer").info("ready", queue="upper")

    [line] = lines(capsys)
    assert line.endswith("[info     ] ready queue=upper stage=printer")
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_filters(level: str, said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is below LOG_LEVEL is not said."""
    log = logger(Settings.load(log_level=level, log_format="json"))
    log.debug("x")
    log.info("x")
    log.warning("x")
    log.error("x")

    assert said == [json.loads(line)["level"] for line in lines(capsys)]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_secrets_are_not_logged(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where somebody logs all the settings, or the broker."""
    settings = Settings.load(
        log_format=log_format,
        rabbitmq_url="amqp://me:hunter2@broker",
        rabbitmq_password=SecretStr("hunter2"),
    )
    logger(settings).info("x", settings=settings, broker=str(settings.endpoints[0]))

    [line] = lines(capsys)
    assert "broker:5672" in line
    assert "hunter2" not in line


def test_the_programs_own_logging_stays() -> None:
    """Nothing global is configured, and pika's level is the program's."""
    levels = {name: logging.getLogger(name).level for name in (None, "pika", "pika.adapters")}
    handlers = list(logging.root.handlers)
    logger(Settings.load())

    assert levels == {name: logging.getLogger(name).level for name in levels}
    assert handlers == logging.root.handlers


DRIVES = "\x1b[31m\n2026-11-25T10:14:50Z [info     ] halted\r\u202e"


def test_no_text_drives_the_terminal_or_fakes_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Event, context and values are escaped, with spaces in them or without."""
    log = logger(Settings.load(), stage=DRIVES)
    event = f"gave up {DRIVES}"
    log.warning(event, reason=DRIVES.replace(" ", ""), names=[DRIVES])

    [line] = lines(capsys)
    assert line.isprintable()
    assert line.count(r"\x1b[31m") == 4


def test_a_value_is_shown_once_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """So that it can be read back."""
    logger(Settings.load()).info("ready", one="a\x1bb", two="a \x1bb", three="a b", four=r"a\x1b")

    [line] = lines(capsys)
    assert line.endswith(r"ready four=a\x1b one='a\x1bb' three='a b' two='a \x1bb'")


def test_a_traceback_fakes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it is indented, the error's own line breaks included."""
    try:
        fail(DRIVES)
    except ValueError as error:
        logger(Settings.load()).warning("message failed", exc_info=error)

    first, *others = lines(capsys)
    assert "message failed" in first
    assert others[0] == "    Traceback (most recent call last):"
    assert all(each.startswith("    ") and each.isprintable() for each in others)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_huge_text_is_shortened(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that quotes all it was given still gets its line, and soon."""
    log = logger(Settings.load(log_format=log_format))
    huge = "\x1bbegins" + 30_000_000 * "\n" + "ends"
    began = process_time()
    try:
        fail(huge)
    except ValueError as error:
        log.warning("message failed", exc_info=error, reason=huge)

    assert process_time() - began < 5
    said = "\n".join(lines(capsys))
    assert len(said) < 16 * LONGEST_VALUE
    assert said.count("begins") == said.count("ends") == 2
    assert said.count("characters left out") == 2
    assert "Traceback" in said
