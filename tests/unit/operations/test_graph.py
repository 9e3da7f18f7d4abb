"""The pipeline as Mermaid."""

import json
from typing import Any

from rabbit.operations.compose import DeclaredStage, stages
from rabbit.operations.graph import graph
from rabbit.operations.management import Depth


def pipeline(**services: dict[str, Any]) -> list[DeclaredStage]:
    """Return the stages of services with these variables."""
    entries = {name: {"environment": variables} for name, variables in services.items()}
    return stages(json.dumps({"services": entries}))


def test_work_queues_with_what_is_in_them() -> None:
    """Each queue once; a stage says how many consumers it has; what nobody reads is drawn, too."""
    declared = pipeline(
        source={"OUTPUT_QUEUE": "one"},
        relay={"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two"},
    )
    depths = {"one": Depth(ready=3, in_flight=1, retrying=0, dead_letters=2)}

    assert graph(declared, depths, {"one": 2}).splitlines() == [
        "flowchart LR",
        '    stage1["source<br>source"]',
        '    stage2["relay<br>2 consumers"]',
        '    queue3[("one<br>3 ready, 1 in flight, 2 dead")]',
        "    queue3 --> stage2",
        "    stage1 --> queue3",
        '    queue4[("two<br>is not there")]',
        "    stage2 --> queue4",
    ]


def test_an_exchange_with_several_queues() -> None:
    """With the keys; the queues of a broadcast edge's replicas are one box."""
    declared = pipeline(
        source={"OUTPUT_QUEUE": "news", "OUTPUT_KIND": "topic"},
        some={"INPUT_QUEUE": "news", "INPUT_KIND": "topic", "INPUT_KEYS": "a.*,#"},
        every={"INPUT_QUEUE": "shout", "INPUT_KIND": "broadcast"},
    )
    depths = {"shout.every.r1": Depth(1), "shout.every.r2": Depth(2)}

    drawn = graph(declared, depths, {"shout.every.r1": 1, "shout.every.r2": 1}).splitlines()

    assert '    queue4[("news.some<br>is not there")]' in drawn
    assert '    queue5[("shout.every.*<br>3 ready")]' in drawn
    assert '    stage3["every<br>2 consumers"]' in drawn
    assert '    exchange6(["news<br>topic"])' in drawn
    assert '    exchange6 -->|"a.*, #35;"| queue4' in drawn
    assert "    stage1 --> exchange6" in drawn


def test_a_name_draws_nothing_of_its_own() -> None:
    """Whatever is in it, and although Mermaid has words of its own."""
    drawn = graph(pipeline(end={"INPUT_QUEUE": 'a"] --> <b>'}), {}, {})

    assert '"a#34;#93; --#62; #60;b#62;<br>' in drawn
    assert 'stage1["end<br>nobody consumes"]' in drawn
