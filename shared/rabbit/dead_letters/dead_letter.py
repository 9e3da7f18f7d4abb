"""What is known of one dead letter, from the headers that its failure has left."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from rabbit.amqp.properties import decode_headers, read_headers, read_ids
from rabbit.message import Message


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is known of one dead letter, without its body.

    Attributes:
        id: its message id; "" if it has none.
        queue: the queue it came from.
        reason: the type of the error, or what the broker gives as reason: delivery_limit.
        message: the error's message; "" if the broker gave it up.
        stage: the stage in which it failed.
        replica: the replica in which it failed.
        attempts: how many there were; None: not known.
        failed_at: when it was given up, in ISO 8601; "" if that is not known.
        size: of its body, in bytes.
    """

    id: str
    queue: str
    reason: str
    message: str
    stage: str
    replica: str
    attempts: int | None
    failed_at: str
    size: int

    @classmethod
    def of(cls, queue: str, message: Message) -> Self:
        """Read what the failure has left in the headers; what cannot be read counts as unknown."""
        try:
            headers, message_id = read_headers(message.properties), read_ids(message.properties)[0]
        except ValueError:
            headers, message_id = {}, None
        attempts = headers.get("x-attempts")
        return cls(
            id=message_id or "",
            queue=queue,
            reason=str(
                headers.get("x-error-type") or headers.get("x-first-death-reason") or "unknown"
            ),
            message=str(headers.get("x-error-message", "")),
            stage=str(headers.get("x-failed-stage", "")),
            replica=str(headers.get("x-failed-replica", "")),
            attempts=attempts if isinstance(attempts, int) else None,
            failed_at=str(headers.get("x-failed-at") or _given_up_at(message)),
            size=len(message.body),
        )


def _given_up_at(message: Message) -> str:
    """Return when the broker gave it up, which only the table `x-death` tells."""
    try:
        time = decode_headers(message.properties)["x-death"][0]["time"]
    except (ValueError, TypeError, LookupError):
        return ""
    return time.isoformat() if isinstance(time, datetime) else ""
