"""What only RabbitMQ's management API tells: which queues there are, and all that is in them."""

import base64
import json
import re
import ssl
from collections import Counter, deque
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from pydantic import Field
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from rabbit.errors import BrokerUnavailableError, ConfigurationError, RabbitError
from rabbit.settings import Settings
from rabbit.topology import (
    CENSUS_SUFFIX,
    CONTROL_EXCHANGE,
    PAUSED_EXCHANGE,
    Edge,
    is_control_queue,
    marked_stage,
    partition_queues,
    pause_mark,
)

#: How long one request may take, at most and at least: one that is frozen takes the connection.
REQUEST_SECONDS = 5.0
QUICK_REQUEST_SECONDS = 1.0

#: How long a change may take: of a queue, its members may have to agree.
CHANGE_SECONDS = 30.0

_DEAD = Edge("").dead  # what follows the name of a queue
_URL = r"https?://[^/,\s]+/?"


class ControlSettings(Settings):
    """What the environment may say beside the settings that every stage has."""

    rabbitmq_management_url: str | None = Field(
        None,
        pattern=rf"^{_URL}(\s*,\s*{_URL})*$",
        description="http:// or https://host:port of a management API, several with commas",
    )
    halt_timeout: float = Field(60.0, gt=0, allow_inf_nan=False, description="seconds, above 0")


@dataclass(frozen=True)
class Api:
    """The API of one broker.

    Attributes:
        url: where it is.
        login: `user:password`.
        context: how to check its certificate, and which one to show it.
    """

    url: str
    login: str = field(repr=False)
    context: ssl.SSLContext = field(repr=False)

    def ask(self, path: str, body: bytes | None, seconds: float, method: str | None = None) -> Any:  # noqa: ANN401 - JSON
        """Return what it answers; None when it knows no such thing, or has nothing to say.

        Args:
            path: below /api.
            body: what to send; None: nothing.
            seconds: how long it may be silent.
            method: of HTTP; None: POST if there is a body, else GET.

        Raises:
            BrokerUnavailableError: it does not answer; another broker's may.
            ConfigurationError: it refuses the login, as that of any other broker would.
        """
        url = f"{self.url}/api/{path}"
        request = Request(url, data=body, headers=self._headers, method=method)  # noqa: S310 - http(s)
        try:
            with urlopen(request, timeout=seconds, context=self.context) as response:  # noqa: S310
                return json.loads(response.read() or b"null")
        except HTTPError as error:
            return self._refused(error)
        except URLError as error:
            if getattr(error.reason, "reason", None) == "BAD_SIGNATURE":
                why = "do its certificate and its key belong together?"
                raise BrokerUnavailableError(f"{self.url} ({error.reason}: {why})") from error
            raise BrokerUnavailableError(f"{self.url} ({error.reason})") from error
        except (OSError, HTTPException) as error:  # of a broker that goes away while it answers
            raise BrokerUnavailableError(f"{self.url} ({error})") from error
        except ValueError as error:
            raise BrokerUnavailableError(f"{self.url} (its answer is no JSON)") from error

    def change(self, method: str, path: str, body: bytes | None, seconds: float) -> bool:
        """Have it change something, once; return whether there was such a thing.

        Args:
            method: of HTTP: PUT, POST or DELETE.
            path: below /api.
            body: what to send; None: nothing.
            seconds: how long it may be silent.

        Raises:
            BrokerUnavailableError: it does not answer; whether it has changed that is not known.
            RabbitError: it refuses, and why.
        """
        request = Request(  # noqa: S310 - http(s)
            f"{self.url}/api/{path}", data=body, headers=self._headers, method=method
        )
        try:
            with urlopen(request, timeout=seconds, context=self.context):  # noqa: S310
                return True
        except HTTPError as error:
            if error.code == 404:  # noqa: PLR2004 - HTTP's "not found"
                return False
            raise RabbitError(_why_refused(error)) from None
        except (OSError, HTTPException) as error:
            msg = f"{self.url} does not say whether it has done what was asked: {error}"
            raise BrokerUnavailableError(msg) from error

    @property
    def _headers(self) -> dict[str, str]:
        login = base64.b64encode(self.login.encode()).decode()
        return {"Authorization": f"Basic {login}", "Content-Type": "application/json"}

    def _refused(self, error: HTTPError) -> None:
        if error.code == 404:  # noqa: PLR2004 - HTTP's "not found"
            return
        if error.code in {401, 403}:
            msg = (
                f"the management API at {self.url} refuses this user: check RABBITMQ_USERNAME "
                "and RABBITMQ_PASSWORD; the user needs the tag 'monitoring'"
            )
            raise ConfigurationError(msg)
        raise BrokerUnavailableError(f"{self.url} ({error.code} {error.reason})")


def _why_refused(error: HTTPError) -> str:
    """Return the broker's own words, where it has some."""
    with suppress(ValueError, LookupError, TypeError, OSError, HTTPException):
        return str(json.load(error)["reason"])
    return f"{error.code} {error.reason}"


def apis(settings: ControlSettings) -> list[Api]:
    """Return those that RABBITMQ_MANAGEMENT_URL names, or else that of each broker."""
    endpoints = settings.endpoints
    context = settings.ssl_context()  # for https, wherever that is
    logins = [f"{each.username}:{each.password}" for each in endpoints]
    if settings.rabbitmq_management_url:
        urls = settings.rabbitmq_management_url.split(",")
        return [Api(url.strip().rstrip("/"), logins[0], context) for url in urls]
    bases = [("https", 15671) if each.tls else ("http", 15672) for each in endpoints]
    urls = [
        f"{scheme}://{each.shown_host}:{port}"
        for each, (scheme, port) in zip(endpoints, bases, strict=True)
    ]
    return list(dict.fromkeys(Api(*given, context) for given in zip(urls, logins, strict=True)))


class Management:
    """RabbitMQ's HTTP API (rabbitmq.com/docs/http-api-reference), of whichever broker answers."""

    def __init__(self, settings: ControlSettings, *, patience_seconds: float | None = None) -> None:
        """Ask nothing yet.

        Args:
            settings: which brokers there are.
            patience_seconds: how long to go on trying when none of them answers; default:
                HALT_TIMEOUT.
        """
        patience = settings.halt_timeout if patience_seconds is None else patience_seconds
        self._settings = settings
        self._apis = deque(apis(settings))  # the one that answered last comes first
        share = max(QUICK_REQUEST_SECONDS, patience / len(self._apis))
        self._request_seconds = min(REQUEST_SECONDS, share)
        self._vhost = quote(settings.endpoints[0].vhost, safe="")
        self._patiently = Retrying(
            retry=retry_if_exception_type(BrokerUnavailableError),
            stop=stop_after_delay(patience),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            reraise=True,
        )

    def control_bindings(self) -> dict[str, set[str]]:
        """Return the routing keys of each replica's queue bound to the control exchange."""
        path = f"exchanges/{self._vhost}/{CONTROL_EXCHANGE}/bindings/source"
        bound: dict[str, set[str]] = {}
        for binding in self._ask(path) or []:
            queue = binding["destination"]
            if queue.startswith(f"{CONTROL_EXCHANGE}."):  # or somebody else listens
                bound.setdefault(queue, set()).add(binding["routing_key"])
        return bound

    def control_queues(self) -> set[str]:
        """Return the queues in which commands wait for replicas, those too that are not bound."""
        queues = ((each["name"], each["arguments"]) for each in self.queues())
        return {name for name, arguments in queues if is_control_queue(name, arguments)}

    def broadcast(self, command: str, reply_to: str) -> None:
        """Publish a command: an alarm blocks connections that publish, but not this API."""
        self._publish(CONTROL_EXCHANGE, "", command, {"reply_to": reply_to})

    def mark_paused(self, stage: str, text: str) -> bool:
        """Mark a stage as paused, and return when the broker has the mark.

        Args:
            stage: its name.
            text: what the mark says, for people.

        Returns:
            whether there is a place for that mark: a stage that has never been there has none.
        """
        return self._publish(PAUSED_EXCHANGE, stage, text, {"delivery_mode": 2})

    def unmark_paused(self, stage: str) -> None:
        """Take the mark of a stage away; there may be none."""
        queue = quote(pause_mark(stage), safe="")
        self._ask(f"queues/{self._vhost}/{queue}/contents", method="DELETE")

    def _publish(self, exchange: str, key: str, text: str, properties: dict[str, Any]) -> bool:
        """Publish a message; return whether a queue has it."""
        body = {"routing_key": key, "payload": text, "payload_encoding": "string"}
        path = f"exchanges/{self._vhost}/{exchange}/publish"
        answer = self._ask(path, {**body, "properties": properties})
        return bool(answer and answer["routed"])

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

    def operator_policies(self) -> list[dict[str, Any]]:
        """Return every operator policy, with its pattern and its definition."""
        return self._list("operator-policies")

    def vhost_limits(self) -> dict[str, int]:
        """Return the limits of the virtual host, those that it has."""
        return _limits(self._list("vhost-limits"))

    def user_limits(self, user: str) -> dict[str, int]:
        """Return the limits of a user, those that it has."""
        return _limits(self._ask(f"user-limits/{quote(user, safe='')}"))

    def bindings(self) -> list[dict[str, Any]]:
        """Return every binding, those of the default exchange included."""
        return self._list("bindings")

    def consumers(self) -> Counter[str]:
        """Count the consumers of each queue."""
        return Counter(each["queue"]["name"] for each in self._list("consumers"))

    def active_consumers(self) -> list[tuple[str, str]]:
        """Return the queue and the tag of each consumer that may be given messages.

        Of a queue with a single active consumer, that is this one. The figures lag behind.
        """
        listed = self._list("consumers")
        return [(each["queue"]["name"], each["consumer_tag"]) for each in listed if each["active"]]

    def partitions(self, edge: str) -> int:
        """Return how many partitions an ordered edge has; 0: there is no such edge."""
        queue = self._ask(f"queues/{self._vhost}/{quote(edge + CENSUS_SUFFIX, safe='')}")
        return int(queue["arguments"].get("x-max-length", 0)) if queue else 0

    def nodes(self) -> list[list[dict[str, Any]]]:
        """Return all nodes of the cluster, as each broker sees them that answers."""
        path = "nodes?columns=name,running,being_drained,applications"
        views = [self._ask(path)]  # whichever; it is waited for
        for api in list(self._apis)[1:]:
            with suppress(BrokerUnavailableError):
                views.append(api.ask(path, None, self._request_seconds))
        return views

    def is_whole(self) -> bool:
        """Tell whether all nodes of the cluster run."""
        return all(each.get("running") for each in self._ask("nodes?columns=name,running"))

    def change(self, method: str, path: str, body: dict[str, Any] | None = None) -> bool:
        """Change something in the virtual host; return whether there was such a thing.

        It is asked for once: what a broker that does not answer does later would do harm then.

        Args:
            method: PUT, POST or DELETE.
            path: where, with `{}` for the virtual host, such as `queues/{}/name`.
            body: what to send.

        Raises:
            BrokerUnavailableError: whether it is done is not known.
            RabbitError: it is refused, and why.
        """
        data = None if body is None else json.dumps(body).encode()
        path = path.format(self._vhost)
        return self._apis[0].change(method, path, data, CHANGE_SECONDS)

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

    def _ask(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:  # noqa: ANN401 - JSON
        """Return what an API answers; None when it knows no such thing."""
        data = None if body is None else json.dumps(body).encode()
        return self._patiently(self._ask_in_turn, path, data, method)

    def _ask_in_turn(self, path: str, data: bytes | None, method: str | None) -> Any:  # noqa: ANN401 - JSON
        tried = []
        for api in tuple(self._apis):
            try:
                return api.ask(path, data, self._request_seconds, method)
            except ConfigurationError:
                if not self._is_renewed():
                    raise
                return self._ask_in_turn(path, data, method)
            except BrokerUnavailableError as error:
                tried.append(str(error))
                self._apis.rotate(-1)
        self._is_renewed()
        raise BrokerUnavailableError(f"no management API answers: {', '.join(tried)}")

    def _is_renewed(self) -> bool:
        """Read anew what files have told: login and certificates. Tell whether the login differs.

        Raises:
            BrokerUnavailableError: a file cannot be used now.
        """
        before = list(self._apis)
        try:
            renewed = apis(self._settings.renewed())
        except ValueError as error:
            raise BrokerUnavailableError(str(error)) from error
        order = [api.url for api in before]
        renewed.sort(key=lambda api: order.index(api.url) if api.url in order else len(order))
        self._apis = deque(renewed)
        return {api.login for api in renewed} != {api.login for api in before}


def _limits(listed: list[dict[str, Any]] | None) -> dict[str, int]:
    return dict(listed[0]["value"]) if listed else {}


def pause_marks(messages: Mapping[str, tuple[int, int]]) -> dict[str, bool]:
    """Return the stages that can be marked as paused, and whether they are.

    Args:
        messages: how many are ready and how many in flight, by queue.
    """
    marks = ((marked_stage(queue), ready) for queue, (ready, _) in messages.items())
    return {stage: ready > 0 for stage, ready in marks if stage}


#: What follows the name of a queue in the names of those that belong to it.
_PART = re.compile(r"\.(dead|retry\.\d+m?s|partitions|\d+)$")


@dataclass
class Depth:
    """What a queue holds, with what belongs to it.

    Attributes:
        ready: messages that wait for a consumer.
        in_flight: messages that are with one.
        retrying: messages that wait for another attempt.
        dead_letters: messages that were given up.
    """

    ready: int = 0
    in_flight: int = 0
    retrying: int = 0
    dead_letters: int = 0


def fold(messages: Mapping[str, tuple[int, int]]) -> dict[str, Depth]:
    """Return what each queue holds, by name: retries and dead letters with the queue they are of.

    The queues of the control exchange are left out.

    Args:
        messages: how many are ready and how many in flight, by queue.
    """
    depths: dict[str, Depth] = {}
    ordered = {name.removesuffix(CENSUS_SUFFIX) for name in messages if _is_census(name, messages)}
    for name, (ready, in_flight) in sorted(messages.items()):
        part = _PART.search(name)
        whose = name[: part.start()] if part else name
        if name.startswith((f"{CONTROL_EXCHANGE}.", f"{CONTROL_EXCHANGE}/")):
            continue
        is_partition = part is not None and part[1][0] not in "dr"
        if is_partition and whose in ordered:
            depths.setdefault(whose, Depth()).ready += ready
            depths[whose].in_flight += in_flight
        elif part is None or is_partition or whose not in messages.keys() | ordered:
            depths.setdefault(name, Depth()).ready += ready
            depths[name].in_flight += in_flight
        elif part[1] == "dead":
            depths.setdefault(whose, Depth()).dead_letters += ready + in_flight
        else:
            depths.setdefault(whose, Depth()).retrying += ready + in_flight
    return depths


def _is_census(name: str, queues: Container[str]) -> bool:
    """Tell whether it is the queue of an ordered edge that says how many partitions there are."""
    edge = name.removesuffix(CENSUS_SUFFIX)
    return edge != name and partition_queues(edge, 1)[0] in queues
