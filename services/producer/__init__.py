"""Publish what it is given: MESSAGES, one MESSAGE, or the lines of a file."""

from collections.abc import Iterator
from typing import BinaryIO

from pydantic import Field

import rabbit
from rabbit import RabbitError, Settings

from .progress import Progress


class ProducerSettings(Settings):
    """What the environment may say beside the settings that every stage has."""

    messages: str = Field("hello world", description="words, each one message")
    message: str | None = Field(None, description="a text, all of it one message")
    publish_timeout: float | None = Field(
        30.0, gt=0, allow_inf_nan=False, description="seconds, above 0"
    )
    progress: bool = Field(default=False, description="1 to show progress, 0 not to")
    total_bytes: int | None = Field(None, ge=0, description="the size of the file, if known")


class Producer(rabbit.Producer):
    """Publish every text once, and end when all of them are confirmed."""

    Settings = ProducerSettings
    settings: ProducerSettings

    def __init__(self, lines: BinaryIO | None = None) -> None:
        """Publish the lines of a file; without one, what the environment says."""
        super().__init__()
        self._lines = lines

    def work(self) -> None:
        """Write all texts, as fast as the broker confirms them."""
        with Progress(self.settings.total_bytes, shown=self.settings.progress) as progress:
            for text in self._texts():
                self.write(text)
                progress.advance(text)

    @property
    def has_somebody_waiting(self) -> bool:
        """Whether it is `make publish`, and no stage that a halt is to keep down."""
        return self._lines is not None or self.settings.message is not None

    def _texts(self) -> Iterator[str]:
        if self._lines is not None:
            yield from self._decoded(self._lines)
        elif self.settings.message is not None:
            yield self.settings.message
        else:
            yield from self.settings.messages.split()

    def _decoded(self, lines: BinaryIO) -> Iterator[str]:
        for number, line in enumerate(lines, start=1):
            try:
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
            except UnicodeDecodeError:
                msg = f"line {number} is not UTF-8 text: only the lines before it are published"
                raise RabbitError(msg) from None
