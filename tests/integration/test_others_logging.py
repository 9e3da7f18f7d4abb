"""A program that uses pika itself, or logging, is not touched; what pika says of us is not said."""

from tests.broker import Broker
from tests.conftest import Start, Unique

PROGRAM = """
import logging, os, sys
logging.basicConfig(stream=sys.stdout, level={level}, format="%(threadName)s %(name)s %(message)s")
levels = {{name: logging.getLogger(name).level for name in ("pika", "pika.adapters", None)}}

import pika
from rabbit import MessageQueue

NAMES = "RABBITMQ_HOST", "RABBITMQ_USERNAME", "RABBITMQ_PASSWORD"

def connect(port):
    host, user, password = map(os.environ.get, NAMES)
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(pika.ConnectionParameters(host, port, credentials=credentials))

port = int(os.environ["RABBITMQ_PORT"])
with MessageQueue({name!r}) as queue:
    queue.publish("a", timeout=20)
    print("--- theirs")
    connect(port).close()
    try:
        connect(1)
    except pika.exceptions.AMQPConnectionError:
        pass
    print("--- ours")
    try:
        MessageQueue({name!r}, rabbitmq_port=1).publish("b", timeout=0.5)
    except Exception as error:
        print(type(error).__name__)
assert levels == {{name: logging.getLogger(name).level for name in levels}}
print("--- end")
"""


def said(broker: Broker, unique: Unique, start: Start, level: str) -> tuple[str, str]:
    """Return what was logged while pika was used, and while only the library was."""
    assert broker
    program = PROGRAM.format(level=level, name=unique("letters"))
    process = start("-c", program, ready=False)
    assert process.wait() == 0, process.log
    before, _, rest = process.out.partition("--- theirs\n")
    theirs, _, after = rest.partition("--- ours\n")
    return theirs, before + after


def test_pikas_logging_of_others_stays(broker: Broker, unique: Unique, start: Start) -> None:
    """They see what pika says of their connections, and nothing of ours."""
    theirs, ours = said(broker, unique, start, "'INFO'")

    assert "MainThread pika.connection" in theirs or "MainThread pika.adapters" in theirs
    assert "Connection refused" in theirs or "connection_workflow" in theirs
    assert ours.splitlines() == ["BrokerUnavailableError", "--- end"]


def test_what_others_debug_is_theirs(broker: Broker, unique: Unique, start: Start) -> None:
    """Also by each of pika's debug lines."""
    theirs, ours = said(broker, unique, start, "'DEBUG'")

    assert "pika" in theirs
    assert " rabbit " not in theirs
    assert "pika" not in ours
