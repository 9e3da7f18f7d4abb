"""What only RabbitMQ's management API tells: which queues there are, and all that is in them."""

import base64
import json
from collections import Counter
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from pydantic import Field
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from rabbit import BrokerUnavailableError, ConfigurationError, Settings
from rabbit.topology import CONTROL_EXCHANGE, Edge

#: How long one request may take, and how long to go on trying while the broker starts.
REQUEST_SECONDS = 5.0
PATIENCE_SECONDS = 10.0

_DEAD = Edge("").dead  # what follows the name of a queue


class ControlSettings(Settings):
    """What the environment may say beside the settings that every stage has."""

    rabbitmq_management_url: str | None = Field(
        None, pattern=r"^https?://[^/]+/?$", description="http://host:port of the management API"
    )
    halt_timeout: float = Field(60.0, gt=0, allow_inf_nan=False, description="seconds, above 0")


class Management:
    """RabbitMQ's HTTP API (rabbitmq.com/docs/http-api-reference)."""

    def __init__(self, settings: ControlSettings) -> None:
        """Ask the API of the first broker, port 15672, unless RABBITMQ_MANAGEMENT_URL is set."""
        endpoint = settings.endpoints[0]
        url = settings.rabbitmq_management_url or f"http://{endpoint.host}:15672"
        login = f"{endpoint.username}:{endpoint.password}".encode()
        self._url = url.rstrip("/")
        self._vhost = quote(endpoint.vhost, safe="")
        self._headers = {
            "Authorization": f"Basic {base64.b64encode(login).decode()}",
            "Content-Type": "application/json",
        }

    def control_queues(self) -> set[str]:
        """Return the queues bound to the control exchange: one for each replica there is."""
        path = f"exchanges/{self._vhost}/{CONTROL_EXCHANGE}/bindings/source"
        return {binding["destination"] for binding in self._ask(path) or []}

    def broadcast(self, command: str, reply_to: str) -> None:
        """Publish a command: an alarm blocks connections that publish, but not this API."""
        body = {
            "routing_key": "",
            "payload": command,
            "payload_encoding": "string",
            "properties": {"reply_to": reply_to},
        }
        self._ask(f"exchanges/{self._vhost}/{CONTROL_EXCHANGE}/publish", body)

    def messages(self) -> dict[str, tuple[int, int]]:
        """Return for each queue how many messages are ready and how many are in flight.

        These figures lag behind by up to five seconds.
        """
        return {
            queue["name"]: (queue.get("messages_ready", 0), queue.get("messages_unacknowledged", 0))
            for queue in self.queues()
        }

    def exchanges(self) -> list[dict[str, Any]]:
        """Return every exchange, with its type."""
        return self._list("exchanges")

    def queues(self) -> list[dict[str, Any]]:
        """Return every queue, with its arguments."""
        return self._list("queues", "?disable_stats=true&enable_queue_totals=true")

    def bindings(self) -> list[dict[str, Any]]:
        """Return every binding, those of the default exchange included."""
        return self._list("bindings")

    def consumers(self) -> Counter[str]:
        """Count the consumers of each queue."""
        return Counter(each["queue"]["name"] for each in self._list("consumers"))

    def _list(self, what: str, options: str = "") -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._ask(f"{what}/{self._vhost}{options}") or []
        return listed

    def dead_letter_queues(self) -> list[str]:
        """Return the queues that have dead letters, or a place for them, by name."""
        exchanges = {each["name"] for each in self.exchanges()}
        names = {name.removesuffix(_DEAD) for name in exchanges if name.endswith(_DEAD)}
        queues = self.messages()
        return sorted(name for name in names if name and Edge(name).dead in queues)

    def is_bound(self, exchange: str) -> bool:
        """Tell whether there is such an exchange, and a queue bound to it."""
        path = f"exchanges/{self._vhost}/{quote(exchange, safe='')}/bindings/source"
        return bool(self._ask(path))

    @retry(
        retry=retry_if_exception_type(BrokerUnavailableError),
        stop=stop_after_delay(PATIENCE_SECONDS),
        wait=wait_random_exponential(multiplier=0.2, max=2.0),
        reraise=True,
    )
    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Return what the API answers; None when it knows no such thing."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(  # noqa: S310 - http(s) only
            f"{self._url}/api/{path}", data=data, headers=self._headers
        )
        try:
            with urlopen(request, timeout=REQUEST_SECONDS) as response:  # noqa: S310
                return json.load(response)
        except HTTPError as error:
            return self._refused(error)
        except (URLError, TimeoutError) as error:
            msg = f"the management API at {self._url} does not answer ({error}): is RabbitMQ up?"
            raise BrokerUnavailableError(msg) from error

    def _refused(self, error: HTTPError) -> None:
        if error.code == 404:  # noqa: PLR2004 - HTTP's "not found"
            return
        if error.code in {401, 403}:
            msg = (
                f"the management API at {self._url} refuses this user: check RABBITMQ_USERNAME "
                "and RABBITMQ_PASSWORD; the user needs the tag 'monitoring'"
            )
            raise ConfigurationError(msg)
        msg = f"the management API at {self._url} answers {error.code} {error.reason}"
        raise BrokerUnavailableError(msg)
