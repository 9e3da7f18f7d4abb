"""Several stages without a broker."""

from typing import Any

import pytest

from rabbit import ConfigurationError, Consumer, Producer, Worker
from rabbit.message import derived_id
from rabbit.testing import harness, pipeline
from services.printer import Printer
from services.to_upper import ToUpper


class Split(Worker):
    """Writes each word, with a key where the edge has some."""

    def work(self, message: str) -> None:
        """Write them; a number is one too many."""
        for word in message.split():
            if word.isdecimal():
                raise ValueError(word)
            self.write(word, None if self.settings.output_kind == "work" else word)


class Keep(Consumer):
    """Keeps what it gets."""

    def work(self, message: str) -> None:
        """Keep nothing but refuse a blank."""
        if message == "BAD":
            raise ValueError(message)


class Greet(Producer):
    """Writes a greeting for ever."""

    def work(self) -> None:
        """Write it."""
        while True:
            self.write("hello world")


def test_each_output_is_the_next_ones_input() -> None:
    """With the ids, and the correlation id, that it would have at a broker."""
    passed = pipeline(Split, ToUpper, Keep).send("hello world", message_id="m", correlation_id="c")

    words = [derived_id("m", "split", index) for index in range(2)]
    upper = [derived_id(each, "to_upper", 0) for each in words]
    assert passed[Split][0].ids == words
    assert [sent.ids[0] for sent in passed[ToUpper]] == upper
    assert [sent.message.id for sent in passed[Keep]] == upper
    assert [sent.message.text for sent in passed[Keep]] == ["HELLO", "WORLD"]
    assert {sent.message.correlation_id for each in passed.sent for sent in each} == {"c"}
    assert {sent.settled for each in passed.sent for sent in each} == {"acked"}
    assert (passed.failed, passed.unroutable, passed.outputs) == ([], [], [])


def test_the_pipeline_of_this_project(capsys: pytest.CaptureFixture[str]) -> None:
    """What goes in is printed in upper case."""
    pipeline(ToUpper, Printer).send("hello")

    assert capsys.readouterr().out == "HELLO\n"


def test_outputs_are_those_of_the_last_stage() -> None:
    """Of one that writes; here, of each that its input has become."""
    assert pipeline(Split, ToUpper).send("a b").outputs == ["A", "B"]


def test_what_fails_comes_no_further() -> None:
    """It is among the failed, with its reason; all else goes on, and it can be read as a text."""
    passed = pipeline(Split, harness(ToUpper, retry_delays=()), Keep).send("good bad")
    stopped = pipeline(Split, ToUpper, Keep).send("good 1")

    (failed,) = passed.failed
    assert (failed.message.text, failed.settled, type(failed.error)) == (
        "BAD",
        "retried",
        ValueError,
    )
    assert [sent.settled for sent in passed[Keep]] == ["acked", "retried"]
    assert str(passed).splitlines() == [
        "split acked 'good bad', wrote 2",
        "to_upper acked 'good', wrote 1",
        "to_upper acked 'bad', wrote 1",
        "keep acked 'GOOD'",
        "keep retried 'BAD': ValueError('BAD')",
    ]
    assert str(stopped) == "split retried 'good 1': ValueError('1')"
    assert stopped[2] == []


def test_a_source_comes_first_and_runs() -> None:
    """What it writes is what the next stage gets."""
    passed = pipeline(Greet, Split, Keep).run(stop_after=2)

    assert passed.written is not None
    assert passed.written.is_halted
    assert passed[Greet] == []
    assert [sent.message.text for sent in passed[Keep]] == 2 * ["hello", "world"]
    assert [sent.message.id for sent in passed[Split]] == passed.written.ids
    assert str(passed).startswith("greet wrote 2\nsplit acked 'hello world', wrote 2\n")


@pytest.mark.parametrize(
    ("kind", "keys", "read"),
    [
        ("direct", "a.b,x", "a.b"),
        ("topic", "a.*", "a.b a.c"),
        ("topic", "a.#", "a a.b a.c a.b.c"),
        ("topic", "#.c,x", "a.c a.b.c"),
        ("topic", "*.*.c", "a.b.c"),
        ("topic", "#", "a a.b a.c a.b.c"),
        ("broadcast", None, "a a.b a.c a.b.c"),
    ],
)
def test_an_edge_that_routes_by_key(kind: str, keys: str | None, read: str) -> None:
    """Gives the next stage what its keys match; the rest is told: nobody reads it."""
    texts = "a a.b a.c a.b.c"
    given = {} if keys is None else {"input_keys": keys}
    passed = pipeline(
        harness(Split, output_kind=kind), harness(Keep, input_kind=kind, **given)
    ).send(texts)

    assert " ".join(sent.message.routing_key for sent in passed[Keep]) == read
    left = [each.text for each in passed.unroutable]
    assert left == [word for word in texts.split() if word not in read.split()]
    assert all(
        f"nobody reads '{text}', of the routing key '{text}'" in str(passed) for text in left
    )


def test_what_cannot_follow_each_other_is_refused() -> None:
    """In one line, when the pipeline is made, or where it is fed by the wrong end."""
    refused: list[tuple[list[Any], str]] = [
        ([], "a pipeline of no stages"),
        ([ToUpper, Greet], "greet is a source: it comes first"),
        ([Keep, ToUpper], "keep is a sink: it writes nothing that to_upper could read"),
        ([harness(Split, output_kind="topic"), Keep], "split writes to an edge of kind topic"),
    ]
    for stages, reason in refused:
        with pytest.raises(ConfigurationError, match=reason):
            pipeline(*stages)
    with pytest.raises(TypeError, match="greet is a source, which gets no messages"):
        pipeline(Greet, Keep).send("a")
    with pytest.raises(TypeError, match="keep is no source"):
        pipeline(Keep).run()
    with pytest.raises(LookupError, match="Split is no stage of this pipeline"):
        pipeline(Keep).send("a")[Split]


def test_queues_of_the_environment_are_not_those_of_the_pipeline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each stage reads what the one before it writes."""
    monkeypatch.setenv("INPUT_QUEUE", "elsewhere")
    made = pipeline(Split, ToUpper, Keep).harnesses

    assert made[0].stage.settings.output_queue == made[1].stage.settings.input_queue
    assert made[1].stage.settings.output_queue == made[2].stage.settings.input_queue
    assert len({each.stage.settings.input_queue for each in made}) == 3
