"""Run a stage without a broker, for unit tests of a stage.

delivery = harness(ToUpper).send("hello")
assert delivery.outputs == ["HELLO"]
assert delivery.settled == "acked"
"""

import os
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from unittest.mock import patch

from rabbit.amqp import frames
from rabbit.amqp.pika_types import Properties, encode_properties
from rabbit.message import Message, new_id
from rabbit.messaging.retry import RetryPolicy
from rabbit.stage import Consumer, checked
from rabbit.topology import Edge

_Settled: TypeAlias = Literal["acked", "retried", "dead-lettered"]

S = TypeVar("S", bound=Consumer)


@dataclass(frozen=True)
class Sent:
    """What a stage made of one message.

    Attributes:
        outputs: the texts it has written; none when it failed.
        keys: the routing key of each output.
        ids: the message id of each output.
        settled: acked; or else retried, after a delay, or dead-lettered, as RETRY_DELAYS says.
        error: what `work` raised, or what is wrong with the message, or None.
    """

    outputs: list[str]
    keys: list[str | None]
    ids: list[str]
    settled: _Settled
    error: BaseException | None


class Harness(Generic[S]):
    """One replica of a stage, fed by hand.

    Attributes:
        stage: the stage itself, for a look at its state.
    """

    def __init__(self, stage: S) -> None:
        """Feed `stage`, by what a running one is fed by."""
        self.stage = stage
        self._handler = checked(stage)
        self._known = stage.__rabbit__

    def send(
        self,
        text: str | bytes,
        *,
        message_id: str | None = None,
        headers: dict[str, Any] | None = None,
        redelivered: bool = False,
    ) -> Sent:
        """Let the stage handle one message, in this thread; return what came of it.

        Args:
            text: the message; bytes are sent as they are, to try what is not UTF-8.
            message_id: default: a new one. The same id gives outputs with the same ids.
            headers: the message's headers; with `{"x-attempts": 3}` it has failed three times.
            redelivered: as if the broker had delivered it before.
        """
        message_id = message_id or new_id()
        properties = Properties(  # type: ignore[no-untyped-call]
            message_id=message_id, correlation_id=message_id, headers=headers
        )
        message = Message(
            text if isinstance(text, bytes) else text.encode(),
            encode_properties(properties),
            redelivered=redelivered,
            routing_key="",
        )
        call = self._handler.run(message)
        return Sent(
            outputs=[output.body.decode() for output in call.outputs],
            keys=[output.key for output in call.outputs],
            ids=[output.id for output in call.outputs],
            settled=self._settled(message, call.error),
            error=call.error,
        )

    def _settled(self, message: Message, error: BaseException | None) -> _Settled:
        if error is None:
            return "acked"
        edge = Edge("input", delays=self._known.settings.retry_delays)
        decided = RetryPolicy(edge, self._known.stage, self._known.name).decide(
            message, error, frames.most_property_bytes(frames.FRAME_MAX)
        )
        return "dead-lettered" if decided.delay is None else "retried"


def harness(stage: type[S], *arguments: Any, **given: Any) -> Harness[S]:  # noqa: ANN401 - the stage's
    """Make a replica of `stage` that needs no broker.

    Queues that neither the arguments nor the environment name are called `input` and `output`.

    Args:
        stage: the class.
        arguments: as the class's constructor takes them.
        given: likewise.
    """
    queues = {"INPUT_QUEUE": "input", "OUTPUT_QUEUE": "output"}
    missing = {name: queue for name, queue in queues.items() if name not in os.environ}
    with patch.dict(os.environ, missing):
        return Harness(stage(*arguments, **given))
