"""Text from messages, so that it cannot drive the terminal of who looks at it."""


def escape(text: str) -> str:
    """Return `text` with everything that is not printable as a backslash escape.

    A backslash itself is doubled, so that the original can be told from what is shown.
    """
    return "".join(
        character
        if character.isprintable() and character != "\\"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def cut(text: str, length: int) -> str:
    """Return `text`, or as much of it as fits, on one line."""
    shown = escape(text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def count(number: int, noun: str) -> str:
    """Return a number of things: `1 message`, `2 messages`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
