"""How long to wait before another attempt."""

from rabbit.amqp.backoff import Backoff


def test_pauses_are_random_up_to_a_bound_that_doubles() -> None:
    """With each failure, up to the last bound, however many there are."""
    backoff = Backoff(0.25, 10.0)
    bounds = []
    for _ in range(2000):
        bounds.append(backoff.bound)
        assert 0 <= backoff.pause() <= bounds[-1]

    assert bounds[:7] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0]
    assert set(bounds[7:]) == {10.0}


def test_what_has_proved_itself_is_tried_again_soon() -> None:
    """Only then: a failure alone makes no pause shorter."""
    backoff = Backoff(1.0, 30.0)
    for _ in range(5):
        backoff.pause()
    assert backoff.bound == 30.0
    backoff.proved()

    assert backoff.bound == 1.0
