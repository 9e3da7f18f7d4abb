"""How many messages are held in advance."""

import pytest

from rabbit.messaging.prefetch import (
    DEEPEST,
    HORIZON_SECONDS,
    AutoPrefetch,
    FixedPrefetch,
)

SLOW_SECONDS = 1.0
FAST_SECONDS = 0.0001

#: What is held in advance of messages that take 10 ms.
DEPTH = HORIZON_SECONDS / 0.01

#: What is held in advance, so that with working copies it takes four times as much memory.
MOST_BYTES = 4 * 1024 * 1024

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

    assert prefetch.wanted() == prefetch.most_bytes // (1024 * 1024) == 4


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
    prefetch.running(60.0, held=1000)

    assert prefetch.wanted() == 1
    assert prefetch.is_slow

    prefetch.handled(60.0)
    prefetch.running(0.0, held=0)
    assert not prefetch.is_slow


def looked(prefetch: AutoPrefetch, *seconds: float, held: int = 1000) -> bool:
    """Tell whether it is slow after calls that took so long, with a look after each half second."""
    spent = 0.0
    for each in seconds:
        prefetch.handled(each)
        spent += each
        if spent >= 0.5:
            prefetch.running(0.0, held)
            spent = 0.0
    return prefetch.is_slow


def test_handlers_that_turn_slow_are_noticed_after_a_second() -> None:
    """None of them takes a second: what counts is how long the last one of those held waits."""
    assert looked(after(*[FAST_SECONDS] * 50), *[0.2] * 6)
    assert not looked(after(*[FAST_SECONDS] * 50), *[0.2] * 3)
    prefetch = after(*[FAST_SECONDS] * 50)
    looked(prefetch, *[0.2] * 9)
    assert prefetch.wanted() == 1


def test_what_is_held_for_less_than_a_second_is_no_surplus() -> None:
    """However slow each is."""
    assert not looked(after(*[FAST_SECONDS] * 50), *[0.2] * 6, held=4)
    assert not looked(after(*[FAST_SECONDS] * 50, concurrency=8), *[0.2] * 40, held=32)


def test_one_stall_among_fast_calls_is_no_surplus() -> None:
    """A pause of the machine looks like one slow call; the pace before and after it is another."""
    prefetch = after(*[FAST_SECONDS] * 50)

    assert not looked(prefetch, 0.9, *[FAST_SECONDS] * 5000, 0.9, *[FAST_SECONDS] * 5000)
    assert prefetch.wanted() == DEEPEST


def test_each_surplus_makes_it_wait_longer() -> None:
    """Who turns slow, or meets large messages, again and again does not go deep again and again."""
    prefetch = after(*[FAST_SECONDS] * 50)
    waits = []
    for _ in range(4):
        prefetch.surplus(1, MOST_BYTES)
        assert prefetch.wanted() == 1
        prefetch.came([True])
        waits.append(0)
        while prefetch.wanted() == 1:
            prefetch.handled(FAST_SECONDS)
            waits[-1] += 1

    assert waits == sorted(waits)
    assert waits[-1] >= 2 * waits[1]


def test_a_large_message_counts_at_once() -> None:
    """The mean would follow only when it has been handled: too late for the next ones."""
    prefetch = after(*[FAST_SECONDS] * 50)
    prefetch.surplus(1, 1024 * 1024)

    assert prefetch.wanted() == 4


@pytest.mark.parametrize(
    "arrivals", [[[True] * 100, [True] * 900], [[True] * 3, [False]]], ids=["all", "new ones"]
)
def test_it_goes_no_deeper_before_all_that_went_back_has_come_again(
    arrivals: list[list[bool]],
) -> None:
    """Whatever is fast and small among it; new messages mean that others have the rest."""
    prefetch = after(*[FAST_SECONDS] * 50)
    prefetch.surplus(1000, MOST_BYTES // 4)

    for redelivered in arrivals:
        assert prefetch.wanted() == 4
        assert prefetch.fits(0)
        assert not prefetch.fits(1)
        prefetch.came(redelivered)
        prefetch.handled(1000 * FAST_SECONDS, 1000, 1000)

    assert prefetch.wanted() == DEEPEST


def test_a_call_of_usual_length_is_no_news() -> None:
    """A fast handler that has just begun changes nothing."""
    prefetch = after(*[FAST_SECONDS] * 50)
    prefetch.running(0.1, held=1000)

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
    prefetch.running(60.0, held=7)
    prefetch.careful()
    prefetch.surplus(1, MOST_BYTES)

    assert prefetch.wanted() == 7


def test_a_batch_is_held_for_each_thread_however_slow_work_is() -> None:
    """Else a batch would be as small as what is handled in a fraction of a second."""
    prefetch = AutoPrefetch(2, batch=100)
    assert prefetch.wanted() == 2

    prefetch.handled(SLOW_SECONDS)
    assert prefetch.wanted() == 200


def test_two_large_batches_are_held_where_work_is_fast() -> None:
    """One comes together while the other is handled; there is a bound, and one of bytes."""
    prefetch = AutoPrefetch(batch=5000)
    prefetch.handled(FAST_SECONDS / 10)
    assert prefetch.wanted() == 10_000

    prefetch.handled(100.0, 1000, MOST_BYTES * 100)
    assert prefetch.wanted() < 100

    assert AutoPrefetch(1000, batch=65535)._deepest == 65535  # noqa: SLF001


def test_messages_that_come_again_are_no_batch() -> None:
    """One of them may have killed a process: it would drag along all that is in its batch."""
    prefetch = AutoPrefetch(batch=100)
    for _ in range(20):
        prefetch.careful()
        prefetch.handled(FAST_SECONDS)
        assert prefetch.wanted() == 1


def test_what_was_given_back_by_a_pause_is_held_at_once_again() -> None:
    """Else a second pause would put some of it behind the rest; then as many as before."""
    prefetch = after(*[0.01] * 20)
    before = prefetch.wanted()
    assert before > 1
    prefetch.returned(before + 50)

    assert prefetch.wanted() == before + 50
    prefetch.came([True] * before)
    assert prefetch.wanted() == before + 50
    prefetch.came([True] * 50)
    assert prefetch.wanted() <= before
