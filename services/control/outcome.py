"""What has become of the dead letters that were to be replayed or purged."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from rabbit import RabbitError
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.terminal import counted, escape, visible
from rabbit.topology import Edge

from .cli import Format
from .filters import Filter


class Outcome:
    """Counts, for people and for programs.

    Attributes:
        done: how many of each queue it was done to.
        stays: how many stay, by queue and reason.
    """

    def __init__(self, chosen: Filter, verb: str, noun: str, form: Format) -> None:
        """Begin with none.

        Args:
            chosen: which were asked for.
            verb: what is done, in the past tense.
            noun: what is counted then.
            form: for whom to print.
        """
        self.done: Counter[str] = Counter()
        self.stays: Counter[tuple[str, str]] = Counter()
        self._filter = chosen
        self._verb = verb
        self._noun = noun
        self._form = form
        self._found: set[str] = set()

    def selects(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is meant, and note which of the ids there are."""
        meant = self._filter.matches(letter)
        if meant and self._filter.ids:
            self._found.add(letter.id)
        return meant

    def tell(self) -> None:
        """Print it; end with 1 when not all that was asked for is done."""
        self._tell_done()
        missing = self._missing
        if self._form is Format.TABLE:
            for (name, why), number in self.stays.items():
                stay = f"{counted(number, 'dead letter')} {'stays' if number == 1 else 'stay'}"
                typer.echo(f"{stay} in {escape(Edge(name).dead)}: {visible(why)}", err=True)
            if missing:
                typer.echo(f"control: {no_such(missing)}", err=True)
        if self.stays or missing:
            raise typer.Exit(1)

    @contextmanager
    def told_if_cut_short(self) -> Iterator[None]:
        """Print what was done so far when it ends with an error; what it ended in says the rest."""
        try:
            yield
        except RabbitError:
            if self.done:
                self._tell_done()
            raise

    def _tell_done(self) -> None:
        """Print what was done so far."""
        if self._form is Format.JSON:
            stays = [
                {"queue": queue, "reason": reason, "count": number}
                for (queue, reason), number in sorted(self.stays.items())
            ]
            told = {self._verb: +self.done, "stays": stays, "not_found": self._missing}
            typer.echo(json.dumps(told, indent=2))
            return
        parts = ", ".join(
            f"{number} {escape(queue)}" for queue, number in sorted(self.done.items()) if number
        )
        total = counted(self.done.total(), self._noun)
        typer.echo(f"{self._verb} {total}{': ' if parts else ''}{parts}")

    @property
    def _missing(self) -> list[str]:
        return sorted(set(self._filter.ids) - self._found)


def no_such(ids: list[str]) -> str:
    """Say that there are no dead letters with these ids."""
    return f"there is no such dead letter: {', '.join(map(escape, ids))}; see dead-letters list"
