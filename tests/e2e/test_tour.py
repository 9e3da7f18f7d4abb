"""What a user does, through the commands that the README gives."""

import re
import signal
from pathlib import Path
from urllib.error import HTTPError

import pytest

from rabbit.terminal import escape
from tests.e2e.broker import Broker
from tests.support.pipeline import PATIENCE_SECONDS, ROOT, Pipeline
from tests.variations import variations
from tests.waiting import wait_until


def test_up_shows_hello_world(installed: Pipeline) -> None:
    """After `make up`, HELLO and WORLD stand in the printer's log and the producer has ended."""
    said = installed.make("up").stdout
    (printer,) = installed.containers("printer")
    (producer,) = installed.containers("producer")

    wait_until(
        lambda: installed.printed(printer)[:2] == ["HELLO", "WORLD"],
        PATIENCE_SECONDS,
        lambda: f"printed {installed.printed(printer)}",
    )

    assert installed.exit_code(producer) == 0
    assert "make publish MSG=" in said
    assert [line for line in said.splitlines() if "default one, for this machine only" in line]


@pytest.mark.thorough
def test_the_login_is_no_administrator(pipeline: Pipeline, broker: Broker) -> None:
    """It may see everything, which the console and control need, and make no users."""
    assert broker.request("GET", "whoami")["tags"] == ["monitoring"]
    assert pipeline.make("doctor").stdout.startswith("no difference")
    with pytest.raises(HTTPError, match="401"):
        broker.request("PUT", "users/more", {"password": "x", "tags": "administrator"})


@pytest.mark.parametrize(
    "text",
    variations(
        [
            'several  blanks, it\'s "quoted", $5 $HOME $(HOME) `id` back\\slash grüße ß 😀 ',
            "-n --leading, \x1b[31mred, two\nlines",
            "",
            "hello",
        ]
    ),
)
def test_publish_any_text(pipeline: Pipeline, text: str) -> None:
    """`make publish MSG=...` takes any text; the printer shows it upper-cased, on one line."""
    pipeline.make("publish", f"MSG={text}")

    pipeline.wait_printed([escape(text.upper())])


def test_publish_file(pipeline: Pipeline, tmp_path: Path) -> None:
    """`make publish FILE=...` publishes a message per line, in order, and says how many."""
    lines = [f"line {number}" for number in range(500)]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines) + "\n")

    said = pipeline.make("publish", f"FILE={path}")

    assert re.search(r"published 500 messages in .* s \(.*/s\)", said.stderr + said.stdout)
    pipeline.wait_printed([line.upper() for line in lines])
    assert [line.upper() for line in lines] == pipeline.all_printed()


@pytest.mark.thorough
def test_publish_standard_input(pipeline: Pipeline) -> None:
    """`make publish FILE=-` reads standard input; a last line needs no newline."""
    pipeline.make("publish", "FILE=-", stdin="one\ntwo")

    pipeline.wait_printed(["ONE", "TWO"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["publish"], "usage"),
        (["publish", "FILE=/no/such/file"], "/no/such/file"),
    ],
)
def test_publish_bad_input(pipeline: Pipeline, arguments: list[str], expected: str) -> None:
    """What cannot be published ends with one clear line and a non-zero exit code."""
    done = pipeline.make(*arguments, check=False)

    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert len(lines) == 1
    assert expected in lines[0]


@pytest.mark.thorough
def test_publish_not_confirmed(pipeline: Pipeline, broker: Broker) -> None:
    """What no queue takes is not called published: one line says why, the exit code is not 0."""
    pipeline.compose("stop", "to_upper")
    broker.limit("my_queue", 1)
    try:
        lines = "x\n" * 5000  # a queue learns late that it is full
        done = pipeline.make("publish", "FILE=-", check=False, stdin=lines, PUBLISH_TIMEOUT="3")
    finally:
        broker.limit("my_queue", None)

    said = [line for line in done.stderr.splitlines() if line.startswith("producer: ")]
    assert done.returncode != 0
    assert len(said) == 1
    assert re.search(r"\d+ messages confirmed, \d+ not, .* is its queue full", said[0])
    assert "Traceback" not in done.stderr


@pytest.mark.thorough
def test_status(pipeline: Pipeline) -> None:
    """`make status` shows each replica, what it connects, and how deep the queues are."""
    said = pipeline.make("status").stdout

    assert re.search(r"to_upper .*running .*my_queue → upper", said)
    assert re.search(r"printer .*running .*upper →", said)
    assert re.search(r"my_queue +│ +0 +│ +0", said)


@pytest.mark.thorough
@pytest.mark.runs("make pause STAGE=printer", "make resume STAGE=printer")
def test_a_stage_is_paused_and_resumed(pipeline: Pipeline) -> None:
    """`make pause` proves it; a replica that starts meanwhile is healthy and paused too."""
    assert pipeline.make("pause", "STAGE=printer").stdout.startswith("paused 1/1 printer/")
    pipeline.compose("up", "--detach", "--no-recreate", "--wait", "--scale", "printer=2", "printer")
    pipeline.make("publish", "MSG=later")
    said = pipeline.make("status").stdout
    assert re.search(r"printer +│ 2 paused +│ upper →", said)
    assert re.search(r"upper +│ +1 │ +0", said)
    assert not any("LATER" in pipeline.printed(each) for each in pipeline.containers("printer"))

    assert pipeline.make("resume", "STAGE=printer").stdout.startswith("resumed 2/2 printer/")
    wait_until(
        lambda: any("LATER" in pipeline.printed(each) for each in pipeline.containers("printer")),
        PATIENCE_SECONDS,
        "it is printed",
    )


@pytest.mark.thorough
def test_dead_letters_are_listed_and_replayed(pipeline: Pipeline) -> None:
    """What a stage cannot handle is kept with its reason; `make replay` brings it back."""
    pipeline.start("to_upper", MAX_MESSAGE_BYTES="10")
    pipeline.make("publish", "MSG=too much for it")
    wait_until(
        lambda: "TooLargeError" in pipeline.make("dead-letters").stdout,
        PATIENCE_SECONDS,
        "the dead letter is listed",
    )
    pipeline.start("to_upper")
    nothing = pipeline.make("replay", check=False)
    asked = pipeline.make("replay", "ARGS=--reason TooLargeError").stdout

    assert nothing.returncode != 0
    assert "say what to replay" in nothing.stderr + nothing.stdout
    assert asked.strip().endswith("replayed 1 message: 1 my_queue")
    pipeline.wait_printed(["TOO MUCH FOR IT"])
    assert "no dead letters" in pipeline.make("dead-letters").stdout


@pytest.mark.thorough
@pytest.mark.runs(
    "make doctor ARGS='--fix --dry-run'",
    "make doctor ARGS='--fix --yes'",
    "make doctor ARGS=--graph",
)
def test_doctor(pipeline: Pipeline) -> None:
    """`make doctor` finds nothing where all is well, and what is wrong where it is not."""
    well = pipeline.make("doctor", "ARGS=--fix --yes").stdout
    drawn = pipeline.make("doctor", "ARGS=--graph").stdout
    pipeline.compose("stop", "printer")
    ill = pipeline.make("doctor", check=False, QUEUE_TYPE="classic")
    dry = pipeline.make("doctor", "ARGS=--fix --dry-run", check=False, QUEUE_TYPE="classic")

    assert "no difference: 3 stages, all as declared" in well
    assert drawn.startswith("flowchart LR\n")
    assert "my_queue<br>0 ready" in drawn
    assert ill.returncode != 0
    assert re.search(r"unconsumed +│ queue +│ upper", ill.stdout)
    assert "x-queue-type: declared 'classic', there is 'quorum'" in ill.stdout
    assert "halt producer, to_upper, and move queue my_queue with about " in dry.stdout


def test_halt_proves_itself_and_keeps_the_queues(pipeline: Pipeline, broker: Broker) -> None:
    """`make halt` names who halted; they exit with 0 and stay down; messages stay queued."""
    containers = [*pipeline.containers("to_upper"), *pipeline.containers("printer")]

    said = pipeline.make("halt").stdout

    assert "halted 2/2" in said
    assert all(f"{stage}/" in said for stage in ("to_upper", "printer"))
    assert [pipeline.exit_code(each) for each in containers] == [0, 0], "when make has ended"
    pipeline.make("publish", "MSG=kept")
    wait_until(lambda: broker.ready("my_queue") == 1, PATIENCE_SECONDS, "the message is queued")
    pipeline.start()
    pipeline.wait_printed(["KEPT"])


@pytest.mark.thorough
def test_halt_twice(pipeline: Pipeline) -> None:
    """A second halt says that nobody is there, and what has become of the containers."""
    first, second = pipeline.make("halt"), pipeline.make("halt", check=False)

    assert "halted 2/2" in first.stdout
    assert second.returncode != 0
    assert "nobody to halt: no replica is at the broker" in second.stderr
    assert "printer exited (0)" in second.stderr


@pytest.mark.parametrize("service", variations(["to_upper", "printer"]))
def test_stop_drains(pipeline: Pipeline, service: str) -> None:
    """`docker compose stop` lets a stage finish: exit code 0, well within the grace period."""
    (container,) = pipeline.containers(service)

    pipeline.compose("stop", "--timeout", "10", service)

    assert pipeline.exit_code(container) == 0
    assert "halted" in pipeline.logged(container)


def test_scale_shares_the_work(pipeline: Pipeline) -> None:
    """With `--scale printer=3`, also while running, three printers share the work."""
    pipeline.compose("up", "--detach", "--no-recreate", "--wait", "--scale", "printer=3", "printer")
    pipeline.publish([f"message {number}" for number in range(3000)])

    pipeline.wait_printed([f"MESSAGE {number}" for number in range(3000)])

    shares = [len(pipeline.printed(each)) for each in pipeline.containers("printer")]
    assert len(shares) == 3
    assert all(shares)


@pytest.mark.thorough
def test_slow_case_takes_turns(pipeline: Pipeline) -> None:
    """With a second of work in to_upper and two in the printer, two printers take turns."""
    pipeline.start(printers=2, TO_UPPER_DELAY="1", PRINTER_DELAY="2")
    texts = [f"m{number}" for number in range(6)]

    pipeline.publish(texts)
    pipeline.wait_printed([text.upper() for text in texts])

    shares = [pipeline.printed(each) for each in pipeline.containers("printer")]
    assert sorted(map(len, shares)) == [3, 3]
    assert sorted(shares) == [["M0", "M2", "M4"], ["M1", "M3", "M5"]]


@pytest.mark.thorough
def test_drain_finishes_everything(pipeline: Pipeline, broker: Broker) -> None:
    """`make drain` stops the stages in flow order, each after its queue is done."""
    texts = [f"drained {number}" for number in range(2000)]
    pipeline.publish(texts)

    said = pipeline.make("drain").stdout

    assert "to_upper → printer" in said
    assert sorted(text.upper() for text in texts) == sorted(pipeline.all_printed())
    assert (broker.messages("my_queue"), broker.messages("upper")) == (0, 0)


@pytest.mark.thorough
def test_foreground(pipeline: Pipeline) -> None:
    """`docker compose up` shows the messages in the foreground, and Ctrl-C stops everything."""
    pipeline.compose("down", "--timeout", "10")
    with pipeline.background("docker", "compose", "up", "--no-color") as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("printer-1") and line.rstrip().endswith("| WORLD"):
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)

    assert any(line.rstrip().endswith("| HELLO") for line in seen)
    assert [pipeline.exit_code(each) for each in pipeline.containers("printer")] == [0]


@pytest.mark.thorough
def test_down_keeps_the_data(pipeline: Pipeline) -> None:
    """`make down` removes the containers; what is queued is there after the next start."""
    pipeline.make("halt")
    pipeline.make("publish", "MSG=still here")

    pipeline.make("down")

    assert pipeline.compose("ps", "--all", "--quiet") == ""
    pipeline.start()
    pipeline.wait_printed(["STILL HERE"])


@pytest.mark.thorough
@pytest.mark.runs("make clean")
def test_clean_asks_first(pipeline: Pipeline) -> None:
    """`make clean` without a terminal removes nothing unless it is told YES=1."""
    done = pipeline.make("clean", check=False)

    assert done.returncode != 0
    assert "YES=1" in done.stderr
    assert pipeline.containers("printer")


def test_locked_down(pipeline: Pipeline) -> None:
    """A running stage cannot write to its file system and has no capabilities."""
    (container,) = pipeline.containers("printer")
    form = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}"

    said = pipeline.run("docker", "inspect", "--format", form, container).stdout.strip()

    assert said == "true [ALL] [no-new-privileges:true]"


def test_bounded(pipeline: Pipeline) -> None:
    """Neither a container's memory, nor its processes, nor what it logs, grows without end."""
    form = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.LogConfig.Type}}"
    bounds = {
        service: pipeline.run("docker", "inspect", "--format", form, container).stdout.strip()
        for service in ("rabbitmq", "to_upper", "printer")
        for container in pipeline.containers(service)
    }

    assert bounds == {
        "rabbitmq": f"{3 << 30} 2000 local",
        **dict.fromkeys(("to_upper", "printer"), f"{1 << 30} 1200 local"),
    }


@pytest.mark.runs("make logs")
def test_logs(pipeline: Pipeline) -> None:
    """`make logs` follows what the services say."""
    with pipeline.background("make", "logs") as process:
        assert process.stdout is not None
        assert any("ready" in line for line in process.stdout)
        process.terminate()


def test_help_lists_every_target() -> None:
    """`make help` names every target that a user can call."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))

    said = Pipeline("help").make("help").stdout

    assert {line.split()[1] for line in said.splitlines()} == targets
    assert {"up", "publish", "halt", "drain", "status", "logs", "down", "clean"} <= targets
