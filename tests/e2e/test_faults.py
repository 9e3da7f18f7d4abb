"""Nothing is lost and nothing hangs, whatever happens to the containers."""

import os
import re
import sys
from subprocess import PIPE, Popen

import pytest

from rabbit.messaging.prefetch import DEEPEST
from tests.e2e.broker import Broker
from tests.e2e.follow import Printers
from tests.support.pipeline import PATIENCE_SECONDS, ROOT, Pipeline, rabbitmq_environment
from tests.waiting import wait_until

pytestmark = pytest.mark.thorough


def _texts(count: int) -> list[str]:
    return [f"message {number}" for number in range(count)]


def test_ten_thousand_through_scaling_and_restarts(pipeline: Pipeline) -> None:
    """10,000 messages, printers scaled 1 → 3 → 1, to_upper restarted thrice: each exactly once."""
    texts = _texts(10_000)
    with Printers(pipeline) as printers, pipeline.background("make", "publish", "FILE=-") as source:
        assert source.stdin is not None
        chunk = len(texts) // 5
        for step in range(5):
            source.stdin.writelines(
                f"{text}\n" for text in texts[step * chunk : (step + 1) * chunk]
            )
            source.stdin.flush()
            if step < 3:
                pipeline.compose("restart", "--timeout", "20", "to_upper")
            scale = {0: 3, 3: 1}.get(step)
            if scale:
                pipeline.compose(
                    "up", "--detach", "--no-recreate", "--scale", f"printer={scale}", "printer"
                )
                printers.follow()
        source.stdin.close()
        assert source.wait(PATIENCE_SECONDS) == 0

        printers.wait_for(len(texts))

    assert sorted(text.upper() for text in texts) == sorted(printers.lines())


def test_sigkill_repeats_only_what_was_in_flight(pipeline: Pipeline, broker: Broker) -> None:
    """SIGKILL of to_upper in mid-stream: none missing; what comes twice has the same id."""
    pipeline.compose("stop", "printer")
    texts = _texts(10_000)
    pipeline.publish(texts)
    (worker,) = pipeline.containers("to_upper")
    wait_until(lambda: broker.messages("upper") > 500, PATIENCE_SECONDS, "no message arrives")

    pipeline.run("docker", "kill", "--signal", "KILL", worker)
    pipeline.start("to_upper")  # if `restart: on-failure` has not done so
    wait_until(
        lambda: broker.messages("my_queue") == 0 and broker.messages("upper") >= len(texts),
        PATIENCE_SECONDS,
        "to_upper does the rest",
    )

    ids = _read(pipeline, "upper")
    assert {text.upper() for text in texts} == set(ids)
    assert [text for text, known in ids.items() if len(set(known)) != 1] == []
    repeated = sum(len(known) - 1 for known in ids.values())
    assert repeated <= DEEPEST  # what was in flight at most


def test_broker_restart_under_load(pipeline: Pipeline) -> None:
    """The broker restarts while a source publishes: nothing is missing, all are ready again.

    The source may end before all of its connections are back: no halt waits for it after that.
    """
    texts = _texts(5000)
    with pipeline.background("make", "publish", "FILE=-", PUBLISH_TIMEOUT="120") as source:
        assert source.stdin is not None
        source.stdin.writelines(f"{text}\n" for text in texts[:2500])
        source.stdin.flush()
        wait_until(pipeline.all_printed, PATIENCE_SECONDS, "the first half is on its way")
        pipeline.compose("restart", "rabbitmq")
        source.stdin.writelines(f"{text}\n" for text in texts[2500:])
        source.stdin.close()
        assert source.wait(PATIENCE_SECONDS) == 0
    pipeline.start()

    wait_until(
        lambda: set(pipeline.all_printed()) == {text.upper() for text in texts},
        PATIENCE_SECONDS,
        lambda: f"{len(set(pipeline.all_printed()))} of {len(texts)} printed",
    )
    stages = [*pipeline.containers("to_upper"), *pipeline.containers("printer")]
    wait_until(
        lambda: all("broker available again" in pipeline.logged(each) for each in stages),
        PATIENCE_SECONDS,
        "both stages say that they are connected again",
    )
    assert "halted 2/2" in pipeline.make("halt").stdout


@pytest.mark.parametrize("trouble", ["full", "unbound"])
def test_output_not_taken(pipeline: Pipeline, broker: Broker, trouble: str) -> None:
    """The output queue is full, or its binding is gone: nothing is lost or acked, until it is.

    That a queue is full, RabbitMQ notices with the next message, and tells publishers late: so
    first it is filled, and the others come after that.
    """
    pipeline.compose("stop", "printer")
    texts, filling = _texts(200), 20
    try:
        if trouble == "full":
            broker.limit("upper", 10)
            pipeline.publish(texts[:filling])
            wait_until(lambda: broker.messages("upper") >= 10, PATIENCE_SECONDS, "it fills")
        else:
            broker.unbind("upper", "upper", "upper")
            pipeline.publish(texts[:filling])
        pipeline.publish(texts[filling:])
        (worker,) = pipeline.containers("to_upper")
        wait_until(
            lambda: "output refused" in pipeline.logged(worker), PATIENCE_SECONDS, "not refused"
        )
        wait_until(
            lambda: broker.messages("my_queue") + broker.messages("upper") == len(texts),
            PATIENCE_SECONDS,
            "the broker counts every message, statistics lag behind",
        )
        assert broker.messages("upper") < len(texts) // 2
    finally:
        if trouble == "full":
            broker.limit("upper", None)
        else:
            broker.bind("upper", "upper", "upper")

    pipeline.compose("start", "printer")
    pipeline.wait_printed([text.upper() for text in texts])


def test_long_handler_keeps_its_connection(pipeline: Pipeline, broker: Broker) -> None:
    """A handler that sleeps three times the heartbeat loses no connection."""
    pipeline.start(TO_UPPER_DELAY="6", RABBITMQ_HEARTBEAT="2")
    before = broker.connections()

    pipeline.make("publish", "MSG=slow")
    pipeline.wait_printed(["SLOW"])

    assert before <= broker.connections()
    (worker,) = pipeline.containers("to_upper")
    assert "broker unavailable" not in pipeline.logged(worker)


def test_halt_names_who_is_cut_off(pipeline: Pipeline) -> None:
    """Six replicas, one cut off: halt names it, exits 1; it halts by itself when it is back."""
    pipeline.start(printers=3, workers=2)
    lost = pipeline.containers("printer")[1]
    network = f"{pipeline.name}_default"
    with pipeline.background("make", "publish", "FILE=-") as source:
        wait_until(
            lambda: "producer" in pipeline.make("status").stdout,
            PATIENCE_SECONDS,
            "the producer does not come up",
        )
        pipeline.run("docker", "network", "disconnect", network, lost)
        try:
            command = [
                "docker",
                "compose",
                "run",
                "--rm",
                "--no-deps",
                "--no-TTY",
                "control",
                "halt",
            ]
            done = pipeline.run(*command, check=False, variables={"HALT_TIMEOUT": "8"})
        finally:
            pipeline.run("docker", "network", "connect", network, lost)
        assert source.wait(PATIENCE_SECONDS) != 0  # its input had not ended

    assert done.returncode == 1  # make makes 2 of it
    assert "halted 5/6" in done.stdout
    assert f"printer/{lost[:12]}" in done.stdout.split("not proved halted:")[1]
    assert pipeline.wait_exited(lost) == 0
    again = pipeline.make("halt", check=False)
    # Nobody is there; or its last word is, left for who asks, if it could not be sent: it ends as
    # soon as it has heard the command, and the connection that publishes may come back later.
    left = f"halted 1/1 printer/{lost[:12]}" in again.stdout
    assert left or "no replica is at the broker" in again.stderr
    pipeline.start(printers=3, workers=2)
    assert "halted 5/5" in pipeline.make("halt").stdout


def test_halt_names_who_gave_up(pipeline: Pipeline) -> None:
    """A work longer than DRAIN_TIMEOUT: exit code 1 and why; the printer is down and stays down."""
    pipeline.start(PRINTER_DELAY="30", DRAIN_TIMEOUT="3")
    (printer,) = pipeline.containers("printer")
    pipeline.publish(["one", "two", "three"])
    wait_until(
        lambda: re.search(r"printer .*running .* 1 +│ +0", pipeline.make("status").stdout),
        PATIENCE_SECONDS,
        "the printer works on a message",
    )

    done = pipeline.make("halt", check=False)

    assert done.returncode != 0
    assert "halted 1/2 to_upper/" in done.stdout
    assert f"not proved halted: printer/{printer[:12]}: gave up after DRAIN_TIMEOUT" in done.stdout
    assert pipeline.exit_code(printer) == 0
    form = "{{.RestartCount}} {{.State.Status}}"
    said = pipeline.run("docker", "inspect", "--format", form, printer).stdout
    assert said.split() == ["0", "exited"]


def test_a_killed_replica_does_not_block_a_halt(pipeline: Pipeline) -> None:
    """Compose knows that its container has ended: it is told, and the halt is proved without it."""
    pipeline.start(printers=2)
    killed = pipeline.containers("printer")[1]
    pipeline.run("docker", "kill", killed)

    done = pipeline.make("halt")

    assert f"forgotten: printer/{killed[:12]}: its container has ended: exited (137)" in done.stdout
    assert "halted 2/2" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "make publish FILE=-",
        # What is left where make was killed with it.
        "docker compose run --no-TTY --no-deps producer --file -",
    ],
)
def test_a_publish_that_was_killed_does_not_block_a_halt(pipeline: Pipeline, command: str) -> None:
    """Nobody starts it again, and it has a control queue: that its container has ended is known."""
    pipeline.start()
    labels = (
        f"label=com.docker.compose.{each}" for each in (f"project={pipeline.name}", "oneoff=True")
    )
    found = ("docker", "ps", "--quiet", *(f"--filter={each}" for each in labels))
    with pipeline.background(*command.split()) as source:
        wait_until(
            lambda: "producer" in pipeline.make("status").stdout,
            PATIENCE_SECONDS,
            "the producer does not come up",
        )
        (killed,) = pipeline.run(*found).stdout.split()
        pipeline.run("docker", "kill", killed)
        assert source.wait(PATIENCE_SECONDS) != 0

    done = pipeline.make("halt")

    is_told = f"forgotten: producer/{killed}: its container has ended" in done.stdout
    assert is_told == command.startswith("docker")
    assert "halted 2/2" in done.stdout
    pipeline.make("publish", "MSG=later")
    assert pipeline.run(*found, "--all").stdout == ""


def test_a_replaced_replica_does_not_block_a_halt(pipeline: Pipeline) -> None:
    """`make up` forgets those whose containers it has replaced and that could not leave."""
    (killed,) = pipeline.containers("printer")
    pipeline.run("docker", "kill", killed)

    said = pipeline.make("up", PRINTER_DELAY="0.001").stdout

    assert f"forgotten: printer/{killed[:12]}" in said
    assert "halted 2/2" in pipeline.make("halt").stdout


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RABBITMQ_PORT", "abc"),
        ("RABBITMQ_CA_FILE", "/no/such/file"),
        ("INPUT_KEYS", "a,b"),  # of a work queue
        ("TO_UPPER_DELAY", "-1"),
    ],
)
def test_wrong_setting(installed: Pipeline, variable: str, value: str) -> None:
    """A wrong setting ends the container with exit code 2 and one line that names it.

    That each setting refuses what is wrong needs no container.
    """
    arguments = ["run", "--rm", "--no-deps", "--no-TTY", "--env", f"{variable}={value}", "to_upper"]
    done = installed.run("docker", "compose", *arguments, check=False)

    said = [line for line in done.stderr.splitlines() if line.startswith("to_upper: ")]
    chatter = re.compile(r"^ ?(Container .*)?$")
    others = [line for line in done.stderr.splitlines() if not chatter.match(line)]
    assert done.returncode == 2
    assert said == others
    assert len(said) == 1
    assert variable in said[0]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("RABBITMQ_PASSWORD", "wrong", "check RABBITMQ_USERNAME and RABBITMQ_PASSWORD"),
        ("RABBITMQ_HOST", "nowhere.invalid", "check RABBITMQ_HOST"),
    ],
)
def test_no_way_to_the_broker(pipeline: Pipeline, variable: str, value: str, expected: str) -> None:
    """A wrong password or host: one clear line, retries, and SIGTERM still ends it with 0."""
    arguments = ["run", "--detach", "--no-deps", "--env", f"{variable}={value}", "to_upper"]
    container = pipeline.compose(*arguments).strip()
    try:
        wait_until(
            lambda: expected in pipeline.logged(container), PATIENCE_SECONDS, "nothing is said"
        )
        pipeline.run("docker", "stop", "--time", "10", container)
        assert pipeline.exit_code(container) == 0
        assert (
            len([line for line in pipeline.logged(container).splitlines() if expected in line]) == 1
        )
    finally:
        pipeline.run("docker", "rm", "--force", container)


def test_stage_before_broker(pipeline: Pipeline) -> None:
    """A stage that is started before its broker waits for it, and works when it appears."""
    pipeline.compose("stop", "rabbitmq", "to_upper", "printer")
    pipeline.compose("up", "--detach", "--no-deps", "to_upper", "printer")
    (worker,) = pipeline.containers("to_upper")
    wait_until(
        lambda: "broker unavailable" in pipeline.logged(worker), PATIENCE_SECONDS, "nothing is said"
    )

    pipeline.start()
    pipeline.make("publish", "MSG=at last")

    pipeline.wait_printed(["AT LAST"])


def _read(pipeline: Pipeline, queue: str) -> dict[str, list[str]]:
    """Empty a queue; return the message ids by text."""
    program = f"""
from rabbit import MessageQueue
queue = MessageQueue({queue!r})
left = int(input())
def show(channel, method, properties, message):
    global left
    print(properties.message_id, message)
    queue.ack(method)
    left -= 1
    if not left: queue.stop()
queue.register(show)
queue.start()
"""
    environment = os.environ | rabbitmq_environment(pipeline) | {"PYTHONPATH": str(ROOT / "shared")}
    count = Broker(pipeline).messages(queue)
    with Popen(
        [sys.executable, "-c", program], env=environment, stdin=PIPE, stdout=PIPE, text=True
    ) as reader:
        said, _ = reader.communicate(f"{count}\n", timeout=PATIENCE_SECONDS)
    ids: dict[str, list[str]] = {}
    for line in said.splitlines():
        key, _, text = line.partition(" ")
        ids.setdefault(text, []).append(key)
    return ids
