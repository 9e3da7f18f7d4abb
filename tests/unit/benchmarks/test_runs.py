"""The statistics of the benchmark."""

from tests.benchmarks.runs import Run, Runs, Spread, spread


def _runs(**rates: list[float]) -> Runs:
    return Runs(
        Run("relay", candidate, number, {"rate": rate})
        for candidate, values in rates.items()
        for number, rate in enumerate(values, start=1)
    )


def test_a_spread_is_the_median_and_the_extremes() -> None:
    """However the values are ordered."""
    assert spread([3.0, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0)


def test_nothing_has_no_spread() -> None:
    """A candidate that did not take part has no figure."""
    assert spread([]) is None
    assert _runs(ours=[1.0]).figure("relay", "c", "rate") is None


def test_a_ratio_is_formed_within_each_round() -> None:
    """A round in which the whole machine was slow does not change it."""
    runs = _runs(ours=[20.0, 2.0, 40.0], c=[10.0, 1.0, 20.0])

    assert runs.ratio("relay", "ours", "c", "rate") == Spread(2.0, 2.0, 2.0)


def test_a_round_that_one_of_them_failed_has_no_ratio() -> None:
    """The other rounds count."""
    runs = _runs(ours=[20.0, 30.0], c=[10.0])

    assert runs.ratio("relay", "ours", "c", "rate") == Spread(2.0, 2.0, 2.0)


def test_the_best_has_the_highest_median() -> None:
    """One good round does not make a winner."""
    runs = _runs(ours=[99.0] * 3, steady=[5.0, 5.0, 5.0], lucky=[1.0, 1.0, 50.0])

    assert runs.best("relay", "rate", lambda name: name != "ours") == "steady"


def test_an_error_says_where_it_happened() -> None:
    """Work, candidate and round."""
    runs = Runs([Run("relay", "c", 2, errors=("lost 1 of 5 messages",))])

    assert runs.errors == ["relay: c, round 2: lost 1 of 5 messages"]
