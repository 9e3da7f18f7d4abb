"""Log lines, to stderr: one per state change and per message that did not go well."""

import logging
import sys
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


def logger(settings: "Settings", **context: Any) -> Logger:  # noqa: ANN401 - values of any type
    """Return a logger for one component, with its context bound once.

    Nothing global is configured, so a program that uses the library keeps its own logging.
    """
    timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        timestamp,
        *_rendering(settings),
    ]
    made: Logger = structlog.wrap_logger(
        _Lines(sys.stderr, processors, context),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.log_level.upper()]),
        context_class=dict,
    )
    return made.bind(**context)


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
            structlog.processors.JSONRenderer(),
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
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = visible(value) if key == "event" else _Shown(repr(value))
    return event


def _indented_traceback(stream: TextIO, error: structlog.typing.ExcInfo) -> None:
    """Write a traceback in which no line can be taken for one of the log."""
    text = StringIO()
    structlog.dev.plain_traceback(text, error)
    said = shortened(text.getvalue().strip(), LONGEST_VALUE)
    stream.writelines(f"\n    {visible(line)}" for line in said.splitlines())
