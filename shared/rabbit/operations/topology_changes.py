"""What an operator changes in the broker: exchanges, queues, bindings."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from rabbit.errors import BrokerUnavailableError, RabbitError
from rabbit.operations.management import Management
from rabbit.topology import Binding, Declaration, Exchange, Queue

_REFUSED = "Access refused."  # what the API says of rights; of a login it says something else


@dataclass(frozen=True)
class Bound:
    """A binding of a queue, with all that it takes to make it again.

    Attributes:
        exchange: its source.
        key: its routing key.
        arguments: what it was made with, beside the key.
        handle: what the API calls it.
    """

    exchange: str
    key: str
    arguments: dict[str, Any] = field(default_factory=dict)
    handle: str = ""


class TopologyChanges:
    """Changes by the management API, which checks the rights that AMQP's methods need."""

    def __init__(self, management: Management) -> None:
        """Change nothing yet."""
        self._management = management

    def bindings(self, queue: str) -> list[Bound]:
        """Return the bindings of a queue, without that of the default exchange."""
        return [
            Bound(each["source"], each["routing_key"], each["arguments"], each["properties_key"])
            for each in self._management.bindings()
            if each["source"]
            and each["destination"] == queue
            and each["destination_type"] == "queue"
        ]

    def declare(self, item: Declaration) -> None:
        """Make what is not there; what is there is left as it is.

        Raises:
            RabbitError: it is refused: without the right to, or since there is another one.
        """
        match item:
            case Exchange(name, type_, auto_delete):
                path = f"exchanges/{{}}/{_path(name)}"
                made: dict[str, Any] = {"type": type_, "durable": True, "auto_delete": auto_delete}
                self._do(f"create exchange {name!r}", "PUT", path, made)
            case Queue(name, arguments):
                path = f"queues/{{}}/{_path(name)}"
                made = {"durable": True, "arguments": dict(arguments)}
                self._do(f"create queue {name!r}", "PUT", path, made)
            case Binding(exchange, queue, key):
                self.bind(queue, Bound(exchange, key))

    def bind(self, queue: str, bound: Bound) -> None:
        """Bind a queue as another one is, or was."""
        what = f"bind queue {queue!r} to exchange {bound.exchange!r}"
        path = f"bindings/{{}}/e/{_path(bound.exchange)}/q/{_path(queue)}"
        body = {"routing_key": bound.key, "arguments": bound.arguments}
        if not self._do(what, "POST", path, body):
            raise RabbitError(f"cannot {what}: one of them is gone; run it again")

    def unbind(self, queue: str, bound: Bound) -> None:
        """Take a binding away, if it is there."""
        what = f"unbind queue {queue!r} from exchange {bound.exchange!r}"
        path = f"bindings/{{}}/e/{_path(bound.exchange)}/q/{_path(queue)}/{_path(bound.handle)}"
        self._do(what, "DELETE", path)

    def delete_queue(self, queue: str) -> None:
        """Delete a queue with whatever is in it: who asks has seen that it is empty."""
        self._do(f"delete queue {queue!r}", "DELETE", f"queues/{{}}/{_path(queue)}")

    def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange."""
        self._do(f"delete exchange {exchange!r}", "DELETE", f"exchanges/{{}}/{_path(exchange)}")

    def _do(self, what: str, method: str, path: str, body: dict[str, Any] | None = None) -> bool:
        try:
            return self._management.change(method, path, body)
        except BrokerUnavailableError as error:
            raise BrokerUnavailableError(f"cannot {what}: {error}; run it again") from None
        except RabbitError as error:
            why = str(error)
            if why == _REFUSED:
                why = (
                    "this user has not the right to. Give, in RABBITMQ_USERNAME and "
                    "RABBITMQ_PASSWORD, one who may configure, write and read all that the stages "
                    "use, and who has the tag monitoring"
                )
            raise RabbitError(f"cannot {what}: {why}") from None


def _path(name: str) -> str:
    return quote(name, safe="")
