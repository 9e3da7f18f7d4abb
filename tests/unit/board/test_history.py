"""Ten minutes, in memory."""

from services.board.history import MOST_LINES, POINTS, STEP_SECONDS, History, Line


def test_a_line_holds_ten_minutes_however_often_one_looks() -> None:
    """Points that come too fast take each other's place; the latest is always there."""
    line = Line()
    for tenth in range(20_000):
        line.add(tenth / 10, tenth)

    assert len(line.points) == POINTS
    assert line.values()[-1] == 19_999
    span = line.points[-1][0] - line.points[0][0]
    assert 0.95 * POINTS * STEP_SECONDS < span < 1.05 * POINTS * STEP_SECONDS


def test_how_long_it_has_been_above_zero() -> None:
    """Counted from the last time it was not."""
    line = Line()
    for second, value in ((0, 1), (10, 0), (20, 2), (30, 2)):
        line.add(second, value)

    assert line.since_positive() == 10
    line.add(40, 0)
    assert line.since_positive() is None


def test_names_that_anybody_makes_up_do_not_fill_the_memory() -> None:
    """Beyond a bound they are drawn without a past, and those of the past are let go."""
    history = History()
    for number in range(2 * MOST_LINES):
        history.line("waiting", str(number)).add(number, 1)

    assert len(history.line("waiting", "0").points) == 1
    assert len(history.line("waiting", str(MOST_LINES + 1)).points) == 0
    history.forget(MOST_LINES + 1)
    history.line("waiting", "new").add(0, 1)
    assert len(history.line("waiting", "new").points) == 1
