"""What is wrong, in words: with what to do about it, the worst first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rabbit.control.messages import State
from rabbit.operations.looks import REFUSED, SILENT
from rabbit.terminal import counted, visible

#: A queue that is worked off within so many seconds is no bottleneck.
SHORT_SECONDS = 10.0

#: A stage that handles nothing for so long, while messages wait, is stuck.
STUCK_SECONDS = 60.0

#: One call of `work` that lasts so long is worth a word.
LONG_CALL_SECONDS = 300.0

#: A certificate that ends within so many seconds is to be replaced.
SOON_SECONDS = 14 * 86400.0

_RANKS = ("alarm", "warning", "note")

#: States that are wrong: how bad, what to say, and what to do.
_WRONG = {
    State.BLOCKED.value: (
        "alarm",
        "cannot publish or answer: the broker takes no messages",
        "there is a memory or disk alarm: see the broker's console",
    ),
    REFUSED: (
        "alarm",
        "finds no queue that takes its output",
        "the queue is full or not available, or is bound no more:",
    ),
    SILENT: (
        "alarm",
        "does not answer",
        "it is cut off, frozen or killed; if it never comes back:",
    ),
    State.GAVE_UP.value: (
        "alarm",
        "gave up after DRAIN_TIMEOUT",
        "what it had in work comes again",
    ),
}


def problem(rank: str, where: str, what: str, cure: str = "", command: str = "") -> dict[str, str]:
    """Return what is wrong, where, what to do about it in words, and with which command."""
    return {"rank": rank, "where": where, "what": what, "cure": cure, "command": command}


def problems_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what is wrong with the rows of a picture, the worst first."""
    stages = {each["name"]: each for each in rows if each["kind"] == "stage"}
    found: list[dict[str, str]] = []
    for row in rows:
        if row["kind"] == "queue":
            found += _of_queue(row, stages.get(row["reader"]))
            found += _of_failures(row)
        else:
            found += _of_stage(row)
    return sorted(found, key=lambda each: _RANKS.index(each["rank"]))


def ending(ends: Mapping[str, float], now: float) -> list[dict[str, str]]:
    """Return which certificates end soon, or have ended.

    Args:
        ends: when that of each broker ends, in seconds since 1970.
        now: likewise.
    """
    found = []
    for broker, end in ends.items():
        name, command = visible(broker), "make secure ROTATE=certificates"
        if end <= now:
            what, cure = f"The certificate of {name} has ended", "no stage can connect there;"
            found.append(problem("alarm", "", what, f"{cure} to replace it:", command))
        elif end - now < SOON_SECONDS:
            what = f"The certificate of {name} ends in {(end - now) / 86400:.0f} days"
            cure = "then no stage can connect; to replace it:"
            found.append(problem("warning", "", what, cure, command))
    return found


def _of_queue(
    queue: Mapping[str, Any], reader: Mapping[str, Any] | None
) -> Iterator[dict[str, str]]:
    """Say why messages wait that should not."""
    if not queue["ready"]:
        return
    name, ready = visible(queue["name"]), counted(queue["ready"], "message")
    states = set(reader["states"]) if reader else set()
    stage = visible(reader["name"]) if reader else ""
    idle = (reader["idle_seconds"] or 0.0) if reader else 0.0
    if reader and (reader["paused"] or (states <= {"paused", "pausing"} and states)):
        what = f"{stage} is paused: {ready} wait in {name}"
        yield problem("note", name, what, "it takes no more until somebody resumes it")
    elif not states - {SILENT}:
        cure = f"start {stage or 'a stage that reads it'}:"
        yield problem("alarm", name, f"Nobody reads {name}: {ready} wait", cure, "make up")
    elif states & {State.BLOCKED.value, REFUSED}:
        return  # `_of_stage` says that
    elif idle >= STUCK_SECONDS:
        what = f"{stage} has handled nothing for {idle:.0f} s while {ready} wait in {name}"
        yield problem("alarm", name, what, "see its log:", f"docker compose logs {stage}")
    elif queue["eta"] == "grows" and queue["waiting"] >= (queue["out"] or 0) * SHORT_SECONDS:
        what = f"The queue {name} grows by {_rate(queue['growth'])}: {stage} does not keep up"
        command = f"docker compose up -d --scale {stage}=N {stage}"
        yield problem("warning", name, what, "more replicas help:", command)


def _of_failures(queue: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Say that messages failed, and at which stage."""
    name, stage = visible(queue["name"]), visible(queue["reader"] or "")
    if queue["dead"]:
        messages = counted(queue["dead"], "message")
        verb = "was" if queue["dead"] == 1 else "were"
        what = f"{stage} gave up {messages} of {name}" if stage else ""
        cure = "read why under Dead letters, mend it, replay them"
        yield problem("warning", name, what or f"{messages} of {name} {verb} given up", cure)
    if queue["retrying"] > SHORT_SECONDS * max(1.0, queue["out"] or 0.0):
        what = f"{counted(queue['retrying'], 'message')} of {name} wait for another attempt"
        cure = f"what {stage or 'its stage'} needs, say a database, may be away: see its log"
        yield problem("warning", name, what, cure)


def _of_stage(stage: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Say what is wrong with replicas."""
    name = visible(stage["name"])
    for state, (rank, what, cure) in _WRONG.items():
        mine = [visible(each["name"]) for each in stage["replicas"] if each["state"] == state]
        if mine:
            who = mine[0] if len(mine) == 1 else f"{len(mine)} replicas of {name}: each"
            commands = {SILENT: f"make forget ARGS={mine[0]}", REFUSED: "make doctor"}
            yield problem(rank, name, f"{who} {what}", cure, commands.get(state, ""))
    trouble = next((each for each in stage["replicas"] if each["trouble"]), None)
    if trouble:
        what = f"{visible(trouble['name'])}: {visible(trouble['trouble'])}"
        yield problem("warning", name, what)
    if stage["oldest_seconds"] > LONG_CALL_SECONDS:
        what = f"{name} has been at one message for {stage['oldest_seconds'] / 60:.0f} min"
        yield problem("warning", name, what, "if it hangs, HANDLER_TIMEOUT ends it")


def _rate(rate: float) -> str:
    return f"{rate:,.0f} messages/s" if rate >= 10 else f"{rate:.1f} messages/s"  # noqa: PLR2004
