"""Outputs to an ordered edge: of each key, at most one is under way at a time."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from rabbit.errors import PublishError
from rabbit.messaging.publisher import Owner, Publication, Publisher
from rabbit.output import Output


class KeyedPublisher(Publisher[Owner]):
    """Publishes the next output of a key when a queue has taken the one before.

    What is nacked, returned or lost with a connection is published again; if others of its key were
    under way, they would come before it.
    """

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 - as of a Publisher
        on_nacked: Callable[[Publication[Owner], PublishError], None],
        **given: Any,  # noqa: ANN401
    ) -> None:
        """Publish to an edge of kind ordered; see `Publisher`."""
        #: By key: what waits for the one of this key that is under way.
        self._behind: dict[str | None, deque[Publication[Owner]]] = {}

        def nacked(publication: Publication[Owner], error: PublishError) -> None:
            on_nacked(publication, error)
            if not any(each is publication for each in self._nacked):  # it is not published again
                self._follow(publication)
                self._connection.call_later(0, self.pump)

        super().__init__(*arguments, on_nacked=nacked, **given)

    @property
    def pending(self) -> int:
        """Count the outputs that are not confirmed."""
        return super().pending + sum(map(len, self._behind.values()))

    def put(self, outputs: Iterable[Output], owner: Owner) -> None:
        """Publish with the next `pump`, or after those of the same key."""
        firsts = []
        for output in outputs:
            behind = self._behind.get(output.key)
            if behind is None:
                self._behind[output.key] = deque()
                firsts.append(output)
            else:
                behind.append((output, owner))
        super().put(firsts, owner)

    def _confirm(self, publications: list[Publication[Owner]]) -> None:
        super()._confirm(publications)
        for publication in publications:
            self._follow(publication)

    def _follow(self, publication: Publication[Owner]) -> None:
        """Publish the next of this key with the next `pump`."""
        key = publication[0].key
        behind = self._behind.get(key)
        if behind:
            output, owner = behind.popleft()
            super().put([output], owner)
        elif behind is not None:
            del self._behind[key]

    def take_stuck(self) -> list[Owner]:
        """Let go of what the broker does not take, and of what waits behind that, of any key."""
        if self.is_flowing:
            return []
        stuck = super().take_stuck()
        stuck += [owner for behind in self._behind.values() for _, owner in behind]
        self._behind = {publication[0].key: deque() for publication in self._unconfirmed}
        self._forget_refusal()
        return stuck

    def discard(self, is_unwanted: Callable[[Owner], bool]) -> None:
        """Drop what is not under way, of owners whose outputs are not wanted any more."""
        for key, behind in self._behind.items():
            self._behind[key] = deque(each for each in behind if not is_unwanted(each[1]))
        dropped = [each for each in (*self._waiting, *self._nacked) if is_unwanted(each[1])]
        super().discard(is_unwanted)
        for publication in dropped:
            self._follow(publication)
        if dropped:
            self._connection.call_later(0, self.pump)
