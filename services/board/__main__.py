"""Serve the board: `python -m services.board`."""

import logging
from functools import partial
from types import FrameType

import uvicorn

from rabbit import ConfigurationError, RabbitError
from rabbit.logs import logger
from rabbit.terminal import say, visible

from .app import Board
from .connections import MOST_CONNECTIONS, BoundedConnection, Limits
from .settings import BoardSettings

#: What still answers when the board is to end has so many seconds.
_END_SECONDS = 5


class _Server(uvicorn.Server):
    """A server that lets go of those who watch before it waits for all to be answered."""

    def __init__(self, config: uvicorn.Config, board: Board) -> None:
        super().__init__(config)
        self._board = board

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """End in order, with exit code 0; a second signal ends it at once."""
        self._board.feed.end()
        self.force_exit = self.should_exit
        self.should_exit = True


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    try:
        settings = BoardSettings.load()
    except ConfigurationError as error:
        for line in str(error).splitlines():
            say(f"board: {visible(line)}")
        raise SystemExit(error.exit_code) from None
    log = logger(settings, stage="board")
    logging.basicConfig(level=logging.WARNING)
    board = Board(settings, log)
    config = uvicorn.Config(
        board.app(),
        host=settings.listen_host,
        port=settings.listen_port,
        http=partial(BoundedConnection, Limits(proxies=settings.proxies)),  # type: ignore[arg-type]
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=[str(each) for each in settings.proxies],
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=_END_SECONDS,
        ws="none",
        h11_max_incomplete_event_size=16 * 1024,
    )
    log.info("the board listens", port=settings.listen_port)
    try:
        _Server(config, board).run()
    except RabbitError as error:
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
