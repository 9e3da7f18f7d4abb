"""One loop that asks replicas and broker, however many people look."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from time import monotonic, time
from typing import Any

from rabbit.control.client import ControlClient
from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.operations.looks import Looks
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.replicas import Replicas

from .certificates import Certificates
from .metrics import Scraped
from .picture import Drawn
from .problems import ending

#: From the end of one look to the next, in seconds: while somebody watches, and while nobody does.
WATCHED_SECONDS = 2.0
IDLE_SECONDS = 15.0

#: Who has watched is taken to watch for so many seconds.
INTEREST_SECONDS = 30.0

#: A scrape gets a look that is no older than this, and waits so long for one.
FRESH_SECONDS = 4.0
SCRAPE_SECONDS = 8.0

#: How long the broker may take to answer. Each time it has not, it is given twice as long, up to
#: the second figure: so one that is gone is told soon, and one that is slow is seen after all.
PATIENCE_SECONDS = 5.0
MOST_PATIENCE_SECONDS = 30.0

#: After so many that have come and gone, those that are there are learnt anew.
MOST_GONE = 500


class Collector:
    """Looks at the pipeline again and again, and has each look drawn."""

    def __init__(
        self, settings: ControlSettings, log: Logger, publish: Callable[[dict[str, Any]], None]
    ) -> None:
        """Do nothing yet.

        Args:
            settings: which brokers there are.
            log: told when the broker goes away and comes back.
            publish: given each picture.
        """
        self._settings = settings
        self._log = log
        self._publish = publish
        self._drawn = Drawn()
        self._picture: dict[str, Any] = {"rows": [], "problems": [], "verdict": None}
        self._away_since: float | None = None
        self._interest = 0.0
        self._looked = threading.Condition()
        self._looked_at = -IDLE_SECONDS
        self._scraped = Scraped(None)
        self._certificates = Certificates(settings)
        self._patience = PATIENCE_SECONDS
        self._wake = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End, within what a look may take."""
        self._is_over = True
        self._wake.set()
        self._thread.join(2 * PATIENCE_SECONDS)

    def scraped(self) -> Scraped:
        """Return numbers that are a few seconds old at most, and wait for a look if need be.

        However many ask, they wait for the same look.
        """
        with self._looked:
            if monotonic() - self._looked_at > FRESH_SECONDS:
                self._wake.set()
                self._looked.wait_for(
                    lambda: monotonic() - self._looked_at <= FRESH_SECONDS, SCRAPE_SECONDS
                )
            is_fresh = monotonic() - self._looked_at <= 2 * IDLE_SECONDS
            return self._scraped if is_fresh else Scraped(None)

    def _keep(self, scraped: Scraped) -> None:
        with self._looked:
            self._scraped, self._looked_at = scraped, monotonic()
            self._looked.notify_all()

    def be_watched(self) -> None:
        """Look more often for a while, beginning now if the last look is long ago."""
        was_idle = monotonic() - self._interest > INTEREST_SECONDS
        self._interest = monotonic()
        if was_idle:
            self._wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._is_over:
            try:
                self._watch()
            except RabbitError as error:
                self._patience = min(MOST_PATIENCE_SECONDS, 2 * self._patience)
                self._tell_away(str(error))
            except Exception as error:  # noqa: BLE001 - it looks again, and says so
                self._log.exception("the look at the pipeline failed: a defect of the board")
                self._tell_away(f"a defect of the board, see its log: {type(error).__name__}")
            self._pause(WATCHED_SECONDS)

    def _watch(self) -> None:
        with ExitStack() as stack:
            client = stack.enter_context(ControlClient(self._settings, self._log, self._patience))
            management = Management(self._settings, patience_seconds=self._patience)
            replicas = Replicas(client, management)
            looks = Looks(client, management, replicas)
            while not self._is_over:
                began = monotonic()
                look = looks.take()
                ends = self._certificates.ends()
                self._picture = self._drawn.draw(look, time())
                self._picture["problems"] += ending(ends, time())
                self._keep(Scraped(look, self._picture["rows"], monotonic() - began, ends))
                if self._away_since is not None:
                    self._log.info("the broker answers again")
                    self._away_since = None
                self._patience = PATIENCE_SECONDS  # of the next connection
                self._show(None)
                if sum(not each.is_there for each in replicas) > MOST_GONE:
                    replicas = Replicas(client, management)
                    looks = Looks(client, management, replicas)
                is_watched = monotonic() - self._interest < INTEREST_SECONDS
                self._pause(WATCHED_SECONDS if is_watched else IDLE_SECONDS)

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _tell_away(self, why: str) -> None:
        if self._away_since is None:
            self._away_since = time()
            self._log.warning("the pipeline cannot be looked at", reason=why)
        self._keep(Scraped(None, ends=self._scraped.ends))
        self._show(why)

    def _show(self, why: str | None) -> None:
        broker = {"why": why, "since": self._away_since}
        if why and self._away_since:
            since = datetime.now(UTC) - timedelta(seconds=time() - self._away_since)
            broker["since_text"] = f"{since:%H:%M:%S} UTC"
        self._publish({**self._picture, "broker": broker, "now": time()})
