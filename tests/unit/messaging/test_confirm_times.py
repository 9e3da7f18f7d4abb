"""How long confirms take, one at a time."""

from rabbit.messaging.confirm_times import ConfirmTimes


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        """Return what it was set to."""
        return self.now


def test_one_publish_at_a_time_is_timed() -> None:
    """From when it was sent until a confirm that reaches it; others are not looked at meanwhile."""
    clock = Clock()
    times = ConfirmTimes(clock)
    times.published(3)
    clock.now += 1
    times.published(9)
    times.confirmed(2)
    assert (times.seconds, times.count, times.waiting) == (0, 0, 1)

    clock.now += 1
    times.confirmed(5)

    assert (times.seconds, times.count, times.waiting) == (2, 1, 0)


def test_what_is_lost_with_its_channel_is_not_timed() -> None:
    """Its confirm does not come; the next channel counts from one again."""
    clock = Clock()
    times = ConfirmTimes(clock)
    times.published(300)
    clock.now += 7
    times.lost()
    times.published(1)
    clock.now += 1
    times.confirmed(1)

    assert (times.seconds, times.count) == (1, 1)
