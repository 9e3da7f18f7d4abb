"""How text is shown, so that it cannot drive a terminal."""

import re

import pytest
from hypothesis import given

from rabbit.terminal import escape, visible
from tests.unit.texts import texts

ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)
NAMED = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def unescape(shown: str) -> str:
    """Return what was escaped; KeyError for an escape that `escape` does not write."""

    def original(match: re.Match[str]) -> str:
        number = match[1] or match[2] or match[3]
        return chr(int(number, 16)) if number else NAMED[match[4]]

    return ESCAPE.sub(original, shown)


# Any text at all, and text that is full of what matters here.
messages = texts() | texts("\\nrtxuU07\n\r\t\x1b\x85\u2028\u202e\U0001f600")


@given(messages)
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    """No message can move the cursor, colour the terminal or turn the writing direction."""
    shown = escape(text)

    assert "".join(character for character in shown if not character.isprintable()) == ""
    assert len(shown.splitlines()) <= 1


@given(messages)
def test_what_is_shown_can_be_read_back(text: str) -> None:
    """So no two messages look the same."""
    assert text == unescape(escape(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HELLO", "HELLO"),
        ("grün 漢字 😀", "grün 漢字 😀"),
        ("one\ntwo", r"one\ntwo"),
        ("one\r\ntwo", r"one\r\ntwo"),
        (r"one\ntwo", r"one\\ntwo"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\u2028\u202e", r"\u2028\u202e"),
        ("", ""),
    ],
)
def test_how_it_is_shown(text: str, shown: str) -> None:
    """Text as it is, everything else as Python would write it."""
    assert shown == escape(text)


@given(messages)
def test_what_is_quoted_keeps_its_backslashes(text: str) -> None:
    """A sentence of ours that quotes somebody is one printable line, and is not escaped twice."""
    shown = visible(text)

    assert shown.isprintable()
    assert visible(shown) == shown
    assert shown == text or not text.isprintable()
