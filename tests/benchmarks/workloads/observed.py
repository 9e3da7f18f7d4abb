"""The relay with nobody who looks, and with an open board that is scraped too: what does it cost?

In turns, and each round begins with the other one: who is second finds a machine that has worked.
The board runs only while it is watched: by what a browser has open, its stream of events, and by a
scrape of /metrics every five seconds, as Prometheus does it.
"""

import json
import threading
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.benchmarks.candidates import Candidate, ours
from tests.benchmarks.relay import Work
from tests.benchmarks.rig import Rig
from tests.support import images
from tests.support.containers import AS_A_STAGE, Image
from tests.waiting import wait_until

NAME = "relay, 16 B, quorum, observed or not"
ALONE, OBSERVED = "ours, nobody looks", "ours, observed"

_SCRAPE_SECONDS = 5.0
_BOOT_SECONDS = 60.0
_ANSWER_SECONDS = 30.0
#: For some ten seconds, in which the board looks five times.
_MESSAGES, _QUICK_MESSAGES = 250_000, 60_000


def measure(rig: Rig) -> None:
    """Measure both in each round."""
    with rig.progress.doing("building the board"):
        images.build_stages("board")
    alone, observed = replace(ours(), name=ALONE), replace(ours(), name=OBSERVED)
    for number in range(1, rig.options.rounds + 1):
        for candidate in (alone, observed) if number % 2 else (observed, alone):
            what = f"{NAME}: {candidate.name}, round {number} of {rig.options.rounds}"
            with rig.progress.doing(what):
                _measure(rig, candidate, number)


def _measure(rig: Rig, candidate: Candidate, number: int) -> None:
    messages = _QUICK_MESSAGES if rig.options.quick else _MESSAGES
    if candidate.name == ALONE:
        run = rig.relay.run(candidate, Work(), messages, number)
    else:
        with Observer(rig) as observer:
            run = rig.relay.run(candidate, Work(), messages, number)
        run = replace(run, errors=(*run.errors, *observer.errors()))
    rig.record(replace(run, work=NAME))


class Observer:
    """A board, somebody who has it open, and somebody who scrapes it, for the time of a `with`."""

    def __init__(self, rig: Rig) -> None:
        """Start the board, and log in."""
        ports = {"8080": ("127.0.0.1", None)}
        self._board = rig.containers.run(
            Image(images.stage("board")), rig.broker.environment, **AS_A_STAGE, ports=ports
        )
        self._url = f"http://127.0.0.1:{self._board.port(8080)}"
        self._login = {
            "user": rig.broker.environment["RABBITMQ_USERNAME"],
            "password": rig.broker.environment["RABBITMQ_PASSWORD"],
        }
        self._pictures = self._scrapes = 0
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._watch, self._scrape)
        ]

    def __enter__(self) -> Self:
        """Begin to look; a first picture has come then."""
        wait_until(self._is_up, _BOOT_SECONDS, lambda: f"the board is up\n{self._board.log()}")
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self._pictures, _ANSWER_SECONDS, "the board shows something")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End."""
        self._is_over.set()
        self._board.stop()
        for thread in self._threads:
            thread.join()
        self._board.remove()

    def errors(self) -> list[str]:
        """Say what has not been looked at: such a run tells nothing."""
        return [
            f"no {what} from the board"
            for what, number in (("picture", self._pictures - 1), ("scrape", self._scrapes))
            if number < 1
        ]

    def _is_up(self) -> bool:
        try:
            with urlopen(self._url, timeout=_ANSWER_SECONDS):  # noqa: S310 - http
                return True
        except (URLError, OSError):
            return False

    def _watch(self) -> None:
        request = Request(  # noqa: S310 - http
            f"{self._url}/api/login",
            json.dumps(self._login).encode(),
            {"content-type": "application/json"},
        )
        with urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - http
            cookie = answer.headers["set-cookie"].partition(";")[0]
        events = Request(f"{self._url}/api/events", headers={"cookie": cookie})  # noqa: S310 - http
        with urlopen(events, timeout=_ANSWER_SECONDS) as stream:  # noqa: S310 - http
            for line in stream:
                self._pictures += line == b"event: picture\n"

    def _scrape(self) -> None:
        is_over = False
        while not is_over:
            with urlopen(f"{self._url}/metrics", timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - http
                self._scrapes += answer.read().endswith(b"# EOF\n")
            is_over = self._is_over.wait(_SCRAPE_SECONDS)
