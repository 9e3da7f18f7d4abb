"""The README files are true where no broker is needed to see it: links, names, tables, examples."""

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from rabbit import Consumer, Producer, Settings, __version__
from rabbit.operations.management import ControlSettings
from rabbit.testing import SourceHarness, harness
from rabbit.topology import Edge
from services.board.settings import BoardSettings
from services.printer import PrinterSettings
from services.producer import ProducerSettings
from services.to_upper import ToUpperSettings
from tests.readme import BESIDE, FIRST, LIBRARY, NONE, OPERATING, READMES, ROOT, Readme

COMPOSE = (ROOT / "docker-compose.yml").read_text()

each_file = pytest.mark.parametrize("readme", READMES + BESIDE, ids=lambda readme: readme.path)
each_readme = pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.path)

STAGE_SETTINGS: dict[str, type[Settings]] = {
    "producer": ProducerSettings,
    "to_upper": ToUpperSettings,
    "printer": PrinterSettings,
    "control": ControlSettings,
    "board": BoardSettings,
}


def test_the_first_one_is_short() -> None:
    """Who comes new reads it to its end."""
    assert len(FIRST.text.splitlines()) <= 200


# Links and names


@each_file
def test_links_lead_somewhere(readme: Readme) -> None:
    """A file, a folder, or a heading of one of the README files."""
    anchors = {each.path: each.anchors() for each in READMES}

    assert readme.links()
    assert [
        (path, anchor)
        for path, anchor in readme.links()
        if not (ROOT / path).exists() or (anchor and anchor not in anchors[path])
    ] == []


def test_all_are_reached_from_the_first_one() -> None:
    """Where to read on is said."""
    assert {path for path, _ in FIRST.links()} >= {each.path for each in READMES[1:]}


@each_readme
def test_targets_exist(readme: Readme) -> None:
    """Each `make TARGET` in a sentence, a table or a block is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", readme.text, re.MULTILINE)) <= targets


def _defined(tree: ast.AST, outer: str = "") -> Iterator[str]:
    """Yield the names of classes, functions and fields, as they are and with their class's."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield from {node.name, f"{outer}{node.name}"}
            yield from _defined(node, f"{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield from {node.target.id.upper(), f"{outer}{node.target.id}"}


def test_how_it_works_names_what_there_is() -> None:
    """Each name in it is a file, a class, a function, a field or a setting of the library."""
    library = ROOT / "shared/rabbit"
    known: set[str] = set()
    for path in library.rglob("*.py"):
        file = path.relative_to(library)
        known |= {str(file), f"{file.parent}/", *_defined(ast.parse(path.read_text()))}

    named = set(re.findall(r"`([^`]+)`", LIBRARY.section("How it works")))

    assert len(named) > 15
    assert {name.removesuffix("()") for name in named} - known == set()


def test_each_promise_is_kept_in_the_files_that_are_named_for_it() -> None:
    """Whoever opens these finds the classes and methods: they are defined there, and not below."""
    library = ROOT / "shared/rabbit"
    rows = [row for row in _rows("How it works") if ".py`" in row]

    assert len(rows) > 10
    for row in rows:
        named = set(re.findall(r"`([^`]+)`", row.rsplit("|", 2)[1]))
        files = {name for name in named if name.endswith(".py")}
        names = {name.removesuffix("()") for name in named - files}
        defined = {
            name for file in files for name in _defined(ast.parse((library / file).read_text()))
        }
        assert names <= defined, row


def _rows(section: str) -> list[str]:
    return [line for line in LIBRARY.section(section).splitlines() if line.startswith("| ")]


def test_the_edge_that_is_drawn() -> None:
    """The diagram has the names that the library gives to exchanges and queues."""
    edge = Edge("upper", delays=(1, 5, 30))
    (drawing,) = (each for each in LIBRARY.blocks("mermaid") if "retry" in each)

    names = {edge.name, edge.dead, edge.back, edge.retry_queue(5)}
    assert set(re.findall(r'\(\["(upper[^"<]*)', drawing)) == names, "exchanges"
    assert set(re.findall(r'\[\("(upper[^"<]*)', drawing)) == names - {edge.back}, "queues"


def test_the_pipeline_that_is_drawn() -> None:
    """The diagram has queues of the Compose file, in its order; a stage may be added there."""
    (drawing,) = FIRST.blocks("mermaid")
    drawn = re.findall(r"\[\((\w+)\)\]", drawing)
    queues = dict.fromkeys(re.findall(r"_QUEUE: (\w+)", COMPOSE))

    assert drawn == [queue for queue in queues if queue in drawn]


# Examples


def test_stage_is_short() -> None:
    """A stage is at most 15 lines of Python and 8 lines of YAML."""
    stage = [text for path, text in FIRST.files().items() if path.startswith("services/")]
    (entry,) = FIRST.blocks("yaml")

    assert len(stage) == 2
    assert sum(map(_code_lines, stage)) <= 15
    assert _code_lines(entry) <= 8
    assert "`INPUT_QUEUE: exclaim`" in FIRST.text


def _code_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def test_stage_with_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example with settings of its own writes as many outputs as they say."""
    repeat = _example("Repeat")

    assert harness(repeat).send("a").outputs == ["1: a", "2: a"]
    monkeypatch.setenv("REPEAT_TIMES", "1")
    assert harness(repeat).send("a", redelivered=True).outputs == ["1: a (again)"]


def test_stage_that_rejects() -> None:
    """The example of a failure gives up what is no number, and halves what is one."""
    halve = _example("Halve")

    assert harness(halve).send("3").outputs == ["1.5"]
    assert harness(halve).send("three").settled == "dead-lettered"


def test_stage_that_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own line is bound to the message, without any more code."""
    harness(_example("Measure")).send("hello", message_id="m1")

    (line,) = capsys.readouterr().err.splitlines()
    assert "measured" in line
    assert "length=5" in line
    assert "message_id=m1" in line


def test_stage_that_handles_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that comes twice is stored once."""
    names: dict[str, Any] = {}
    exec(LIBRARY.block_with("class Store"), names)  # noqa: S102 - our own README
    monkeypatch.chdir(tmp_path)
    store = harness(names["Store"])
    for text, message_id in (("a", "1"), ("b", "2"), ("a", "1")):
        assert store.send(text, message_id=message_id).settled == "acked"

    with closing(sqlite3.connect("texts.db")) as database:
        rows = database.execute("SELECT id, text FROM texts ORDER BY id").fetchall()
    assert rows == [("1", "a"), ("2", "b")]


def test_source_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file once, until it is halted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "incoming").mkdir()
    for name in ("b", "a"):
        (tmp_path / "incoming" / f"{name}.txt").write_text(name)
    names: dict[str, Any] = {}
    exec(LIBRARY.block_with("class Watch("), names)  # noqa: S102 - our own README

    watch: SourceHarness[Producer] = harness(names["Watch"])
    written = watch.run(stop_after=2)

    assert (written.outputs, written.is_halted) == (["a", "b"], True)
    assert [each.headers for each in written.messages] == [{"file": "a.txt"}, {"file": "b.txt"}]


def test_stage_that_opens_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is open while a message is handled."""
    monkeypatch.chdir(tmp_path)
    with harness(_example("Keep")) as keep:
        assert keep.send("a", message_id="1").settled == "acked"

    with closing(sqlite3.connect("kept.db")) as database:
        assert database.execute("SELECT id, text FROM kept").fetchall() == [("1", "a")]


def test_stage_that_chooses_its_delay() -> None:
    """It asks for a minute, and gives up on what is unknown."""
    convert = harness(_example("Convert"), retry_delays=(1, 90))

    assert convert.send("EUR").outputs == ["1"]
    assert convert.send("USD").delay == 90
    assert convert.send("XXX").settled == "dead-lettered"


def test_tests_of_stages() -> None:
    """The example of tests without a broker passes."""
    names: dict[str, Any] = {}
    exec(LIBRARY.block_with("def test_a_tick_is_heard"), names)  # noqa: S102 - our own README

    tests = [each for name, each in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def _example(name: str) -> type[Consumer]:
    """Return a stage that stands as an example in the library's README."""
    names: dict[str, type[Consumer]] = {}
    exec(dedent(LIBRARY.block_with(f"class {name}(")), names)  # noqa: S102 - our own README
    return names[name]


# Tables


def _shown(name: str, field: FieldInfo) -> str:
    """Return a setting's default as the README writes it."""
    default = field.default
    if name == "replica":
        return "host name"
    if name == "rabbitmq_port":
        return "5672, with TLS 5671"
    if default is None or default == ():
        return NONE
    if isinstance(default, tuple):
        return ",".join(f"{each:g}" for each in default)
    if hasattr(default, "get_secret_value"):
        return str(default.get_secret_value())
    return f"{default:g}" if isinstance(default, (bool, float)) else str(default)


def _passed_on() -> set[str]:
    """Return the variables that Compose takes from the shell."""
    return set(re.findall(r"\$\{(\w+)", COMPOSE)) | set(
        re.findall(r"^ +([A-Z_]+):$", COMPOSE, re.MULTILINE)
    )


def _mark(name: str) -> str:
    return "✓" if name.upper() in _passed_on() else ""


def test_table_of_settings() -> None:
    """The table has exactly the settings of every stage, with their defaults."""
    told = [row[:4] for row in LIBRARY.rows("| variable | shell | default | allowed | meaning |")]

    assert told == [
        [name.upper(), _mark(name), _shown(name, field), str(field.description)]
        for name, field in Settings.model_fields.items()
    ]


def test_table_of_stage_settings() -> None:
    """The table has exactly the settings that the stages add or change."""
    declare = {
        path.parent.name
        for path in (ROOT / "services").glob("*/*.py")
        if "Settings):\n" in path.read_text()
    }
    declare |= {"control"}  # whose settings are those of the library's operations
    assert set(STAGE_SETTINGS) == declare

    table = OPERATING.rows("| stage | variable | shell | default | allowed | meaning |")

    assert sorted(row[:5] for row in table) == sorted(
        [stage, name.upper(), _mark(name), _shown(name, field), str(field.description)]
        for stage, settings in STAGE_SETTINGS.items()
        for name, field in settings.model_fields.items()
        if name in settings.__annotations__
    )


def test_table_of_compose_variables() -> None:
    """What Compose takes from the shell is in one of the tables."""
    rows = OPERATING.rows("| variable | default | meaning |")
    told = {name for row in rows for name in row[0].split(", ")}
    settings = {name.upper() for each in STAGE_SETTINGS.values() for name in each.model_fields}

    elsewhere = {"UP_TIMEOUT", "RABBITMQ_ERLANG_COOKIE"}
    assert told - elsewhere == _passed_on() - settings
    cluster = (ROOT / "deploy/cluster/docker-compose.cluster.yml").read_text()
    assert "${RABBITMQ_ERLANG_COOKIE:?" in cluster
    assert "UP_TIMEOUT:-180" in (ROOT / "deploy/bin/up").read_text()
    for name, port in (("AMQP_PORT", 5672), ("MANAGEMENT_PORT", 15672)):
        assert f"${{{name}:-{port}}}" in COMPOSE


def test_the_newest_version_is_told() -> None:
    """What the library calls itself is the first version in the changelog."""
    changes = (ROOT / "CHANGELOG.md").read_text()

    assert (
        re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)[0] == __version__
    )
