"""Several stages without a broker: what one writes is what the next one gets."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self
from unittest.mock import patch

from rabbit.errors import ConfigurationError
from rabbit.message import Message
from rabbit.stage import Stage
from rabbit.terminal import visible
from rabbit.testing.harness import Harness, Sent, replica_of
from rabbit.testing.source import SourceHarness, Written
from rabbit.topology import Edge

#: So many characters of a message are shown.
_LONGEST_SHOWN = 60


def pipeline(*stages: type[Stage] | Harness[Any] | SourceHarness[Any]) -> "Pipeline":
    """Make replicas of several stages, in flow order, that need no broker.

    Args:
        stages: classes; or what `harness` has made of one, where it needs arguments. The first may
            be a source.

    Raises:
        ConfigurationError: two of them cannot follow each other, or there are none.
    """
    made: list[Harness[Any] | SourceHarness[Any]] = []
    queue = "input"
    for each in stages:
        if isinstance(each, type):
            name = each.__name__.lower()
            with patch.dict(os.environ, {"INPUT_QUEUE": queue, "OUTPUT_QUEUE": name}):
                made.append(replica_of(each()))
        else:
            made.append(each)
        queue = made[-1].stage.settings.output_queue or queue
    return Pipeline(made)


@dataclass(frozen=True)
class Passed:
    """What became of messages in a pipeline; as a text, a line for each of them in each stage.

    `passed[ToUpper]` is what a stage made of each message that has reached it, in order; so is
    `passed[1]`, by its place.

    Attributes:
        sent: the same, of all stages.
        written: what the source has written, where the first stage is one.
        unroutable: messages that the next stage does not read, by their routing keys. At a broker,
            what no queue is bound for is returned, and its input waits.
    """

    stages: list[Stage]
    sent: list[list[Sent]]
    written: Written | None
    unroutable: list[Message]

    @property
    def outputs(self) -> list[Any]:
        """What the last stage has written."""
        return [output for sent in self.sent[-1] for output in sent.outputs]

    @property
    def failed(self) -> list[Sent]:
        """What was not acked, in flow order: it came no further."""
        return [sent for each in self.sent for sent in each if sent.error]

    def __getitem__(self, stage: type[Stage] | int) -> list[Sent]:
        """Return what one stage made of its messages. Raises LookupError: there is no such one."""
        if isinstance(stage, int):
            return self.sent[stage]
        for each, sent in zip(self.stages, self.sent, strict=True):
            if type(each) is stage:
                return sent
        raise LookupError(f"{stage.__name__} is no stage of this pipeline")

    def __str__(self) -> str:
        """Return a line for each message in each stage."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.written is not None:
            yield f"{self.stages[0].stage} wrote {len(self.written.outputs)}"
        for stage, all_sent in zip(self.stages, self.sent, strict=True):
            for sent in all_sent:
                reason = f": {visible(repr(sent.error))}" if sent.error else ""
                wrote = f", wrote {len(sent.outputs)}" if sent.outputs else ""
                yield f"{stage.stage} {sent.settled} {_shown(sent.message)}{wrote}{reason}"
        for message in self.unroutable:
            yield f"nobody reads {_shown(message)}, of the routing key {message.routing_key!r}"


class Pipeline:
    """Replicas of several stages, fed by hand at the first one.

    What they open, they have open within `with`; see `Harness`.

    Attributes:
        harnesses: of each stage, in flow order.
    """

    def __init__(self, harnesses: list[Harness[Any] | SourceHarness[Any]]) -> None:
        """Connect them. Raises ConfigurationError: see `pipeline`."""
        if not harnesses:
            raise ConfigurationError("a pipeline of no stages: name some")
        self.harnesses = harnesses
        self._readers: list[Harness[Any]] = []
        for index, each in enumerate(harnesses):
            if isinstance(each, Harness):
                self._readers.append(each)
            elif index:
                raise ConfigurationError(f"{each.stage.stage} is a source: it comes first")
        for before, after in pairwise(harnesses):
            _check_edge(before.stage, after.stage)

    def __enter__(self) -> Self:
        """Open what the stages open. Raises ResourcesError if that fails."""
        with ExitStack() as opened:
            for each in self.harnesses:
                if isinstance(each, Harness):
                    opened.enter_context(each)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it. Raises ResourcesError if that fails."""
        self._opened.close()

    def send(self, text: object, **given: Any) -> Passed:  # noqa: ANN401 - as `Harness.send`
        """Let the stages handle one message, and all that comes of it; return what did.

        Args:
            text: the message, for the first stage; see `Harness.send`.
            given: what else is known of it; see `Harness.send`.

        Raises:
            TypeError: the first stage is a source, which gets no messages.
        """
        first = self.harnesses[0]
        if isinstance(first, SourceHarness):
            msg = f"{first.stage.stage} is a source, which gets no messages: run() it"
            raise TypeError(msg)
        return self._pass_on([first.send(text, **given)], None)

    def run(self, *, stop_after: int | None = None) -> Passed:
        """Let the source write, then the stages handle what it has written; return what came of it.

        Args:
            stop_after: halt the source once it has written so many messages; see `SourceHarness`.

        Raises:
            TypeError: the first stage is no source.
        """
        first = self.harnesses[0]
        if isinstance(first, Harness):
            msg = f"{first.stage.stage} is no source: send() it a message"
            raise TypeError(msg)
        return self._pass_on([], first.run(stop_after=stop_after))

    def _pass_on(self, sent: list[Sent], written: Written | None) -> Passed:
        """Take it from what the first stage has made: one stage after the other."""
        results, unroutable = [sent], list[Message]()
        made = written.messages if written else [each for one in sent for each in one.messages]
        for each in self.harnesses[1:]:
            assert isinstance(each, Harness)  # noqa: S101 - a source comes first
            edge: Edge = each.stage.__rabbit__.input
            unroutable += [message for message in made if not _reads(edge, message.routing_key)]
            read = [message for message in made if _reads(edge, message.routing_key)]
            results.append(each.deliver_all(read))
            made = [message for one in results[-1] for message in one.messages]
        return Passed([each.stage for each in self.harnesses], results, written, unroutable)


def _check_edge(before: Stage, after: Stage) -> None:
    """Raise ConfigurationError if a broker would not take one to the other."""
    written, read = before.__rabbit__.output, after.__rabbit__.input
    if written is None:
        raise ConfigurationError(
            f"{before.stage} is a sink: it writes nothing that {after.stage} could read"
        )
    assert read is not None  # noqa: S101 - a source comes first
    if written.kind != read.kind:
        raise ConfigurationError(
            f"{before.stage} writes to an edge of kind {written.kind} (OUTPUT_KIND), and "
            f"{after.stage} reads one of kind {read.kind} (INPUT_KIND): they have to be the same"
        )


def _reads(edge: Edge, key: str) -> bool:
    """Tell whether an edge's queue is bound for a routing key (AMQP 0-9-1, section 3.1.3)."""
    if edge.kind == "direct":
        return key in edge.keys
    if edge.kind == "topic":
        return any(_matches(_words(pattern), _words(key)) for pattern in edge.keys)
    return True


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _matches(pattern: list[str], words: list[str]) -> bool:
    """Tell whether words fit a pattern, in which `*` is one word and `#` any number of them."""
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(_matches(rest, words[begin:]) for begin in range(len(words) + 1))
    return bool(words) and first in {"*", words[0]} and _matches(rest, words[1:])


def _shown(message: Message) -> str:
    text = message.body.decode(errors="backslashreplace")
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")
