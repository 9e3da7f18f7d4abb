"""Variations of one test: `make test` runs the first of a row, `make test-faults` all of them."""

from collections.abc import Iterable
from typing import Any

import pytest


def variations(values: Iterable[Any], first: int = 1) -> list[Any]:
    """Mark all but the first ones as thorough.

    Args:
        values: as `pytest.mark.parametrize` takes them; the most telling one comes first.
        first: how many of them `make test` runs.
    """
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=pytest.mark.thorough if number >= first else (),
        )
        for number, value in enumerate(values)
    ]
