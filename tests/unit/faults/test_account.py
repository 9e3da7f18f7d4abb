"""What became of numbered messages."""

from tests.faults.account import Account

ID, OTHER = "4a3c9c7e-6d0f-5a55-9a39-0b6f2f1f6f0e", "5b3c9c7e-6d0f-5a55-9a39-0b6f2f1f6f0e"


def _account(*lines: str) -> Account:
    account = Account()
    account.told(["sent A 0 3", "confirmed A 0 2", "sent A 3 5"])
    account.arrived(lines)
    return account


def test_counts_what_was_sent_and_confirmed() -> None:
    """A batch that is only sent is not confirmed."""
    account = _account()

    assert (account.sent, account.confirmed) == (5, 2)


def test_only_what_was_confirmed_can_be_lost() -> None:
    """Of what is unknown to the source, nothing is missed."""
    assert _account().lost == ["A-0", "A-1"]
    assert _account(f"{ID} A-1").lost == ["A-0"]


def test_what_was_sent_is_expected() -> None:
    """A message whose confirm never came may arrive; others may not."""
    account = _account(f"{ID} A-4", f"{ID} A-5", f"{ID} B-0", f"{ID} nonsense")

    assert account.unexpected == ["A-5", "B-0", "nonsense"]


def test_duplicates_have_the_same_id() -> None:
    """Each arrival after the first counts; one with another id is named."""
    account = _account(f"{ID} A-0", f"{ID} A-0", f"{OTHER} A-0", f"{OTHER} A-1")

    assert account.duplicated == 2
    assert account.changed == ["A-0"]


def test_runs_are_kept_apart() -> None:
    """The same number of another process is another message."""
    account = _account(f"{ID} A-0")
    account.told(["sent B 0 1", "confirmed B 0 1"])

    assert account.lost == ["A-1", "B-0"]


def test_progress() -> None:
    """What arrives is beyond a progress when it was sent later, or by another run."""
    account = _account(f"{ID} A-4")

    assert account.progress == {"A": 5}
    assert account.is_beyond({"A": 4})
    assert not account.is_beyond({"A": 5})
    assert account.is_beyond({})
