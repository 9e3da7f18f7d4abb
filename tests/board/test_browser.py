"""The board in a real browser: what people see there, and what they do."""

import re
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.board.conftest import ACTS, LOOKS, PASSWORD, RunningBoard
from tests.broker import Broker
from tests.conftest import Start
from tests.support.containers import frozen

if TYPE_CHECKING:
    from tests.board.browser import Window

pytestmark = pytest.mark.board

Windows = Callable[..., "Window"]

#: The stages or queues that have the tag; the labels of buttons; where lines begin.
GIVEN_UP = """
return [...document.querySelectorAll('.flow .tag.wrong')]
  .filter(each => each.innerText.endsWith('given up'))
  .map(each => each.parentElement.firstChild.textContent)
"""
DANGEROUS = "return [...document.querySelectorAll('main button.danger')].map(b => b.innerText)"
LEFT_END = """
return [...document.querySelectorAll('.spark .stroke')]
  .map(each => each.getAttribute('d').split(' ')[0])
"""

HOSTILE = "reject <img src=x onerror=document.title='pwned'> \u202e \x1b[2J"


class Line:
    """The pipeline of the README, slow enough to be watched: its processes, and its broker."""

    def __init__(self, broker: Broker, start: Start, vhost: str, board: RunningBoard) -> None:
        """Start it: three of the first stage, which may fail, and a slow printer."""
        self.broker, self.vhost, self.board = broker, vhost, board
        edges: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "RETRY_DELAYS": "2"}
        for name in ("1b0ad5cf6fa4", "52e4e6c1a0d3", "c71f0a8f9b26"):
            start(
                "-m", "tests.integration.stages.fallible", STAGE="to_upper", REPLICA=name,
                INPUT_QUEUE="my_queue", OUTPUT_QUEUE="upper", **edges,
            )  # fmt: skip
        start(
            "-m", "services.printer", STAGE="printer", REPLICA="8c2c0b7d9e31",
            INPUT_QUEUE="upper", PRINTER_DELAY=0.05, **edges,
        )  # fmt: skip

    def publish(self, *texts: str) -> None:
        """Publish to the first queue."""
        self.broker.put("my_queue", texts, self.vhost)

    def visit(self, window: "Window", user: str) -> "Window":
        """Log in."""
        window.log_in(self.board.url_in_browser, user, PASSWORD)
        window.see("Stages and queues")
        return window


@pytest.fixture
def line(broker: Broker, start: Start, vhost: str, board: RunningBoard) -> Line:
    """Have a pipeline and its board."""
    return Line(broker, start, vhost, board)


def test_who_comes_new_sees_where_it_is_slow_and_why_messages_were_given_up(
    line: Line, window: Windows
) -> None:
    """In words, within a minute; the policy has had nothing to refuse."""
    line.publish("reject no such customer: 4711", "lookup EUR", "lookup USD", "fail")
    line.publish(*(f"line {number}" for number in range(1600)))
    page = window()
    page.open(line.board.url_in_browser)
    page.see("Log in")
    page.picture("login")
    line.visit(page, ACTS)
    page.see("printer is behind, caught up in about", seconds=60)
    page.see("4 messages were given up: see Dead letters.")
    page.see("It is the bottleneck: ")
    page.see("KeyError")
    page.see("no such customer: 4711")
    page.see("ValueError")
    phone = line.visit(window(width=360, height=740, dark=True), LOOKS)
    phone.see("KeyError")
    _watch(page, 25)
    page.picture("light")
    phone.picture("phone")  # of the same moment: both are in the README
    told = page.run(GIVEN_UP)
    assert told == ["to_upper"], "it stands where they were given up, not where they came from"
    assert page.run(DANGEROUS) == ["Drain all", "Halt all", *["Purge all"] * 3]
    assert page.run(LEFT_END) == ["M0.0"] * 4, "a line begins at the left, however short it is"
    assert re.search(r"last \d+ s\b", page.text), "and says how much it shows"
    assert re.search(r"as of \d\d:\d\d:\d\d", page.find("#bar").text)
    assert "since start · " in page.text
    assert "besides, 5 failures (1 tried again, 4 given up)" in page.text
    assert "to_upper gave up 4 messages of my_queue" in page.text
    assert "ready, the oldest for" in page.text
    assert page.complaints == []


def test_on_a_phone_in_the_dark_with_the_keyboard(line: Line, window: Windows) -> None:
    """Nothing is wider than the screen, and who may look is shown no button that acts."""
    line.publish("reject no such customer: 4711", *(f"line {number}" for number in range(1600)))
    page = window(width=360, height=740, dark=True)
    page.open(line.board.url_in_browser)
    page.see("Log in")
    page.keys(LOOKS, Keys.TAB, PASSWORD, Keys.ENTER)
    page.see("printer is behind")
    page.see("Reject")
    page.see("1 message was given up: see Dead letters.")
    page.keys(Keys.TAB, Keys.TAB, Keys.ENTER)  # past what the headline leads to
    assert page.run("return document.querySelector('details').open"), "the first stage unfolds"
    page.see("1b0ad5cf6fa4")
    page.keys(Keys.ENTER)
    page.run("document.activeElement.blur()")
    assert page.run("return document.documentElement.scrollWidth") == 360
    buttons = page.run("return [...document.querySelectorAll('button')].map(b => b.innerText)")
    assert {"Halt", "Drain", "Replay all", "Halt all"} & set(buttons) == set()
    page.press("Show Reject of my_queue")
    page.press("my_queue-0")
    page.see("How it came here")
    assert page.run("return document.documentElement.scrollWidth") == 360
    page.picture("phone-letter", whole=False)
    page.keys(Keys.ESCAPE)
    page.wait(lambda: "How it came here" not in page.text, "the letter is closed")
    assert page.complaints == []


def test_a_hostile_message_is_read_and_goes_back(line: Line, window: Windows) -> None:
    """It is text; what is chosen is replayed after a question, and what came of it is told."""
    line.publish(HOSTILE, "reject me too", '{"json": "is no command"}')
    page, other = line.visit(window(), ACTS), line.visit(window(), LOOKS)
    for each in (page, other):
        each.see("2 new since you looked")
    page.press("Show Reject of my_queue")
    page.press("my_queue-0")
    page.see("How it came here")
    page.picture("letter", whole=False)
    page.press("Text")
    page.see(r"<img src=x onerror=document.title='pwned'> \u202e \x1b[2J")
    page.press("Hex")
    page.see("000000  72 65 6a 65 63 74")
    assert page.run("return document.title") == "Pipeline"
    page.press("Close")

    page.run("document.querySelector('input[value=\"my_queue-1\"]').click()")
    page.press("Purge the 1 message chosen of my_queue")
    page.see("They are deleted for good.")
    page.keys(Keys.ESCAPE)
    assert line.broker.depth("my_queue.dead", line.vhost) == 2
    page.press("Purge the 1 message chosen of my_queue")
    page.see("They are deleted for good.")
    page.press("Purge")
    for each in (page, other):  # who only looks sees what was done, and by whom
        each.see(f"purge 1 dead letter of my_queue: my_queue-1 by {ACTS} — deleted 1 dead letter")
    page.press("Replay all 1 message with Reject of my_queue")
    page.press("Replay")
    page.see("replayed 1 message to my_queue")
    page.picture("log")
    assert page.complaints == []


def test_a_stage_is_paused_and_halted_and_all_are_drained(line: Line, window: Windows) -> None:
    """Each after a question, with what came of it; the halted stage stays in the picture."""
    line.publish(*(f"line {number}" for number in range(1600)))
    page = line.visit(window(), ACTS)

    page.press("Pause printer")
    page.press("Pause")
    page.see(f"pause printer by {ACTS} — paused 1/1: printer/8c2c0b7d9e31")
    page.see("printer is paused.")
    page.picture("paused")
    page.press("Resume printer")
    page.press("Resume")
    page.see("resumed 1/1")
    page.press("Halt printer")
    page.see("finishes what runs and stops")
    page.press("Leave it")
    assert line.broker.consumers("upper", line.vhost) == 1
    page.press("Halt printer")
    page.press("Halt")
    page.see(f"halt printer by {ACTS} — halted 1/1: printer/8c2c0b7d9e31")
    page.see("Nobody reads upper")
    page.press("Drain all")
    page.press("Drain")
    page.see("drain all stages", seconds=60)
    page.see("drained to_upper", seconds=60)
    page.picture("halted")
    assert f"user={ACTS}" in line.board.process.log
    assert page.complaints == []


def test_a_broker_that_is_away(line: Line, window: Windows) -> None:
    """It is said at once; what was seen stays, and the page goes on by itself."""
    page = line.visit(window(), LOOKS)
    page.see("3 running")
    with frozen(line.broker.container):
        page.see("The broker does not answer since", seconds=60)
        page.see("3 running")
        page.picture("away")
    page.wait(lambda: "does not answer" not in page.text, "it goes on", seconds=60)


#: From now on, what the page asks for at this path is refused.
REFUSE = """
const fetched = window.fetch;
const refusal = '{"error": "too many wait for the broker already"}';
window.fetch = (path, options) => String(path).startsWith(arguments[0])
  ? Promise.resolve(new Response(refusal, { status: 503 })) : fetched(path, options);
"""


def test_an_error_does_not_answer_a_question(line: Line, window: Windows) -> None:
    """It waits until the question is answered, so that nobody agrees to what they do not see."""
    page = line.visit(window(), ACTS)
    page.see("3 running")
    page.run(REFUSE, "/api/look")
    page.press("Halt all")
    page.see("finishes what runs and stops")

    page.run("document.querySelector('#letters-look').click()")  # behind the dialog

    page.run("return new Promise(done => setTimeout(done, 500))")
    assert "finishes what runs and stops" in page.text
    assert "too many wait" not in page.text
    page.press("Leave it")
    page.see("too many wait for the broker already")
    page.press("I see")
    page.press("Pause printer")
    page.see("takes no more, until it is resumed")
    page.press("Leave it")
    assert "Nothing yet." in page.text, "nothing was done"


def test_a_list_stays_as_it_is_while_somebody_chooses(line: Line, window: Windows) -> None:
    """What comes meanwhile is said, and listed when that is asked for; it is new until then."""
    line.publish("reject a", "reject b")
    page = line.visit(window(), ACTS)
    page.press("Show Reject of my_queue")
    page.see("2 messages of my_queue: Reject")
    tick = "document.querySelector('input[value=\"my_queue-1\"]')"
    page.run(f"{tick}.click()")

    line.publish("reject c")

    page.see("Others were given up since", seconds=60)
    page.see("new since you looked")
    assert page.run(f"return {tick}.checked")
    assert "2 messages of my_queue: Reject" in page.text
    page.press("Purge all 3 messages with Reject of my_queue")
    page.press("Leave it")
    page.press("Purge the 1 message chosen of my_queue")
    page.press("Purge")
    page.see("deleted 1 dead letter", seconds=60)
    page.see("2 messages of my_queue: Reject")  # what somebody has done is listed anew
    page.wait(lambda: not page.run(f"return {tick}?.checked"), "it is gone, or not ticked")
    assert "new since you looked" in page.text
    page.press("Show Reject of my_queue")
    page.wait(lambda: "new since you looked" not in page.text, "all are seen")
    assert page.complaints == []


def test_a_job_that_goes_on_leaves_the_focus_and_the_ear_alone(line: Line, window: Windows) -> None:
    """The button to cancel it keeps the focus; what is read aloud has no figures."""
    line.publish(*(f"line {number}" for number in range(1600)))
    page = line.visit(window(), ACTS)
    page.press("Drain all")
    page.press("Drain")
    page.find("#jobs-now button")
    page.run("""
        document.querySelector('#jobs-now button').focus();
        window.seen = new Set(); window.said = 0; window.lost = 0;
        new MutationObserver(() => window.said++)
          .observe(document.querySelector('#announced'), { subtree: true, childList: true });
        setInterval(() => {
          window.seen.add(document.querySelector('#jobs-now').innerText);
          if (document.activeElement.innerText !== 'Cancel') window.lost++;
        }, 50);
    """)

    page.wait(lambda: page.run("return window.seen.size") > 5, "it says how far it is")

    assert page.run("return window.lost") == 0
    assert page.run("return window.said") < 3
    page.keys(Keys.ENTER)
    page.see("cancelled after")


def test_a_page_that_is_hidden_holds_no_connection(line: Line, window: Windows) -> None:
    """A browser has six for a board: with seven tabs, each is live when it is looked at."""
    page = line.visit(window(), LOOKS)
    first = page.driver.current_window_handle
    for _ in range(6):
        page.driver.switch_to.new_window("tab")
        page.open(line.board.url_in_browser)
        page.see("3 running")
    page.driver.switch_to.window(first)
    shown = page.run("return document.querySelector('#as-of').innerText")
    page.wait(
        lambda: page.run("return document.querySelector('#as-of').innerText") != shown, "it is live"
    )


def _watch(page: "Window", seconds: float) -> None:
    """Let lines grow, for a picture of them: as long as the page's own clock says."""
    until = monotonic() + seconds
    page.wait(lambda: monotonic() > until, "time goes by", seconds=2 * seconds)
