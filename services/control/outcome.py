"""What has become of the dead letters that were to be replayed or purged."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

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

    def __init__(
        self, chosen: Filter, verb: str, noun: str, form: Format, limit: int | None = None
    ) -> None:
        """Begin with none.

        Args:
            chosen: which were asked for.
            verb: what is done, in the past tense.
            noun: what is counted then.
            form: for whom to print.
            limit: to how many it may be done; None: all of them.
        """
        self.done: Counter[str] = Counter()
        self.stays: Counter[tuple[str, str]] = Counter()
        self._filter = chosen
        self._verb = verb
        self._noun = noun
        self._form = form
        self._found: set[str] = set()
        self._limit = limit

    def selects(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is meant, and note which of the ids there are."""
        meant = self._filter.matches(letter)
        if meant and self._filter.ids:
            self._found.add(letter.id)
        return meant

    def count(self, letter: DeadLetter, _message: object, why_not: str | None = None) -> None:
        """Count a letter to which it would be done, or why it cannot be."""
        if self.is_enough or not self.selects(letter):
            return
        if why_not is None:
            self.done[letter.queue] += 1
        else:
            self.stays[letter.queue, why_not] += 1

    def add(self, queue: str, done: int, stays: Mapping[str, int] = MappingProxyType({})) -> None:
        """Note to how many letters of a queue it was done, and why others stay."""
        self.done[queue] += done
        self.stays.update({(queue, why): number for why, number in stays.items()})

    @property
    def left(self) -> int | None:
        """How many more there may be; None: any number."""
        return None if self._limit is None else max(0, self._limit - self.done.total())

    @property
    def is_enough(self) -> bool:
        """Whether it was done to as many as it may be."""
        return self.left == 0

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
            verb = self._verb.replace(" ", "_")
            told = {verb: +self.done, "stays": stays, "not_found": self._missing}
            typer.echo(json.dumps(told, indent=2))
            return
        parts = ", ".join(
            f"{number} {escape(queue)}" for queue, number in sorted(self.done.items()) if number
        )
        total = counted(self.done.total(), self._noun)
        typer.echo(f"{self._verb} {total}{': ' if parts else ''}{parts}")

    @property
    def _missing(self) -> list[str]:
        """The ids there are none of; those behind the limit were not looked for."""
        return [] if self.is_enough else sorted(set(self._filter.ids) - self._found)


def tell_imported(done: Counter[str], refused: Counter[tuple[str, str]], form: Format) -> None:
    """Print what was imported; end with 1 when some were refused."""
    if form is Format.JSON:
        stays = [
            {"queue": queue, "reason": why, "count": number}
            for (queue, why), number in sorted(refused.items())
        ]
        typer.echo(json.dumps({"imported": done, "refused": stays}, indent=2))
    else:
        parts = ", ".join(f"{number} {escape(queue)}" for queue, number in sorted(done.items()))
        total = counted(done.total(), "dead letter")
        typer.echo(f"imported {total}{': ' if parts else ''}{parts}")
        for (queue, why), number in refused.items():
            letters = counted(number, "dead letter")
            typer.echo(f"not imported: {letters} of {escape(queue)}: {visible(why)}", err=True)
    if refused:
        raise typer.Exit(1)


def no_such(ids: list[str]) -> str:
    """Say that there are no dead letters with these ids."""
    return f"there is no such dead letter: {', '.join(map(escape, ids))}; see dead-letters list"
