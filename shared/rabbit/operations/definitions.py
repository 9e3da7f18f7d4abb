"""What a broker has to be given where stages may declare nothing: users, rights, topology. Pure.

The form is that of RabbitMQ's definitions (rabbitmq.com/docs/definitions); rights are patterns of
the names of exchanges and queues (rabbitmq.com/docs/access-control).
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rabbit.errors import ConfigurationError
from rabbit.operations.compose import DeclaredStage
from rabbit.operations.limits import parameters, user_limits
from rabbit.topology import (
    CONTROL_EXCHANGE,
    PAUSED_EXCHANGE,
    REPLIES_EXCHANGE,
    Binding,
    Declaration,
    Edge,
    Exchange,
    Queue,
    control_of_stage,
    fixed_part,
    pause_mark,
)

#: The users that services.control and services.board log in as, and the one of Prometheus.
CONTROL_USER = "control"
BOARD_USER = "board"
PROMETHEUS_USER = "prometheus"
#: The one for a person who may do everything.
ADMINISTRATOR = "administrator"

_REPLICA = "[^.]+"
_RETRY = r"\.retry\.[0-9]+m?s"
_CONTROL, _REPLIES = map(re.escape, (CONTROL_EXCHANGE, REPLIES_EXCHANGE))
#: Other users, and what the control queues of such a stage are called, others are called too.
_OPERATORS = (CONTROL_USER, BOARD_USER, PROMETHEUS_USER)
_TAKEN = {*_OPERATORS, ADMINISTRATOR, REPLIES_EXCHANGE.removeprefix(f"{CONTROL_EXCHANGE}.")}


@dataclass(frozen=True)
class Rights:
    """The exchanges and queues that a user may declare and delete, publish to or bind, and read.

    Attributes:
        configure: patterns of names, each of which is one way to be allowed.
        write: likewise.
        read: likewise.
    """

    configure: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()

    def __add__(self, other: "Rights") -> "Rights":
        """Return what either allows."""
        kinds = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Rights(*(tuple(dict.fromkeys(one + two)) for one, two in kinds))

    def patterns(self) -> dict[str, str]:
        """Return one pattern for each kind of right; what fits none of its parts is refused."""
        return {kind: f"^({'|'.join(parts)})$" for kind, parts in asdict(self).items()}


def stage_rights(stage: DeclaredStage) -> Rights:
    """Return the least that a stage needs with TOPOLOGY=given.

    It cannot publish a command, nor read or write another's edge, nor delete anything but what
    belongs to one replica of its own.
    """
    name = re.escape(stage.name)
    heard, lock = rf"{_CONTROL}\.{name}\.{_REPLICA}", rf"{_CONTROL}/{name}/{_REPLICA}"
    rights = Rights((heard, lock), (_REPLIES, heard), (_CONTROL, heard, _mark(stage.name)))
    if stage.output:
        rights += Rights(write=(re.escape(stage.output.name),))
    edge = stage.input()
    if edge and edge.private:
        own = rf"{_private(stage.name, edge)}(\.back|{_RETRY})?"
        rights += Rights((own,), (own, re.escape(edge.dead)), (own, re.escape(edge.name)))
    elif edge and edge.is_ordered:
        rights += Rights(write=(re.escape(edge.dead),), read=(_partitions(edge),))
    elif edge:
        queue = re.escape(edge.queue)
        rights += Rights(write=(re.escape(edge.dead), queue + _RETRY), read=(queue,))
    return rights


def _private(stage: str, edge: Edge) -> str:
    """Return a pattern of the queues that the replicas of a stage consume on a broadcast edge."""
    return rf"{re.escape(edge.name)}\.{re.escape(stage)}\.(?!dead$){_REPLICA}"


def _mark(stage: str) -> str:
    return re.escape(pause_mark(stage))


def control_rights(stages: Collection[DeclaredStage]) -> Rights:
    """Return what control needs: commands, reports, the queues of replicas, dead letters, replays.

    It can empty and delete the control queue of a replica (`forget`), read what is queued, and
    write dead letters (`import`).
    """
    own = rf"{_CONTROL}\.[^.]+\.[^.]+"
    both = (_CONTROL, _REPLIES, own)
    marks = tuple(dict.fromkeys(_mark(stage.name) for stage in stages))
    rights = Rights(both, (_CONTROL, own, re.escape(PAUSED_EXCHANGE)), (*both, *marks))
    for stage in stages:
        edge = stage.input()
        if not edge:
            continue
        dead = re.escape(edge.dead)
        if edge.private:
            queues = rf"{_private(stage.name, edge)}({_RETRY})?"
            rights += Rights(write=(dead,), read=(dead, queues))
        elif edge.is_ordered:
            rights += Rights(write=(dead, re.escape(edge.name)), read=(dead, _partitions(edge)))
        else:
            queue, back = re.escape(edge.queue), re.escape(edge.back)
            rights += Rights((back,), (dead, back), (rf"{queue}(\.dead|{_RETRY})?",))
    return rights


def _partitions(edge: Edge) -> str:
    """Return a pattern of the queues that who reads an ordered edge consumes."""
    return rf"{re.escape(edge.name)}\.([0-9]+|partitions)"


def _shared(stage: DeclaredStage) -> Iterator[Declaration]:
    """Yield what a stage needs that does not belong to one replica."""
    yield from control_of_stage(stage.name)
    if stage.output:
        yield from stage.output.for_publishing()
    edge = stage.input()
    if edge:
        yield from fixed_part(edge) if edge.private else edge.for_consuming()


def definitions(stages: list[DeclaredStage]) -> dict[str, Any]:
    """Return RabbitMQ's definitions for stages that may declare nothing.

    A user for each stage, for control, for the board and for Prometheus, who may only look; none of
    them has a password yet, so nobody can log in. What stages may take of the broker is limited.

    Args:
        stages: those of the Compose file.

    Raises:
        ConfigurationError: a stage has a name that control needs.
    """
    made: dict[str, Any] = {"users": [], "vhosts": [], "permissions": [], "parameters": []}
    made |= {"exchanges": [], "queues": [], "bindings": []}
    homes: dict[str, list[DeclaredStage]] = {}
    for stage in stages:
        if stage.name in _TAKEN:
            raise ConfigurationError(f"a stage with a user of its own cannot be named {stage.name}")
        homes.setdefault(stage.settings.endpoints[0].vhost, []).append(stage)
    for name in dict.fromkeys(stage.name for stage in stages):
        limits = user_limits(stage for stage in stages if stage.name == name)
        made["users"].append({**_user(name, []), "limits": limits})
    made["users"] += [_user(name, ["monitoring"]) for name in _OPERATORS]
    for vhost, residents in homes.items():
        made["vhosts"].append({"name": vhost})
        users: dict[str, Rights] = {}
        for stage in residents:  # two services may run one stage
            users[stage.name] = users.get(stage.name, Rights()) + stage_rights(stage)
        users[CONTROL_USER] = users[BOARD_USER] = control_rights(residents)
        for name, rights in users.items():
            made["permissions"].append({"user": name, "vhost": vhost, **rights.patterns()})
        items = [item for stage in residents for item in _shared(stage)]
        for position, item in enumerate(items):
            if item not in items[:position]:
                kind, entry = _entry(item)
                made[kind].append({**entry, "vhost": vhost})
        shared = sum(each["vhost"] == vhost for each in made["queues"])
        made["parameters"] += parameters(residents, vhost, shared)
    return made


def with_logins(
    made: Mapping[str, Any], passwords: Mapping[str, str], former: Iterable[str]
) -> dict[str, Any]:
    """Return these definitions with passwords, and with an administrator.

    Args:
        made: by `definitions`.
        passwords: of each user, the administrator included.
        former: users that a broker may have still, and that may not log in any more.
    """
    gone = [_user(name, []) for name in former if name not in passwords]
    users = [*made["users"], _user(ADMINISTRATOR, ["administrator"])]
    known = [{**user, "password_hash": hashed(passwords[user["name"]])} for user in users]
    given = {ADMINISTRATOR: ".*"} | {user["name"]: "^$" for user in gone}
    more = [
        {"user": user, "vhost": vhost["name"], "configure": all_, "write": all_, "read": all_}
        for vhost in made["vhosts"]
        for user, all_ in given.items()
    ]
    return {**made, "users": known + gone, "permissions": [*made["permissions"], *more]}


def hashed(password: str) -> str:
    """Return what a broker keeps of a password (rabbitmq.com/docs/passwords): SHA-256, with salt.

    It holds as far as a password cannot be guessed, as no random one of 256 bits can.
    """
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _user(name: str, tags: list[str]) -> dict[str, Any]:
    """Return a user who cannot log in with any password (an empty hash)."""
    algorithm = "rabbit_password_hashing_sha256"
    return {"name": name, "password_hash": "", "hashing_algorithm": algorithm, "tags": tags}


def _entry(item: Declaration) -> tuple[str, dict[str, Any]]:
    lasting = {"durable": True, "auto_delete": False}
    match item:
        case Exchange(name, type_):
            made = {"name": name, "type": type_, **lasting, "internal": False, "arguments": {}}
            return "exchanges", made
        case Queue(name, arguments):
            return "queues", {"name": name, **lasting, "arguments": dict(arguments)}
        case Binding(exchange, queue, key):
            to = {"destination": queue, "destination_type": "queue", "routing_key": key}
            return "bindings", {"source": exchange, **to, "arguments": {}}
