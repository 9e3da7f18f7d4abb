"""Who gets in, and how often somebody may try."""

import pytest

from services.board.access import (
    ATTEMPTS,
    ATTEMPTS_SECONDS,
    ATTEMPTS_WITH_NAME,
    IDLE_SECONDS,
    SESSION_SECONDS,
    Attempts,
    Session,
)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def test_few_attempts_with_one_name() -> None:
    """Others may still log in; a minute later, so may this one."""
    clock = Clock()
    attempts = Attempts(clock)

    assert [attempts.allows("ada") for _ in range(ATTEMPTS_WITH_NAME + 1)] == [
        *[True] * ATTEMPTS_WITH_NAME,
        False,
    ]
    assert attempts.allows("wilma")
    clock.now = ATTEMPTS_SECONDS + 1
    assert attempts.allows("ada")


def test_few_attempts_in_all() -> None:
    """Whoever tries many names is stopped too, and is not remembered for each of them."""
    attempts = Attempts(Clock())

    allowed = [attempts.allows(f"user-{number}") for number in range(10 * ATTEMPTS)]

    assert sum(allowed) == ATTEMPTS


def test_who_gets_in_has_a_clean_slate() -> None:
    """Logging in and out all day is no attack."""
    attempts = Attempts(Clock())

    for _ in range(5 * ATTEMPTS):
        assert attempts.allows("ada")
        attempts.forgive("ada")


@pytest.mark.parametrize(
    ("used", "now", "is_over"),
    [
        (0.0, IDLE_SECONDS - 1, False),
        (0.0, IDLE_SECONDS + 1, True),
        (SESSION_SECONDS, SESSION_SECONDS + 1, True),
    ],
)
def test_a_session_ends(used: float, now: float, *, is_over: bool) -> None:
    """When nothing was asked in it for long, and in any case after a day's work."""
    session = Session("ada", "ada:secret", may_act=True, began=0.0, used=used, checked=0.0)

    assert session.is_over(now) == is_over


def test_a_session_does_not_show_its_secrets() -> None:
    """It may end up in a traceback."""
    session = Session("ada", "ada:hunter2", may_act=True, began=0.0, used=0.0, checked=0.0)

    assert "hunter2" not in repr(session)
    assert session.csrf not in repr(session)
