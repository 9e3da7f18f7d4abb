"""Log lines, to stderr: one per state change and per message that did not go well."""

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from rabbit.settings import Settings

Logger = structlog.typing.FilteringBoundLogger

_LEVELS = logging.getLevelNamesMapping()


def logger(settings: "Settings", **context: Any) -> Logger:  # noqa: ANN401 - values of any type
    """Return a logger for one component, with its context bound once.

    Nothing global is configured, so a program that uses the library keeps its own logging.
    pika's own logger is silenced: what it says, our lines say in the pipeline's words.
    """
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
    timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    made: Logger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[structlog.processors.add_log_level, timestamp, *_rendering(settings)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.log_level.upper()]),
        context_class=dict,
    )
    return made.bind(**context)


def _rendering(settings: "Settings") -> list[structlog.typing.Processor]:
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
