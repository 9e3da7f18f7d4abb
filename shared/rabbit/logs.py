"""Log lines, to stderr: one per state change and per message that did not go well."""

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from rabbit import terminal
from rabbit.terminal import shortened, visible

if TYPE_CHECKING:
    from rabbit.settings import Settings

Logger = structlog.typing.FilteringBoundLogger

#: So many characters of a value or a traceback are logged, at most.
LONGEST_VALUE = 16 * 1024

_LEVELS = logging.getLevelNamesMapping()

#: What a record of the standard library's has by itself; all else was given as `extra`.
_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime"}

#: What is made a traceback of, which stands below the line.
_TRACE = {"exc_info", "stack_info"}
_TRACES = {"exception", "stack"}

#: Types of values that are shown as they are.
_PLAIN = {bool, int, float, type(None)}


def logger(
    settings: "Settings",
    fields: Callable[[], Mapping[str, Any]] | None = None,
    **context: Any,  # noqa: ANN401 - values of any type
) -> Logger:
    """Return a logger for one component, with its context bound once.

    Nothing global is configured, so a program that uses the library keeps its own logging.

    Args:
        settings: LOG_LEVEL and LOG_FORMAT.
        fields: called for each line, in the thread that logs, for what is known just then.
        context: what each line has.
    """
    processors = _processors(settings)
    if fields:
        processors.insert(0, _adding(fields))
    made: Logger = structlog.wrap_logger(
        _Lines(sys.stderr, processors, context),
        processors=[_Rendered(processors)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.log_level.upper()]),
        context_class=dict,
    )
    return made.bind(**context)


def capture_logging(
    settings: "Settings",
    fields: Callable[[], Mapping[str, Any]],
    **context: Any,  # noqa: ANN401 - as for `logger`
) -> None:
    """Have the standard library's `logging`, and `warnings`, come out like our own lines.

    For a process that is ours. If the root logger has a handler, somebody has decided otherwise,
    and nothing is changed.

    Args:
        settings: LOG_LEVEL and LOG_FORMAT. A logger with a higher level of its own keeps that.
        fields: called for each line, in the thread that logs.
        context: what each line has.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = _Captured(settings, fields, context)
    root.addHandler(handler)
    root.setLevel(handler.level)
    logging.captureWarnings(capture=True)


class _Captured(logging.Handler):
    """Writes records of the standard library's as lines of ours."""

    def __init__(
        self,
        settings: "Settings",
        fields: Callable[[], Mapping[str, Any]],
        context: dict[str, Any],
    ) -> None:
        super().__init__(_LEVELS[settings.log_level.upper()])
        self._context = context
        self._render = _Rendered([_adding(fields), *_rendering(settings)])
        self._lines = _Lines(sys.stderr, _processors(settings), context)

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written; never waits, and raises nothing."""
        try:
            said = record.getMessage()
        except Exception as error:  # noqa: BLE001 - arguments that do not fit, or cannot be shown
            text = record.msg if isinstance(record.msg, str) else _said(record.msg)
            said = f"{text} (its arguments do not fit: {type(error).__name__})"
        if record.name == "py.warnings":  # it goes on with the line of code
            said = said.partition("\n")[0]
        event = {
            **{str(name): value for name, value in vars(record).items() if name not in _RECORD},
            **self._context,
            "event": said,
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
        }
        if record.exc_info:
            event["exc_info"] = record.exc_info
        if record.stack_info:
            event["stack"] = record.stack_info
        self._lines.msg(self._render(None, "", event))


def _processors(settings: "Settings") -> list[structlog.typing.Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer([__name__]),
        *_rendering(settings),
    ]


def _adding(fields: Callable[[], Mapping[str, Any]]) -> structlog.typing.Processor:
    """Return what adds fields to an event that does not have them."""

    def add(
        _logger: object, _name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        with suppress(Exception):  # of a message whose ids cannot be read
            return {**fields(), **event}
        return event

    return add


class _Rendered:
    """Makes a line of an event, whatever is in it: to log must not make a message fail."""

    def __init__(self, processors: list[structlog.typing.Processor]) -> None:
        self._processors = processors

    def __call__(self, caller: object, name: str, event: structlog.typing.EventDict) -> str:
        """Return the line; values that cannot be rendered as they are go in as texts."""
        given = dict(event)
        with suppress(Exception):  # of somebody's __repr__, or of JSON, which has no such value
            return self._run(caller, name, event)
        shown = {key: value if key in _TRACE else _said(value) for key, value in given.items()}
        return self._run(caller, name, shown)

    def _run(self, caller: object, name: str, event: Any) -> str:  # noqa: ANN401 - in the end a line
        for processor in self._processors:
            event = processor(caller, name, event)
        return str(event)


def _said(value: object) -> str:
    """Return what a value says of itself, or that it does not."""
    with suppress(Exception):
        return value if isinstance(value, str) else repr(value)
    return f"({type(value).__name__} that cannot be shown)"


class _Lines:
    """Where rendered lines go: to what standard error was when the logger was made."""

    def __init__(
        self,
        stream: TextIO | None,
        processors: list[structlog.typing.Processor],
        context: dict[str, Any],
    ) -> None:
        self._stream = stream
        self._processors = processors
        self._context = context

    def msg(self, line: str) -> None:
        """Have a line written, soon."""
        terminal.write(self._stream, f"{line}\n", self._tell)

    debug = info = warning = error = critical = msg

    def _tell(self, dropped: int) -> str:
        """Render the line that says how many lines there was no room for."""
        said: Any = {
            **self._context,
            "event": "log lines dropped: standard error was not read",
            "count": dropped,
        }
        for processor in self._processors:
            said = processor(self, "warning", said)
        return f"{said}\n"


def _rendering(settings: "Settings") -> list[structlog.typing.Processor]:
    if settings.log_format == "json":
        return [
            structlog.processors.format_exc_info,
            _shorten,
            structlog.processors.JSONRenderer(allow_nan=False),
        ]
    return [
        _shorten,
        _make_visible,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr is not None and sys.stderr.isatty(),
            pad_event_to=0,
            exception_formatter=_indented_traceback,
        ),
    ]


def _shorten(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Leave out the middle of what would be a line that nobody reads, or that is dropped."""
    event["event"] = str(event["event"])  # it may be an error
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = shortened(value, LONGEST_VALUE)
    return event


class _Shown(str):
    """What a value is shown as, by a renderer that may ask for its `repr` too."""

    __slots__ = ()
    __repr__ = str.__str__


def _make_visible(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Have no text drive a terminal or begin a line: neither a message's nor the broker's."""
    return {visible(key): _visible_value(key, value) for key, value in event.items()}


def _visible_value(key: str, value: Any) -> Any:  # noqa: ANN401 - values of any type
    if key in _TRACE or type(value) in _PLAIN:
        return value
    if not isinstance(value, str):
        return _Shown(visible(shortened(repr(value), LONGEST_VALUE)))
    if key in _TRACES:
        return "\n".join(_indented(value))
    if value.isprintable():
        return value
    return visible(value) if key == "event" else _Shown(repr(value))


def _indented_traceback(stream: TextIO, error: structlog.typing.ExcInfo) -> None:
    """Write a traceback in which no line can be taken for one of the log."""
    text = StringIO()
    structlog.dev.plain_traceback(text, error)
    stream.writelines(f"\n{line}" for line in _indented(text.getvalue()))


def _indented(text: str) -> list[str]:
    """Return lines none of which can be taken for one of the log."""
    said = shortened(text.strip(), LONGEST_VALUE)
    return [f"    {visible(line)}" for line in said.splitlines()]
