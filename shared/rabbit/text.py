"""Text from messages, so that it cannot drive the terminal of whoever looks at it."""


def escape(text: str) -> str:
    """Return `text` with everything that is not printable as a backslash escape.

    A backslash itself is doubled, so that the original can be told from what is shown.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return visible(text.replace("\\", "\\\\"))


def visible(text: str) -> str:
    """Return `text` with everything that is not printable as a backslash escape.

    A backslash stays as it is: for sentences of ours that quote what somebody else has said.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
