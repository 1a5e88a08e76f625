"""What is tried in `make test` of what `make test-all` tries: an eighth of a property's examples, some rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

FULL = 100
"""The examples of a property that names no number, in the profile `full`."""

LEAST = 10


def register_profiles() -> None:
    """Makes the profiles `quick`, which holds unless told otherwise, and `full` (`--hypothesis-profile=full`)."""
    # How fast a machine draws its first examples (it builds tables of characters then) says nothing about the code.
    settings.register_profile("full", max_examples=FULL, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("quick", settings.get_profile("full"), max_examples=FULL // 8)
    settings.load_profile("quick")


def is_full() -> bool:
    """Whether the profile that holds is `full`: what is then tried besides examples belongs to `make test-all`."""
    return settings().max_examples >= FULL


def examples(number: int) -> settings:
    """Settings for a property that deserves `number` examples in the profile `full`."""
    return settings(max_examples=max(LEAST, number * settings().max_examples // FULL))


def one_in(step: int, rows: Iterable[Any]) -> list[Any]:
    """All the rows of a table that takes long, the first of every `step` as they are and the others marked as long."""
    return [
        row if number % step == 0 else pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=pytest.mark.long)
        for number, row in enumerate(rows)
    ]
