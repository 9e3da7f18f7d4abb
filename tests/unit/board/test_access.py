"""Who gets in, and how often somebody may try."""

import pytest

from services.board.access import (
    ATTEMPTS,
    ATTEMPTS_OF_ALL,
    ATTEMPTS_SECONDS,
    ATTEMPTS_WITH_NAME,
    IDLE_SECONDS,
    SESSION_SECONDS,
    Attempts,
    Session,
)

HERE = "192.0.2.1"


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

    assert [attempts.allows("ada", HERE) for _ in range(ATTEMPTS_WITH_NAME + 1)] == [
        *[True] * ATTEMPTS_WITH_NAME,
        False,
    ]
    assert attempts.allows("wilma", HERE)
    clock.now = ATTEMPTS_SECONDS + 1
    assert attempts.allows("ada", HERE)


def test_nobody_is_locked_out_from_elsewhere() -> None:
    """Whoever guesses at a name, or at many, is stopped; who comes from another address is not."""
    attempts = Attempts(Clock())

    allowed = [attempts.allows(f"user-{number}", HERE) for number in range(10 * ATTEMPTS)]

    assert sum(allowed) == ATTEMPTS
    assert not attempts.allows("ada", HERE)
    assert attempts.allows("ada", "192.0.2.2")


def test_an_address_of_ipv6_is_as_good_as_its_neighbour() -> None:
    """Who has one has 2 to the power of 64 of them."""
    attempts = Attempts(Clock())

    near = [attempts.allows("ada", f"2001:db8::{number}") for number in range(9)]

    assert sum(near) == ATTEMPTS_WITH_NAME
    assert attempts.allows("ada", "2001:db8:0:1::1")


def test_few_attempts_in_all() -> None:
    """Neither the broker nor the memory is for whoever has many addresses."""
    attempts = Attempts(Clock())

    allowed = [attempts.allows("ada", f"192.0.{n // 250}.{n % 250}") for n in range(1000)]

    assert sum(allowed) == ATTEMPTS_OF_ALL


def test_who_gets_in_has_a_clean_slate() -> None:
    """Logging in and out all day is no attack."""
    attempts = Attempts(Clock())

    for _ in range(5 * ATTEMPTS):
        assert attempts.allows("ada", HERE)
        attempts.forgive("ada", HERE)


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
