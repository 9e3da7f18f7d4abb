"""How many messages are held in advance."""

import pytest

from rabbit.prefetch import DEEPEST, HORIZON_SECONDS, MOST_BYTES, AutoPrefetch, FixedPrefetch

SLOW_SECONDS = 1.0
FAST_SECONDS = 0.0001

#: What is held in advance of messages that take 10 ms.
DEPTH = HORIZON_SECONDS / 0.01

#: A change has to be so many times as large.
DEEPER, LESS_DEEP = 2, 4


def after(*seconds: float, concurrency: int = 1) -> AutoPrefetch:
    """Return a prefetch that has seen handler calls which took so long."""
    prefetch = AutoPrefetch(concurrency)
    for each in seconds:
        prefetch.handled(each)
        prefetch.wanted()
    return prefetch


def test_it_starts_fair() -> None:
    """Nothing is known yet, so each handler thread holds one message."""
    assert AutoPrefetch().wanted() == 1
    assert AutoPrefetch(4).wanted() == 4


def test_slow_handlers_hold_one_message() -> None:
    """The other messages are left to replicas that are idle."""
    assert after(*[SLOW_SECONDS] * 50).wanted() == 1
    assert after(*[SLOW_SECONDS] * 50, concurrency=4).wanted() == 4


def test_fast_handlers_hold_many() -> None:
    """They stay busy across the round trip to the broker; there is a bound."""
    assert after(*[FAST_SECONDS] * 50).wanted() == DEEPEST
    assert after(*[FAST_SECONDS] * 50, concurrency=4).wanted() == DEEPEST


def test_it_holds_a_fraction_of_a_second_of_work() -> None:
    """Between fair and deepest, depth times duration is the horizon."""
    assert after(*[0.01] * 50).wanted() == DEPTH


def test_large_messages_are_held_in_bounded_memory() -> None:
    """However fast their handler is."""
    prefetch = AutoPrefetch()
    prefetch.handled(50 * FAST_SECONDS, 50, 50 * 1024 * 1024)

    assert prefetch.wanted() == MOST_BYTES // (1024 * 1024)


def test_a_few_fast_messages_prove_nothing() -> None:
    """Going deeper takes ten samples: the first messages may be the easy ones."""
    assert after(*[FAST_SECONDS] * 9).wanted() == 1
    assert after(*[FAST_SECONDS] * 10).wanted() == DEEPEST


def test_a_batch_counts_as_its_messages() -> None:
    """Ten messages reported at once are as good as ten reports."""
    prefetch = AutoPrefetch()
    prefetch.handled(10 * FAST_SECONDS, 10)

    assert prefetch.wanted() == DEEPEST


def test_a_stall_is_not_a_slow_handler() -> None:
    """One slow call among fast ones changes nothing; a handler that turns slow is followed."""
    prefetch = after(*[FAST_SECONDS] * 50)
    prefetch.handled(0.5)
    assert prefetch.wanted() == DEEPEST

    for _ in range(30):
        prefetch.handled(0.05)
        prefetch.wanted()
    assert prefetch.wanted() < LESS_DEEP * HORIZON_SECONDS / 0.05
    assert not prefetch.is_slow


def test_a_call_that_does_not_end_counts_before_it_has_ended() -> None:
    """What waits behind it is needed elsewhere meanwhile."""
    prefetch = after(*[FAST_SECONDS] * 50)
    prefetch.running(60.0)

    assert prefetch.wanted() == 1
    assert prefetch.is_slow

    prefetch.handled(60.0)
    assert not prefetch.is_slow


def test_a_call_of_usual_length_is_no_news() -> None:
    """A fast handler that has just begun changes nothing."""
    prefetch = after(*[FAST_SECONDS] * 50)
    prefetch.running(0.1)

    assert prefetch.wanted() == DEEPEST


def test_it_follows_a_change_back() -> None:
    """Handlers that become fast are given more again."""
    assert after(*[SLOW_SECONDS] * 20, *[FAST_SECONDS] * 200).wanted() == DEEPEST


@pytest.mark.parametrize("seconds", [0.03, 0.006])
def test_small_changes_are_ignored(seconds: float) -> None:
    """Less than four times as long, or more than half, is not worth the round trip of a change."""
    prefetch = after(*[0.01] * 50)
    for _ in range(50):
        prefetch.handled(seconds)
        assert prefetch.wanted() == DEPTH


def test_large_changes_are_followed() -> None:
    """Four times as long, or more, is worth it; so is half."""
    assert after(*[0.01] * 50, *[0.05] * 50).wanted() <= DEPTH / LESS_DEEP
    assert after(*[0.01] * 50, *[0.002] * 50).wanted() >= DEPTH * DEEPER


def test_a_tenth_of_a_second_is_worth_one_in_advance() -> None:
    """The round trip to the broker would cost a few hundredths of the time otherwise."""
    assert after(*[0.1] * 50).wanted() == 2


def test_it_goes_no_deeper_while_messages_come_again() -> None:
    """One of them may have killed a process: it would drag along all that is held beside it."""
    prefetch = AutoPrefetch()
    for _ in range(50):
        prefetch.careful()
        prefetch.handled(FAST_SECONDS)
        assert prefetch.wanted() == 1

    for _ in range(8):
        prefetch.handled(FAST_SECONDS)
        assert prefetch.wanted() == 1
    prefetch.handled(FAST_SECONDS)
    assert prefetch.wanted() == DEEPEST


@pytest.mark.parametrize("seconds", [FAST_SECONDS, SLOW_SECONDS])
def test_a_fixed_prefetch_stays(seconds: float) -> None:
    """The user knows, whatever is measured."""
    prefetch = FixedPrefetch(7)
    prefetch.handled(50 * seconds, 50)
    prefetch.running(60.0)
    prefetch.careful()

    assert prefetch.wanted() == 7
