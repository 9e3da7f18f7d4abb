"""Log lines."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from time import process_time

import pytest
from pydantic import SecretStr

from rabbit.logs import LONGEST_VALUE, capture_logging, logger
from rabbit.settings import Settings
from rabbit.terminal import visible


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
    huge = "\x1bbegins" + 3_000_000 * "\n" + "ends"
    began = process_time()
    visible(huge)  # what it would take to show all of it
    shown = process_time()
    try:
        fail(huge)
    except ValueError as error:
        log.warning("message failed", exc_info=error, reason=huge)

    assert process_time() - shown < shown - began
    said = "\n".join(lines(capsys))
    assert len(said) < 16 * LONGEST_VALUE
    assert said.count("begins") == said.count("ends") == 2
    assert said.count("characters left out") == 2
    assert "Traceback" in said


class Unshowable:
    """Cannot be shown."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError


class Driving:
    """Is shown by several lines."""

    def __repr__(self) -> str:
        """Begin a line."""
        return f"<{DRIVES}>"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_cannot_be_shown_is_one_line_all_the_same(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """To log must not make a message fail."""
    log = logger(Settings.load(log_format=log_format))
    log.info("x", value=Unshowable(), other=1)
    log.info("x", value={("a", "key"): float("nan")}, other=float("inf"))
    log.info(ValueError("an error as the event"))  # type: ignore[arg-type] # people do it

    first, second, third = lines(capsys)
    assert "Unshowable that cannot be shown" in first
    assert "key" in second
    assert "an error as the event" in third
    if log_format == "json":
        assert json.loads(second)["other"] == "inf"


def test_no_object_and_no_name_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Not what an object says of itself, and no key of a dictionary that somebody has passed on."""
    log = logger(Settings.load())
    log.info("x", frame=Driving(), exception=DRIVES, **{DRIVES: 1})
    log.info("x", stack_info=True)

    said = lines(capsys)
    assert all(line.isprintable() for line in said)
    assert [line[28:] for line in said if not line.startswith("    ")] == [
        rf"[info     ] x {visible(DRIVES)}=1 frame=<{visible(DRIVES)}>",
        "[info     ] x",
    ]
    assert len(said) > 4


@contextmanager
def captured() -> Iterator[None]:
    """Have the root logger as in a new process, without pytest's handlers; put everything back."""
    level, handlers, show = logging.root.level, logging.root.handlers, warnings.showwarning
    logging.root.handlers = []
    capture_logging(Settings.load(log_format="json"), lambda: {"message_id": "m1"}, stage="s")
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        warnings.showwarning = show
        logging.root.handlers = handlers
        logging.root.setLevel(level)


class Chatty:
    """Logs when it is shown."""

    def __str__(self) -> str:
        """Log, which shows it."""
        logging.getLogger("chatty").warning("shown: %s", self)
        return "chatty"


def test_the_standard_librarys_logging_looks_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Its fields are bound, its extras are values, its tracebacks belong to their line."""
    theirs = logging.getLogger("theirs")
    with captured():
        theirs.debug("below LOG_LEVEL")
        theirs.info("%d rows", 3, extra={"table": "orders", "level": "theirs"})
        try:
            fail()
        except ValueError:
            theirs.exception("no")

    first, second = (json.loads(line) for line in lines(capsys))
    assert datetime.fromisoformat(first.pop("timestamp")).tzname() == "UTC"
    assert first == {
        "event": "3 rows",
        "level": "info",
        "logger": "theirs",
        "stage": "s",
        "message_id": "m1",
        "table": "orders",
    }
    assert (second["level"], second["event"]) == ("error", "no")
    assert "ValueError: broken" in second["exception"]


def test_what_others_log_never_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that do not fit, values that cannot be shown, a line that is made by a line."""
    theirs = logging.getLogger("theirs")
    with captured():
        theirs.warning("%d rows", "three")
        theirs.warning("%s", Unshowable(), extra={"value": Unshowable()})
        theirs.warning(Unshowable())
        theirs.warning("%s", Chatty())
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    said = [json.loads(line) for line in lines(capsys)]
    assert said[0]["event"] == "%d rows (its arguments do not fit: TypeError)"
    assert said[1]["event"] == "%s (its arguments do not fit: RuntimeError)"
    assert said[1]["value"] == "(Unshowable that cannot be shown)"
    assert said[2]["event"].startswith("(Unshowable that cannot be shown)")
    assert (said[-2]["logger"], said[-2]["level"]) == ("theirs", "warning")  # it has ended
    assert said[-1]["logger"] == "py.warnings"
    assert said[-1]["event"].endswith("DeprecationWarning: old")


def test_who_has_configured_logging_keeps_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler of the root logger says so."""
    theirs = [logging.NullHandler()]
    monkeypatch.setattr(logging.root, "handlers", theirs)
    level = logging.root.level
    capture_logging(Settings.load(log_level="debug"), dict)

    assert logging.root.handlers == theirs == [theirs[0]]
    assert logging.root.level == level
