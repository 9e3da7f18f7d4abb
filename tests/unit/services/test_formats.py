"""Who prints for people prints for programs too: `--format json`, with every command of control."""

from collections.abc import Iterator
from typing import Any

import typer

from services.control.__main__ import app

#: What these print is a document of their own; deploy/README.md names them.
DOCUMENTS = {"dead-letters export", "definitions", "sbom", "secure"}


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all commands with their names, those of groups within too."""
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, f"{name} ")
        else:
            yield f"{before}{name}", each


def test_each_command_prints_json_if_asked() -> None:
    """But for those that print a document of their own."""
    listed = dict(commands(typer.main.get_command(app)))

    without = {
        name
        for name, each in listed.items()
        if not any("--format" in parameter.opts for parameter in each.params)
    }

    assert "halt" in listed
    assert without == DOCUMENTS
