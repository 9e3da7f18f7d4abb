"""Commands and reports."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from rabbit.control.messages import MOST_BYTES, Command, Report, State, bounded
from rabbit.topology import MOST_PARTITIONS

SINCE = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
REPORT = Report(
    command_id="c1",
    stage="to_upper",
    replica="host-1",
    consumes="my_queue",
    exchange="my_queue",
    produces=None,
    state=State.RUNNING,
    in_flight=3,
    handled=1000,
    failed=1,
    since=SINCE,
)


@pytest.mark.parametrize(
    "command", [Command(command="halt"), Command(command="report", target="printer/host-1")]
)
def test_a_command_goes_round(command: Command) -> None:
    """What is received is what was sent, id and time included."""
    assert command == Command.model_validate_json(command.model_dump_json())


def test_a_report_goes_round() -> None:
    """What is received is what was said."""
    assert Report.model_validate_json(REPORT.model_dump_json()) == REPORT


def test_the_format_is_plain_json() -> None:
    """Programs in other languages can send and read it."""
    command = json.loads(Command(id="1", command="halt", time=SINCE).model_dump_json())
    report = json.loads(REPORT.model_dump_json())

    assert command == {
        "version": 1,
        "id": "1",
        "command": "halt",
        "target": None,
        "time": "2024-01-02T03:04:05Z",
    }
    assert (
        report["state"],
        report["since"],
        report["produces"],
    ) == ("running", "2024-01-02T03:04:05Z", None)


def test_commands_are_told_apart() -> None:
    """Each has an id of its own, so that an answer to an earlier one is known as such."""
    assert Command(command="report").id != Command(command="report").id


def test_unknown_fields_are_ignored() -> None:
    """A newer neighbour of the same version may say more."""
    command = Command.model_validate_json('{"command": "halt", "mood": "good", "id": "1"}')
    report = Report.model_validate({**REPORT.model_dump(), "mood": "good"})

    assert (command.command, command.id) == ("halt", "1")
    assert report == REPORT


@pytest.mark.parametrize(
    "body",
    [
        b'{"version": 2, "command": "halt"}',
        b'{"command": "explode"}',
        b'{"command": null}',
        b'{"id": "1"}',
        b"[]",
        b"HALT",
        b"",
        b"\xff",
    ],
)
def test_what_is_not_understood_is_refused(body: bytes) -> None:
    """A higher version, an unknown command, or no JSON at all."""
    with pytest.raises(ValidationError):
        Command.model_validate_json(body)


@pytest.mark.parametrize(
    "forged",
    [
        {"since": "2026-11-25T10:00:00"},  # of which zone?
        {"since": "0001-01-01T00:00:00+14:00"},
        {"stage": "a" * 81},
        {"stage": ""},
        {"replica": "\x1b[31mred"},
        {"replica": "one/two"},
        {"consumes": "q" * 256},
        {"produces": "q" * 256},
        {"exchange": "q" * 256},
        {"command_id": "c" * 201},
        {"handled": -1},
        {"in_flight": 2**63},
    ],
    ids=str,
)
def test_a_report_has_bounds(forged: dict[str, Any]) -> None:
    """Anybody who may publish can send one: no field is longer or larger than a replica's own."""
    with pytest.raises(ValidationError):
        Report.model_validate_json(json.dumps({**REPORT.model_dump(mode="json"), **forged}))


def test_times_are_told_in_utc() -> None:
    """Whatever zone a report gives them in."""
    body = {**REPORT.model_dump(mode="json"), "since": "2024-01-02T05:04:05+02:00"}

    assert str(Report.model_validate_json(json.dumps(body)).since) == str(SINCE)


def test_a_large_message_is_not_even_read() -> None:
    """It is no command and no report."""
    assert bounded(b"a" * MOST_BYTES)
    with pytest.raises(ValueError, match="16385 bytes, more than the 16384"):
        bounded(b"a" * (MOST_BYTES + 1))


def test_a_report_of_a_higher_version_is_refused() -> None:
    """Half-understood state would be worse than none."""
    with pytest.raises(ValidationError):
        Report.model_validate({**REPORT.model_dump(), "version": 2})


@pytest.mark.parametrize(
    ("target", "concerned"),
    [
        (None, True),
        ("printer", True),
        ("printer/host-1", True),
        ("printer/host-2", False),
        ("to_upper", False),
        ("to_upper/host-1", False),
        ("host-1", False),
        ("print", False),
        ("", False),
    ],
)
def test_whom_a_command_concerns(target: str | None, *, concerned: bool) -> None:
    """Everybody, a whole stage, or one replica of it."""
    command = Command(command="halt", target=target)

    assert concerned == command.concerns("printer", "host-1")


def test_a_report_of_an_older_version_has_fewer_numbers() -> None:
    """It is understood; what it does not say is nothing, or unknown."""
    newer = {"requeued", "prefetch", "handler_buckets", "reconnects", "library", "python"}
    older = REPORT.model_dump_json(exclude=newer | {"retried", "process", "trouble"})

    report = Report.model_validate_json(older)

    assert (report.requeued, report.prefetch, report.handler_buckets) == (0, None, ())
    assert (report.reconnects, report.library, report.python) == (0, None, None)


def test_a_report_with_every_number_is_small_enough() -> None:
    """The largest numbers there are fit in what is read."""
    most = 2**63 - 1
    numbers = {name: most for name, value in REPORT if isinstance(value, int | float)}
    full = {"version": 1, "handler_buckets": [most] * 12, "prefetch": most, "trouble": "x" * 500}
    numbers["partitions"] = MOST_PARTITIONS
    report = Report.model_validate({**REPORT.model_dump(), **numbers, **full})

    assert len(bounded(report.model_dump_json().encode())) < MOST_BYTES / 4
