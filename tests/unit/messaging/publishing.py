"""A publisher whose other end is in the test's hands."""

from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog

from rabbit.errors import PublishError, TooLargeError
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.output import Output, first_output, make_extras
from rabbit.topology import Edge
from tests.unit.scripted import ScriptedChannel, ScriptedConnection, ScriptedLoop, as_connection


class Desk:
    """A publisher, open; what is nacked is tried again, unless it is too large, or void.

    Attributes:
        confirmed: the texts that are.
        nacked: what each of the others was nacked with.
        said: what was logged, beginning with the event.
        void: texts that are not wanted any more.
    """

    def __init__(self, publisher: type[Publisher[str]], edge: Edge) -> None:
        """Have it open."""
        self.loop = ScriptedLoop()
        self.connection = ScriptedConnection(self.loop)
        self.confirmed: list[str] = []
        self.nacked: list[tuple[str, PublishError]] = []
        self.said: list[str] = []
        self.void: set[str] = set()
        self.publisher = publisher(
            as_connection(self.connection),
            edge,
            structlog.wrap_logger(
                None, processors=[self._hear], wrapper_class=structlog.BoundLogger
            ),
            on_confirmed=self.confirmed.extend,
            on_nacked=self._nacked,
            on_failed=lambda error: pytest.fail(str(error)),
            is_void=lambda owner: owner in self.void,
        )
        self.channel: ScriptedChannel = self.connection.users[0]
        self.channel.open()

    def _hear(self, _logger: object, _level: str, event: MutableMapping[str, Any]) -> str:
        self.said.append(event["event"])
        raise structlog.DropEvent

    def _nacked(self, publication: Publication[str], error: PublishError) -> None:
        self.nacked.append((publication[1], error))
        if not isinstance(error, TooLargeError) and publication[1] not in self.void:
            self.publisher.publish_again(publication, error)

    def write(self, *texts: str) -> None:
        """Write texts, whose first letter is their key."""
        for text in texts:
            self.publisher.send([output(text)], text)

    def write_with_id(self, message_id: str, *texts: str) -> None:
        """Write texts that share an id; the first letter of each is its key."""
        extras = make_extras(None, None, None, message_id)
        for text in texts:
            self.publisher.send([first_output(text.encode(), text[0], extras=extras)], text)

    @property
    def sent(self) -> list[str]:
        """What was published since this was asked last."""
        bodies = [each.body for each in self.channel.published]
        self.channel.published.clear()
        return bodies


def output(text: str) -> Output:
    """Return an output that is this text."""
    return first_output(text.encode(), text[0])
