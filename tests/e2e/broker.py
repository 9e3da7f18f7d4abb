"""The pipeline's broker as an operator sees it: the management API."""

import base64
import json
import ssl
from typing import Any
from urllib.request import Request, urlopen

from tests.support.pipeline import Pipeline


class Broker:
    """RabbitMQ's HTTP API; by default with the credentials that the README names."""

    def __init__(
        self,
        pipeline: Pipeline,
        login: str = "pipeline:pipeline",
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Ask the API of this pipeline's broker.

        Args:
            pipeline: it.
            login: the user and the password.
            context: how to check its certificate; None: it has none.
        """
        self._pipeline, self._context = pipeline, context
        scheme = "https" if context else "http"
        self._url = f"{scheme}://127.0.0.1:{pipeline.management_port}/api"
        self._login = base64.b64encode(login.encode()).decode()

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send one request; return what it answers."""
        request = Request(  # noqa: S310 - http(s), to this machine
            f"{self._url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Basic {self._login}",
                "Content-Type": "application/json",
            },
        )
        with urlopen(request, timeout=10, context=self._context) as response:  # noqa: S310
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
        """Let a queue hold at most `length` messages (a policy); None: as many as it likes.

        Within the container: from outside nobody is allowed to.
        """
        policy: tuple[str, ...] = ("clear_policy", f"limit-{queue}")
        if length is not None:
            definition = json.dumps({"max-length": length})
            policy = ("set_policy", f"limit-{queue}", f"^{queue}$", definition)
        self._pipeline.compose("exec", "--no-TTY", "rabbitmq", "rabbitmqctl", *policy)

    def unbind(self, exchange: str, queue: str, key: str) -> None:
        """Remove a binding."""
        self.request("DELETE", f"bindings/%2F/e/{exchange}/q/{queue}/{key}")

    def bind(self, exchange: str, queue: str, key: str) -> None:
        """Make a binding."""
        self.request("POST", f"bindings/%2F/e/{exchange}/q/{queue}", {"routing_key": key})

    def connections(self) -> set[str]:
        """Return the names of the connections there are."""
        return {each["name"] for each in self.request("GET", "connections?disable_stats=true")}
