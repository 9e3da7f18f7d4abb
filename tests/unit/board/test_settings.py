"""By which names the board is reached, and whose word is taken for where a request comes from."""

import pytest

from rabbit import ConfigurationError
from services.board.settings import BoardSettings


def test_names_and_which_of_them_have_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its machine and of its network are its own; others are told."""
    monkeypatch.setenv("BOARD_URLS", "https://Board.example.com/, http://rack7:8080")

    settings = BoardSettings.load()

    assert settings.hosts == {"localhost", "board", "board.example.com", "rack7"}
    assert settings.secure_hosts == {"board.example.com"}


def test_nothing_has_to_be_told() -> None:
    """On one machine."""
    settings = BoardSettings.load()

    assert settings.hosts == {"localhost", "board"}
    assert settings.secure_hosts == set()
    assert settings.proxies == ()


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses and networks."""
    monkeypatch.setenv("BOARD_PROXIES", "192.0.2.7, 2001:db8::/32")

    assert list(map(str, BoardSettings.load().proxies)) == ["192.0.2.7/32", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOARD_URLS", "board.example.com"),
        ("BOARD_URLS", "https://user@board"),
        ("BOARD_URLS", "https://board:8443/path"),
        ("BOARD_PROXIES", "proxy"),
        ("BOARD_PROXIES", "10.0.0.1/8"),
    ],
)
def test_what_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """In one line with what is allowed."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"^{name}"):
        BoardSettings.load()
