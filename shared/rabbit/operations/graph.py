"""The pipeline as a drawing in Mermaid: stages, the edges between them, what is in these. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from rabbit.operations.compose import DeclaredStage
from rabbit.operations.management import Depth
from rabbit.terminal import counted, visible
from rabbit.topology import Edge


def graph(
    stages: Iterable[DeclaredStage], depths: Mapping[str, Depth], consumers: Mapping[str, int]
) -> str:
    """Return a flowchart.

    Args:
        stages: those of the Compose file; whoever draws it finds the order of the flow.
        depths: what each queue holds, with its retries and dead letters.
        consumers: how many each queue has.
    """
    drawing = _Drawing(list(stages), depths, consumers)
    return "\n".join(["flowchart LR", *(f"    {line}" for line in drawing.lines())])


class _Drawing:
    """Knows by which short name each box is called."""

    def __init__(
        self,
        stages: list[DeclaredStage],
        depths: Mapping[str, Depth],
        consumers: Mapping[str, int],
    ) -> None:
        self._stages = stages
        self._depths = depths
        self._consumers = consumers
        self._names: dict[tuple[str, str], str] = {}

    def lines(self) -> Iterator[str]:
        for stage in self._stages:
            yield f'{self._name("stage", stage.name)}["{_text(stage.name, self._kind(stage))}"]'
        read = set()
        for stage in self._stages:
            edge = stage.input()
            if edge:
                read.add(edge.name)
                yield from self._queue(edge)
                yield f"{self._name('queue', edge.queue)} --> {self._name('stage', stage.name)}"
        for stage in self._stages:
            if stage.output:
                yield from self._writing(
                    stage.name, stage.output, is_read=stage.output.name in read
                )

    def _kind(self, stage: DeclaredStage) -> str:
        edge = stage.input()
        if edge is None:
            return "source"
        read = [edge.census.name] if edge.is_ordered else self._queues(edge)
        number = sum(self._consumers.get(queue, 0) for queue in read)
        return counted(number, "consumer") if number else "nobody consumes"

    def _queue(self, edge: Edge) -> Iterator[str]:
        """Draw what a stage reads, once; of a broadcast edge, what all of its replicas have."""
        if ("queue", edge.queue) in self._names:
            return
        known = [self._depths[queue] for queue in self._queues(edge) if queue in self._depths]
        held = _held(known) if known else "is not there"
        yield f'{self._name("queue", edge.queue)}[("{_text(edge.queue, held)}")]'

    def _writing(self, stage: str, output: Edge, *, is_read: bool) -> Iterator[str]:
        """Draw where a stage writes to: the queue itself, or an exchange with queues behind it."""
        name = self._name("stage", stage)
        readers = [
            edge for each in self._stages if (edge := each.input()) and edge.name == output.name
        ]
        if output.kind in {"work", "ordered"}:
            if not is_read:
                yield from self._queue(output)
            yield f"{name} --> {self._name('queue', output.queue)}"
            return
        if ("exchange", output.name) not in self._names:
            box = self._name("exchange", output.name)
            yield f'{box}(["{_text(output.name, output.kind)}"])'
            for edge in readers:
                keys = f'|"{_text(", ".join(edge.keys))}"|' if edge.keys else ""
                yield f"{box} -->{keys} {self._name('queue', edge.queue)}"
        yield f"{name} --> {self._name('exchange', output.name)}"

    def _queues(self, edge: Edge) -> list[str]:
        """Return the queue of an edge; where each replica has one of its own, all of these."""
        if not edge.private:
            return [edge.queue]
        begin = edge.queue.removesuffix("*")
        return [name for name in self._depths if name.startswith(begin)]

    def _name(self, kind: str, name: str) -> str:
        """Return a short name: Mermaid takes some words, such as `end`, for its own."""
        return self._names.setdefault((kind, name), f"{kind}{len(self._names) + 1}")


def _held(depths: Iterable[Depth]) -> str:
    """Say what a queue holds; what there is none of is left out, but for what waits."""
    depths = list(depths)
    ready = sum(each.ready for each in depths)
    others = {
        "in flight": sum(each.in_flight for each in depths),
        "retrying": sum(each.retrying for each in depths),
        "dead": sum(each.dead_letters for each in depths),
    }
    return ", ".join([f"{ready} ready", *(f"{n} {what}" for what, n in others.items() if n)])


def _text(*lines: str) -> str:
    """Return lines as Mermaid takes them within quotes; a name draws nothing of its own."""
    return "<br>".join(_escaped(each) for each in lines)


def _escaped(text: str) -> str:
    return "".join(
        each if each.isalnum() or each in " _-.,:*" else f"#{ord(each)};" for each in visible(text)
    )
