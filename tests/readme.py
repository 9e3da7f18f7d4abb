"""The README files as tests read them: commands, examples, tables, links."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: How the tables write that there is no default.
NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Readme:
    """One of them, by its path below the project's folder."""

    path: str

    @property
    def text(self) -> str:
        """What stands in it."""
        return (ROOT / self.path).read_text()

    def blocks(self, language: str) -> list[str]:
        """Return its code blocks in one language."""
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    def block_with(self, text: str) -> str:
        """Return the one block of Python in which this stands."""
        (block,) = (each for each in self.blocks("python") if text in each)
        return block

    def commands(self) -> list[str]:
        """Return the lines of all `sh` blocks without their comments."""
        lines = [line for block in self.blocks("sh") for line in block.splitlines()]
        return [re.sub(r" {2,}# .*", "", line) for line in lines]

    def files(self) -> dict[str, str]:
        """Return the files that a reader is to write: their path, and text."""
        file = r"^`([\w/.]+)`:\n\n```python\n(.*?)^```$"
        return dict(re.findall(file, self.text, re.MULTILINE | re.DOTALL))

    def rows(self, heading: str) -> list[list[str]]:
        """Return the cells of the table that begins with this row."""
        table = self.text.split(f"{heading}\n", 1)[1].split("\n\n", 1)[0]
        return [
            [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
            for line in table.splitlines()[1:]
        ]

    def section(self, heading: str) -> str:
        """Return what stands below a heading of the second level."""
        return self.text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]

    @property
    def prose(self) -> str:
        """All that is no code block."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    def links(self) -> list[tuple[str, str]]:
        """Return where its relative links lead: a path below the project's folder, an anchor."""
        targets = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", self.prose)
        folder = (ROOT / self.path).parent
        return [
            (str(path.relative_to(ROOT)), anchor)
            for target, anchor in targets
            for path in [(folder / target).resolve() if target else ROOT / self.path]
        ]

    def anchors(self) -> set[str]:
        """Return what GitHub makes of its headings."""
        headings = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


FIRST = Readme("README.md")
LIBRARY = Readme("shared/README.md")
OPERATING = Readme("deploy/README.md")
TESTS = Readme("tests/README.md")
SWARM = Readme("deploy/swarm/README.md")
KUBERNETES = Readme("deploy/kubernetes/README.md")
READMES = (FIRST, LIBRARY, OPERATING, TESTS, SWARM, KUBERNETES)
#: What is no README, but leads to them.
BESIDE = (Readme("CONTRIBUTING.md"), Readme("SECURITY.md"))


def run_by_tests() -> set[str]:
    """Return the commands that tests say they run, by the marker `runs`."""
    marks = re.compile(r"^@pytest\.mark\.runs\((.*?)\)$", re.MULTILINE | re.DOTALL)
    return {
        command
        for path in (ROOT / "tests").rglob("test_*.py")
        for arguments in marks.findall(path.read_text())
        for command in ast.literal_eval(f"[{arguments}]")
    }
