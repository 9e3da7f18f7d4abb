"""Entries of docker-compose.yml, as they stand there."""

import re

_IN_ONE_LINE = re.compile(r"^    environment: \{ <<: \*settings, (.*) \}$", re.MULTILINE)


def block_style(text: str) -> str:
    """Return it with a line for each variable, also where `make stage` has put them into one."""
    return _IN_ONE_LINE.sub(
        lambda found: "    environment:\n      " + found[1].replace(", ", "\n      "), text
    )
