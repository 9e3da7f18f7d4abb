"""How much later than DRAIN_TIMEOUT a process ends that hangs: what README promises."""

from rabbit.control.messages import LAST_WORDS_SECONDS
from rabbit.runtime.watchdog import FLUSH_SECONDS, LAST_RESORT_SECONDS, MARGIN_SECONDS
from tests.readme import LIBRARY


def test_what_is_promised_is_what_the_watchdog_counts() -> None:
    """That it does end the process then, test_hanging.py shows; here is when."""
    with_a_line = LAST_WORDS_SECONDS + MARGIN_SECONDS + FLUSH_SECONDS
    without = LAST_WORDS_SECONDS + MARGIN_SECONDS + LAST_RESORT_SECONDS

    promised = " ".join(LIBRARY.text.split())
    assert (with_a_line, without) == (6, 7)
    assert "Its watchdog ends the process six seconds later, with one line" in promised
    assert "seven seconds later, with 1 and without that line" in promised
