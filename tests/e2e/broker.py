"""The pipeline's broker as an operator sees it: the management API."""

import base64
import json
from typing import Any
from urllib.request import Request, urlopen


class Broker:
    """RabbitMQ's HTTP API with the credentials that the README names."""

    def __init__(self, port: int) -> None:
        """Ask the API at this port of this machine."""
        self._url = f"http://127.0.0.1:{port}/api"
        self._login = base64.b64encode(b"pipeline:pipeline").decode()

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send one request; return what it answers."""
        request = Request(  # noqa: S310 - http, to this machine
            f"{self._url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Basic {self._login}",
                "Content-Type": "application/json",
            },
        )
        with urlopen(request, timeout=10) as response:  # noqa: S310
            answer = response.read()
        return json.loads(answer) if answer else None

    def ready(self, queue: str) -> int:
        """Count the messages that wait in a queue."""
        path = f"queues/%2F/{queue}?disable_stats=true&enable_queue_totals=true"
        return int(self.request("GET", path)["messages_ready"])

    def messages(self, queue: str) -> int:
        """Count the messages in a queue, those in flight included."""
        path = f"queues/%2F/{queue}?disable_stats=true&enable_queue_totals=true"
        return int(self.request("GET", path)["messages"])

    def purge(self, queue: str) -> None:
        """Remove the messages that wait in a queue."""
        self.request("DELETE", f"queues/%2F/{queue}/contents")

    def limit(self, queue: str, length: int | None) -> None:
        """Let a queue hold at most `length` messages (a policy); None: as many as it likes."""
        path = f"policies/%2F/limit-{queue}"
        if length is None:
            self.request("DELETE", path)
        else:
            definition = {"max-length": length}
            body = {"pattern": f"^{queue}$", "definition": definition, "apply-to": "queues"}
            self.request("PUT", path, body)

    def unbind(self, exchange: str, queue: str, key: str) -> None:
        """Remove a binding."""
        self.request("DELETE", f"bindings/%2F/e/{exchange}/q/{queue}/{key}")

    def bind(self, exchange: str, queue: str, key: str) -> None:
        """Make a binding."""
        self.request("POST", f"bindings/%2F/e/{exchange}/q/{queue}", {"routing_key": key})

    def connections(self) -> set[str]:
        """Return the names of the connections there are."""
        return {each["name"] for each in self.request("GET", "connections?disable_stats=true")}
