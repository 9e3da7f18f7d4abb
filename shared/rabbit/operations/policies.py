"""What policies do to queues that are to keep what is in them. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_LIMITS = ("max-length", "max-length-bytes")


@dataclass(frozen=True)
class Policy:
    """What policies make of one queue.

    Attributes:
        name: the policy, the operator policy, or both: the broker tells only what they come to.
        definition: what they come to (`effective_policy_definition`).
    """

    name: str
    definition: Mapping[str, Any]

    def losses(self, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield what it takes from a queue with these arguments: the policy's key, and the effect.

        Of a number that both give, the smaller one counts. On a quorum queue a policy's `overflow`
        and `delivery-limit` win over the arguments, on a classic one the arguments do (seen on
        RabbitMQ 4.3; rabbitmq.com/docs/policies says it of the numbers).
        """
        yield from self._too_old(arguments)
        yield from self._too_many(arguments)
        limit = self.definition.get("delivery-limit")
        if limit is not None and arguments.get("x-delivery-limit") == -1 and not _moves(arguments):
            yield "delivery-limit", f"what comes back more than {limit} times is dropped"

    def _too_old(self, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        ttl = self._smaller("message-ttl", arguments)
        if ttl is not None and "x-message-ttl" in arguments:
            yield "message-ttl", f"what waits comes back after {ttl} ms already"
        elif ttl is not None and _moves(arguments):
            yield "message-ttl", f"what waits for longer than {ttl} ms becomes a dead letter"
        elif ttl is not None:
            yield "message-ttl", f"what is older than {ttl} ms is dropped"
        expires = self._smaller("expires", arguments)
        if expires is not None:
            effect = f"the queue goes, with all in it, when nobody has read it for {expires} ms"
            yield "expires", effect

    def _too_many(self, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        overflow = self._overflow(arguments)
        if overflow == "reject-publish":
            return
        for key in _LIMITS:
            if key in self.definition:
                unit = "bytes" if key.endswith("bytes") else "messages"
                effect = f"beyond {self.definition[key]} {unit} the oldest is dropped ({overflow})"
                yield key, effect
        if arguments.get("x-dead-letter-strategy") == "at-least-once":
            yield "overflow", f"with {overflow}, what becomes a dead letter may be lost on the way"

    def _smaller(self, key: str, arguments: Mapping[str, Any]) -> int | None:
        """Return what the policy says where that is less than the queue's own argument."""
        here, own = self.definition.get(key), arguments.get(f"x-{key}")
        return here if here is not None and (own is None or here < own) else None

    def _overflow(self, arguments: Mapping[str, Any]) -> str:
        here, own = self.definition.get("overflow"), arguments.get("x-overflow")
        if arguments.get("x-queue-type") == "classic":
            here, own = own, here
        return here or own or "drop-head"


def _moves(arguments: Mapping[str, Any]) -> bool:
    """Tell whether what goes out of a queue goes to another one."""
    return "x-dead-letter-exchange" in arguments
