"""What a stage opens: before its first message, and closed after its last ack, however it ends."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rabbit import Consumer
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.background import Running
from tests.process import Process
from tests.support.postgres import Postgres
from tests.variations import variations
from tests.waiting import wait_until

#: Says when it opens, works and closes, and what there is to settle by then.
STAGE = """
import os, sys, time
from contextlib import contextmanager
from rabbit import Worker
def say(*words):
    print(*words, flush=True)
class Store(Worker):
    @contextmanager
    def resources(self):
        {entry}
        say("opens")
        self.database = []
        try:
            yield
        finally:
            say("closes", self.database)
            {leave}
    def work(self, message):
        self.database.append(message)
        say(message)
        if message == "hang":
            time.sleep(3600)
        self.write(message)
Store.main()
"""


def store(
    start: Start,
    edges: dict[str, Any],
    entry: str = "",
    leave: str = "",
    **given: Any,
) -> Process:
    """Start the stage; with other words at its beginning or its end."""
    program = STAGE.format(entry=entry or "pass", leave=leave or "pass")
    return start("-c", program, **{"ready": not entry, **edges, **given})


def test_resources_are_open_from_before_the_first_message_to_after_the_last_ack(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """A halt closes them when all is settled: exit code 0."""
    broker.put(unique("in"), ["a", "b"])
    stage = store(start, edges, leave="assert not self.log.info('closing')")
    broker.take(unique("out"), 2)

    assert stage.halt() == 0, stage.log
    assert stage.lines == ["opens", "a", "b", "closes ['a', 'b']"]
    assert stage.log.index(" halted ") < stage.log.index("closing")
    assert broker.depth(unique("in")) == 0


WAYS_OUT: dict[str, tuple[str, dict[str, Any], int]] = {
    "the poison pill": ("PILL", {"POISON_PILL": "PILL"}, 0),
    "DRAIN_TIMEOUT": ("hang", {"DRAIN_TIMEOUT": 1}, 1),
    "HANDLER_TIMEOUT": ("hang", {"HANDLER_TIMEOUT": 0.2, "DRAIN_TIMEOUT": 1}, 1),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_every_way_out_closes_them(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any], way: str
) -> None:
    """Once; the exit code is what it is without them."""
    text, given, code = WAYS_OUT[way]
    broker.put(unique("in"), [text])
    stage = store(start, edges, ready=False, **given)
    if way == "DRAIN_TIMEOUT":
        stage.wait_printed("hang")
        stage.terminate()

    assert stage.wait() == code, stage.log
    assert [line.split()[0] for line in stage.lines if line != text] == ["opens", "closes"]


def test_a_refusal_of_the_broker_closes_them(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Exit code 2, as without them."""
    with broker.channel() as channel:
        channel.queue_declare(unique("in"), durable=True)
    stage = store(start, edges, ready=False)

    assert stage.wait() == 2, stage.log
    assert stage.lines == ["opens", "closes []"]


def test_resources_that_cannot_be_opened_end_the_stage(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Exit code 1, nothing is consumed, and one line says what failed, and where."""
    broker.put(unique("in"), ["a"])
    stage = store(start, edges, entry="raise OSError(2, 'no database\\n there')")

    assert stage.wait() == 1
    assert stage.log == (
        "store: Store.resources() failed before the first message: FileNotFoundError: "
        "[Errno 2] no database there (<string>:10)\n"
    )
    assert stage.lines == []
    assert broker.depth(unique("in")) == 1


def test_resources_that_fail_when_they_are_closed_are_told(
    start: Start, edges: dict[str, Any]
) -> None:
    """Exit code 1, and the last line says so."""
    stage = store(start, edges, leave="raise ValueError('not flushed')")

    assert stage.halt() == 1
    assert stage.log.splitlines()[-1] == (
        "store: Store.resources() failed after the last message: ValueError: not flushed "
        "(<string>:17)"
    )
    assert "Traceback" not in stage.log


@pytest.mark.parametrize("where", variations(["entry", "leave"]))
def test_resources_that_hang_are_given_up(start: Start, edges: dict[str, Any], where: str) -> None:
    """DRAIN_TIMEOUT holds: exit code 1, and what hangs."""
    hang = {where: "say('hangs'); time.sleep(3600)"}
    stage = store(start, edges, **hang, DRAIN_TIMEOUT=0.1)
    if where == "entry":
        stage.wait_printed("hangs")
    stage.terminate()

    assert stage.wait() == 1, stage.log
    assert stage.log.count("gave up: DRAIN_TIMEOUT is over") == 1, stage.log
    assert "(resources)" in stage.log


def test_a_halt_while_they_are_opened_is_obeyed(start: Start, edges: dict[str, Any]) -> None:
    """When they are open: exit code 0, and they are closed again."""
    stage = store(start, edges, entry="say('waits'); time.sleep(0.5)")
    stage.wait_printed("waits")

    assert stage.halt() == 0, stage.log
    assert stage.lines == ["waits", "opens", "closes []"]


class Counting(Consumer):
    """Counts how often its resources are opened and closed."""

    opened = closed = 0

    @contextmanager
    def resources(self) -> Iterator[None]:
        """Count."""
        self.opened += 1
        yield
        self.closed += 1

    def work(self, message: str) -> None:
        """Do nothing."""


def test_each_start_opens_them_anew(broker: Broker, unique: Unique) -> None:
    """A `start` that returns has closed them."""
    stage = Counting(unique("replica"), broker.declare(unique("in")), **broker.settings)
    for times in (1, 2):
        with Running(stage):
            wait_until(lambda: stage.opened == times, 20, "it has begun")  # noqa: B023
        assert (stage.opened, stage.closed) == (times, times)


PER_THREAD = """
import sqlite3, threading, time
from contextlib import closing, contextmanager
from rabbit import {base}
class Store({base}):
    @contextmanager
    def resources(self):
        with closing(sqlite3.connect("{path}")) as database:
            database.execute("CREATE TABLE texts (id PRIMARY KEY, text, thread)")
        yield
        print("closed", flush=True)
    @contextmanager
    def thread_resources(self):
        {entry}
        with closing(sqlite3.connect("{path}", timeout=30)) as self.local.database:
            yield
        time.sleep(0.3)  # what they share is closed later than this
        print("left " + threading.current_thread().name + "\\n", end="", flush=True)
        {leave}
    def work(self, given):
        given = given if isinstance(given, list) else [given]
        with self.local.database as database:
            for text in given:
                database.execute(
                    "INSERT OR IGNORE INTO texts VALUES (?, ?, ?)",
                    (text, text, threading.current_thread().name),
                )
        time.sleep(0.01)
Store.main()
"""


def per_thread(path: Path, base: str = "Consumer", entry: str = "", leave: str = "") -> str:
    """Return a stage that has a database connection for each thread: sqlite insists on it."""
    return PER_THREAD.format(path=path, base=base, entry=entry or "pass", leave=leave or "pass")


@pytest.mark.parametrize("base", variations(["Consumer", "BatchConsumer"]))
def test_each_handler_thread_has_its_own(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path, base: str
) -> None:
    """Opened and closed in that thread, before what they all share is closed: exit code 0."""
    path = tmp_path / "texts.db"
    texts = [str(number) for number in range(60)]
    broker.put(unique("in"), texts)
    given: dict[str, Any] = {
        "CONCURRENCY": 3,
        "INPUT_QUEUE": unique("in"),
        "BATCH_SIZE": 5,
        "PREFETCH": 30,
    }
    stage = start("-c", per_thread(path, base), **given)

    def rows() -> int:
        with sqlite3.connect(path) as database:
            return int(database.execute("SELECT count(*) FROM texts").fetchone()[0])

    wait_until(lambda: rows() == len(texts), 20, lambda: f"all is stored\n{stage.log}")
    assert stage.halt() == 0, stage.log
    assert sorted(stage.lines[:-1]) == [f"left handler-{slot}" for slot in range(3)]
    assert stage.lines[-1] == "closed"
    assert "message failed" not in stage.log


def test_a_thread_that_cannot_open_its_own_ends_the_stage(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path
) -> None:
    """At once, with exit code 1 and one line; its messages are requeued, and not failed."""
    broker.put(unique("in"), ["a", "b"])
    program = per_thread(tmp_path / "texts.db", entry="raise OSError('too many connections')")
    stage = start("-c", program, ready=False, INPUT_QUEUE=unique("in"), CONCURRENCY=2)

    assert stage.wait() == 1
    assert stage.log.splitlines()[-1].startswith(
        "store: Store.thread_resources() failed before the first message: OSError: too many"
    )
    assert " halted " in stage.log
    assert stage.lines == ["closed"]
    assert broker.depth(unique("in")) == 2


def test_a_thread_that_cannot_close_its_own_is_told(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path
) -> None:
    """Exit code 1, and one line."""
    broker.put(unique("in"), ["a"])
    program = per_thread(tmp_path / "texts.db", leave="raise OSError('not closed')")
    stage = start("-c", program, INPUT_QUEUE=unique("in"))
    wait_until(lambda: broker.depth(unique("in")) == 0, 20, "it has the message")

    assert stage.halt() == 1
    assert stage.log.splitlines()[-1].startswith(
        "store: Store.thread_resources() failed after the last message: OSError: not closed"
    )


POSTGRES = """
import threading
from contextlib import contextmanager
import psycopg
from psycopg_pool import ConnectionPool
from rabbit import Consumer
INSERT = "INSERT INTO texts VALUES (%s, %s) ON CONFLICT DO NOTHING"
class Store(Consumer):
    @contextmanager
    def resources(self):
        named = {{"application_name": "pool"}}
        with ConnectionPool("{url}", min_size=1, max_size=3, kwargs=named) as self.pool:
            yield
    @contextmanager
    def thread_resources(self):
        name = threading.current_thread().name
        with psycopg.connect("{url}", application_name=name) as self.local.database:
            yield
    def work(self, message):
        with self.pool.connection() as database:
            (name,) = database.execute("SELECT current_setting('application_name')").fetchone()
        with self.local.database.transaction():
            self.local.database.execute(INSERT, (self.message.id, name))
Store.main()
"""


@pytest.mark.thorough
def test_a_pool_and_a_connection_for_each_thread(
    broker: Broker, unique: Unique, start: Start, postgres: Postgres
) -> None:
    """All of PostgreSQL's are gone when the stage is; what was acked is stored."""
    url = postgres.create(unique("resources"))
    postgres.rows("CREATE TABLE texts (id text PRIMARY KEY, by text)", url)
    names = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
    texts = [str(number) for number in range(100)]
    broker.put(unique("in"), texts)
    given: dict[str, Any] = {"CONCURRENCY": 3, "PREFETCH": 30, "INPUT_QUEUE": unique("in")}
    stage = start("-c", POSTGRES.format(url=url), **given)

    def connected() -> set[str]:
        return {name for (name,) in postgres.rows(names, url)} - {""}

    expected = {"pool", *(f"handler-{slot}" for slot in range(3))}
    wait_until(lambda: connected() == expected, 20, lambda: f"all are there\n{stage.log}")
    stored = "SELECT by, count(*) FROM texts GROUP BY by"
    wait_until(lambda: postgres.rows(stored, url) == [("pool", len(texts))], 20, "all is stored")
    assert stage.halt() == 0, stage.log
    wait_until(lambda: not connected(), 20, "all are gone")
    assert "message failed" not in stage.log


ASYNC = """
import asyncio
from contextlib import asynccontextmanager
from rabbit import Worker
class Fetch(Worker):
    @asynccontextmanager
    async def resources(self):
        task = asyncio.current_task()
        async with asyncio.TaskGroup():
            self.loop = asyncio.get_running_loop()
            yield
            self.loop = None
        print("closed", task is asyncio.current_task(), flush=True)
        {leave}
    async def work(self, message):
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        self.write(message)
Fetch.main()
"""


@pytest.mark.parametrize("leave", ["", "raise ValueError('not flushed')"])
def test_asynchronous_ones_are_open_on_the_event_loop_of_work(
    broker: Broker,
    unique: Unique,
    start: Start,
    edges: dict[str, Any],
    leave: str,
) -> None:
    """Entered and left by one task; their failure is told as any other."""
    broker.put(unique("in"), ["a"])
    stage = start("-c", ASYNC.format(leave=leave or "pass"), **edges)
    broker.take(unique("out"), 1)

    assert stage.halt() == bool(leave), stage.log
    assert stage.lines == ["closed True"]
    if leave:
        assert stage.log.splitlines()[-1].startswith(
            "fetch: Fetch.resources() failed after the last message: ValueError: not flushed"
        )
