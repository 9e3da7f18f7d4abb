"""How the tables put things: cut to fit."""

from rabbit.terminal import escape


def cut(text: str, length: int) -> str:
    """Return `text`, or as much of it as fits, on one line."""
    shown = escape(text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"
