"""The stage producer."""

from io import BytesIO
from typing import BinaryIO

import pytest

from rabbit import RabbitError
from services.producer import Producer


class Recorder(Producer):
    """A producer that keeps what it would publish."""

    def __init__(self, lines: BinaryIO | None = None) -> None:
        """Start with nothing written."""
        super().__init__(lines)
        self.written: list[str] = []

    def write(self, text: object, key: str | None = None, **_: object) -> None:
        """Keep it."""
        assert key is None
        self.written.append(str(text))


@pytest.fixture(autouse=True)
def output_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the queue that nothing is published to here."""
    monkeypatch.setenv("OUTPUT_QUEUE", "my_queue")


def written(lines: bytes | None = None) -> list[str]:
    """Return what a producer writes."""
    recorder = Recorder(None if lines is None else BytesIO(lines))
    recorder.work()
    return recorder.written


def test_hello_and_world_by_default() -> None:
    """MESSAGES has a default, for the first `make up`."""
    assert written() == ["hello", "world"]


def test_messages_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each word of MESSAGES is a message."""
    monkeypatch.setenv("MESSAGES", " one  two\nthree ")

    assert written() == ["one", "two", "three"]


@pytest.mark.parametrize("text", ["one two", "-x", "", " $5 'a' \"b\"\nü "])
def test_a_message_is_any_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MESSAGE is one message, as it stands, and wins over MESSAGES."""
    monkeypatch.setenv("MESSAGES", "other words")
    monkeypatch.setenv("MESSAGE", text)

    assert [text] == written()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"\n\nx\n", ["", "", "x"]),
        (b"  blanks stay \n", ["  blanks stay "]),
        ("grün\x0b\x85\u2028\n".encode(), ["grün\x0b\x85\u2028"]),
        (b"a\rb\r\r\n", ["a\rb\r"]),
    ],
)
def test_a_line_is_a_message(content: bytes, expected: list[str]) -> None:
    """Only the line's end is taken away, and only a newline ends a line."""
    assert expected == written(content)


def test_a_line_that_is_not_utf_8_is_named() -> None:
    """The lines before it are published, and the error says so."""
    recorder = Recorder(BytesIO(b"one\ntwo\n\xff\nfour\n"))

    with pytest.raises(RabbitError, match=r"^line 3 is not UTF-8 text: only the lines before it"):
        recorder.work()
    assert recorder.written == ["one", "two"]
