"""What happens on the control exchange: what is forged, malformed, or of another version."""

import json
from typing import Any

from rabbit import Settings
from rabbit.amqp import frames
from rabbit.control.client import ControlClient
from rabbit.control.messages import Command, Report
from rabbit.logs import logger
from rabbit.topology import CONTROL_EXCHANGE, REPLIES_EXCHANGE
from tests.broker import PASSWORD, USERNAME, Broker
from tests.faults.replica import GRACE_SECONDS, Replica, stage_image
from tests.faults.stream import Stream
from tests.faults.test_processes import is_working
from tests.support import images
from tests.support.containers import Image
from tests.support.wire import Wire
from tests.waiting import wait_until

_SECONDS = 30.0

_NOT_UNDERSTOOD: list[str | bytes] = [
    b"",
    b"\xff\xfe",
    "no JSON",
    "[]",
    "{}",
    "[" * 100_000,
    '{"command": "explode"}',
    '{"version": 2, "command": "halt"}',
    '{"command": "halt", "target": 5}',
    '{"command": "halt", "time": "yesterday"}',
    "x" * 1_000_000,
]
_FOR_NOBODY = ['{"command": "halt", "target": "nobody"}', '{"command": "halt", "target": ""}']

#: A header that RabbitMQ takes and pika cannot read: a time stamp far beyond the last year.
_POISON_PROPERTIES = (1 << 13).to_bytes(2, "big") + b"\x00\x00\x00\x0b\x01aT" + 8 * b"\x7f"


def _control(stream: Stream, *arguments: str) -> Replica:
    """Run services.control in its container."""
    image = Image(images.stage("control"), arguments)
    return Replica.run(stream.containers, image, stream.environment, restart_policy={})


def test_not_understood(stream: Stream, broker: Broker) -> None:
    """What is no command is ignored and counted in the log, and so is a halt for somebody else."""
    stream.start()

    with stream.fault("forged and malformed commands"):
        with broker.channel() as channel:
            for text in (*_NOT_UNDERSTOOD, *_FOR_NOBODY):
                broker.send(channel, CONTROL_EXCHANGE, "", text, reply_to="nobody")
            broker.send(channel, REPLIES_EXCHANGE, "nobody", "no report")
        with Wire(broker.host, broker.port, USERNAME, PASSWORD) as wire:
            poison = b"".join(frames.content(1, _POISON_PROPERTIES, b"{}", 131_072))
            wire.publish(CONTROL_EXCHANGE, "", [poison])
        for replica in stream.replicas:
            replica.wait_said(f"ignored={len(_NOT_UNDERSTOOD) + 1}")


def test_halt_while_the_broker_is_away(stream: Stream, broker: Broker) -> None:
    """The halt fails and says so; nobody has halted. Once the broker is back, it is proved."""
    stream.start()

    with stream.fault("halt while the broker is away", source=1, worker=2, sink=1):
        broker.kill()
        attempt = _control(stream, "halt", "--timeout", "5")
        assert attempt.wait(_SECONDS) == 1
        assert attempt.said.count("\n") <= 2, attempt.said
        broker.start()
        stream.wait_flowing()
        proved = _control(stream, "halt")
        assert proved.wait(_SECONDS) == 0, proved.log()
        assert "halted 3/3" in "".join(proved.out)
        for replica in stream.replicas:
            assert replica.wait(_SECONDS) == 0
            replica.start()


def test_halt_without_its_exchange(stream: Stream, broker: Broker) -> None:
    """The exchange was deleted: who has a control queue is reached all the same, with proof."""
    stream.start()

    with stream.fault("halt, the control exchange deleted"):
        with broker.channel() as channel:
            channel.exchange_delete(CONTROL_EXCHANGE)
        proved = _control(stream, "halt")
        assert proved.wait(_SECONDS) == 0, proved.log()
        assert "halted 3/3" in "".join(proved.out)
        for replica in stream.replicas:
            assert replica.wait(_SECONDS) == 0
            replica.start()


def test_give_up_during_halt(stream: Stream) -> None:
    """A replica that cannot finish in time is named; it ends with 0 and is not started again."""
    stream.start()
    victim = stream.worker(TO_UPPER_DELAY=GRACE_SECONDS, DRAIN_TIMEOUT=2)
    victim.wait_ready()
    wait_until(lambda: is_working(stream, victim), _SECONDS, "it has got a message")

    with stream.fault("a give-up during halt", worker=1):
        attempt = _control(stream, "halt", str(victim))
        assert attempt.wait(_SECONDS) == 1, attempt.log()
        assert f"not proved halted: {victim}: gave up after DRAIN_TIMEOUT" in "".join(attempt.out)
        assert victim.wait(_SECONDS) == 0
        victim.raw.reload()
        assert victim.raw.attrs["RestartCount"] == 0
        stream.workers.remove(victim)
        victim.remove()


def test_twin(stream: Stream) -> None:
    """A second worker of the same name ends with 2 and one line, and has touched nothing."""
    stream.start()
    (worker,) = stream.workers
    queues = {"INPUT_QUEUE": stream.input, "OUTPUT_QUEUE": stream.output, "STAGE": "to_upper"}
    environment = {**stream.environment, **queues, "REPLICA": worker.id[:12]}

    with stream.fault("a twin"):
        twin = Replica.run(
            stream.containers, stage_image("to_upper"), environment, restart_policy={}
        )
        assert twin.wait(_SECONDS) == 2
        assert f"another process runs as {worker}" in twin.said
        assert "ready" not in twin.said
        twin.remove()


def test_two_versions(stream: Stream, broker: Broker) -> None:
    """A newer worker beside the shipped one: each hears the other's commands, both are heard."""
    stream.start()
    newer = stream.worker("newer")

    with stream.fault("two versions side by side"):
        stream.wait_flowing()
        known = _roll_call(broker, stream)
        assert {each.replica for each in known} == {each.id[:12] for each in stream.replicas}
        asked = _control(stream, "status", "--json")
        assert asked.wait(_SECONDS) == 0, asked.log()
        listed = json.loads("\n".join(asked.out))["replicas"]
        assert newer.id[:12] in {each["replica"] for each in listed}


def _roll_call(broker: Broker, stream: Stream) -> list[Report]:
    """Ask with a command that has fields of a later version; return what is answered."""
    settings = Settings.load(**broker.settings)
    heard: list[Report] = []

    def all_answer() -> bool:
        heard.extend(roll_call.reports())
        return len(heard) >= len(stream.replicas)

    with ControlClient(settings, logger(settings)) as roll_call, broker.channel() as channel:
        command: dict[str, Any] = json.loads(Command(command="report").model_dump_json())
        later = json.dumps({**command, "urgency": "high", "options": {"verbose": True}})
        broker.send(channel, CONTROL_EXCHANGE, "", later, reply_to=roll_call.id)
        wait_until(all_answer, _SECONDS, lambda: f"all answer: {heard}")
    return heard
