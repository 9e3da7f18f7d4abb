"""What a broker is given where stages may declare nothing."""

import json
import re
from typing import Any

import pytest

from rabbit import ConfigurationError
from rabbit.operations.compose import DeclaredStage, stages
from rabbit.operations.definitions import definitions
from rabbit.topology import Edge, Queue, own_part

PIPELINE = {
    "producer": {"OUTPUT_QUEUE": "my_queue"},
    "to_upper": {"INPUT_QUEUE": "my_queue", "OUTPUT_QUEUE": "upper", "RETRY_DELAYS": "1,0.5"},
    "printer": {"INPUT_QUEUE": "upper"},
}
OPERATORS = ["control", "board", "prometheus"]


def pipeline(services: dict[str, dict[str, Any]]) -> list[DeclaredStage]:
    """Return the stages of services with these variables."""
    entries = {name: {"environment": variables} for name, variables in services.items()}
    return stages(json.dumps({"services": entries}))


def rights(made: dict[str, Any], user: str) -> tuple[str, str, str]:
    """Return what a user may configure, write and read."""
    (of,) = [each for each in made["permissions"] if each["user"] == user]
    return of["configure"], of["write"], of["read"]


def test_the_rights_of_a_pipeline() -> None:
    """Each stage: its own control queue and name, its own edges; control: what it operates."""
    made = definitions(pipeline(PIPELINE))
    own = {name: rf"control\.{name}\.[^.]+" for name in PIPELINE}
    retry = r"\.retry\.[0-9]+m?s"

    assert rights(made, "producer") == (
        rf"^({own['producer']}|control/producer/[^.]+)$",
        rf"^(control\.replies|{own['producer']}|my_queue)$",
        rf"^(control|{own['producer']}|control\.paused/producer)$",
    )
    assert rights(made, "to_upper") == (
        rf"^({own['to_upper']}|control/to_upper/[^.]+)$",
        rf"^(control\.replies|{own['to_upper']}|upper|my_queue\.dead|my_queue{retry})$",
        rf"^(control|{own['to_upper']}|control\.paused/to_upper|my_queue)$",
    )
    assert rights(made, "printer") == (
        rf"^({own['printer']}|control/printer/[^.]+)$",
        rf"^(control\.replies|{own['printer']}|upper\.dead|upper{retry})$",
        rf"^(control|{own['printer']}|control\.paused/printer|upper)$",
    )
    assert rights(made, "board") == rights(made, "control")
    marks = "|".join(rf"control\.paused/{name}" for name in PIPELINE)
    back, every = r"my_queue\.back|upper\.back", r"control\.[^.]+\.[^.]+"
    kept = r"my_queue\.dead|my_queue\.back|upper\.dead|upper\.back"
    assert rights(made, "control") == (
        rf"^(control|control\.replies|{every}|{back})$",
        rf"^(control|{every}|control\.paused|{kept})$",
        rf"^(control|control\.replies|{every}|{marks}|my_queue(\.dead|{retry})?|upper(\.dead|{retry})?)$",
    )


def test_the_topology_is_what_stages_would_declare() -> None:
    """Every queue of an edge, once, with its arguments; none that belongs to one replica."""
    made = definitions(pipeline(PIPELINE))

    edge = Edge("my_queue", delays=(1.0, 0.5))
    mine = [each for each in edge.for_consuming() if isinstance(each, Queue)]
    there = {each["name"]: each["arguments"] for each in made["queues"]}
    assert len(there) == len(made["queues"])
    assert {each.name: dict(each.arguments) for each in mine}.items() <= there.items()
    assert {each["name"] for each in made["exchanges"]} >= {"control", "control.replies", "upper"}
    tags = [*[[]] * len(PIPELINE), *[["monitoring"]] * len(OPERATORS)]
    assert [each["tags"] for each in made["users"]] == tags
    assert {each["password_hash"] for each in made["users"]} == {""}


def test_a_broadcast_edge_is_its_readers_to_declare() -> None:
    """A replica has a queue of its own there, but not the dead letters, which stay."""
    services = {"a": {"INPUT_QUEUE": "news", "INPUT_KIND": "broadcast"}}
    made = definitions(pipeline(services))
    (edge,) = [each.input("r1") for each in pipeline(services)]
    assert edge
    configure, _, read = rights(made, "a")

    declared = [each.name for each in own_part(edge.for_consuming()) if hasattr(each, "name")]
    assert "news.a.r1.retry.5s" in declared
    assert all(re.search(configure, name) for name in declared)
    assert not re.search(configure, "news.a.dead")
    assert not re.search(configure, "news")
    assert not re.search(read, "news.b.r1")
    assert {each["name"] for each in made["queues"]} == {"news.a.dead", "control.paused/a"}


def test_control_looks_at_all_queues_of_a_broadcast_edge() -> None:
    """It counts what a replica has still to do, and may declare, delete or fill nothing of it."""
    services = {"a": {"INPUT_QUEUE": "news", "INPUT_KIND": "broadcast"}}
    configure, write, read = rights(definitions(pipeline(services)), "control")

    for queue in ("news.a.r1", "news.a.r1.retry.5s"):
        assert re.search(read, queue)
        assert not re.search(f"{configure}|{write}", queue)
    assert not re.search(f"{configure}|{write}|{read}", "news.b.r1")
    assert re.search(write, "news.a.dead")


def test_of_a_work_edge_nothing_is_a_replica_s_own() -> None:
    """So a stage declares nothing of it where the topology is given."""
    assert list(own_part(Edge("q", delays=(1.0,)).for_consuming())) == []


def test_two_services_of_one_stage_are_one_user() -> None:
    """With the rights of both."""
    both = {"one": {"STAGE": "s", "INPUT_QUEUE": "x"}, "two": {"STAGE": "s", "INPUT_QUEUE": "y"}}
    made = definitions(pipeline(both))

    assert [each["name"] for each in made["users"]] == ["s", *OPERATORS]
    assert rights(made, "s")[2] == r"^(control|control\.s\.[^.]+|control\.paused/s|x|y)$"


@pytest.mark.parametrize("name", ["control", "board", "prometheus", "replies"])
def test_a_stage_does_not_get_the_rights_of_control_by_its_name(name: str) -> None:
    """It would be the same user, or have control's own queues."""
    with pytest.raises(ConfigurationError, match=f"cannot be named {name}"):
        definitions(pipeline({name: {"INPUT_QUEUE": "x"}}))
