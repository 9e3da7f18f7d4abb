"""How the tables put things: cut to fit, and counted."""

from rabbit.terminal import escape


def cut(text: str, length: int) -> str:
    """Return `text`, or as much of it as fits, on one line."""
    shown = escape(text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def count(number: int, noun: str) -> str:
    """Return a number of things: `1 message`, `2 messages`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
