"""How a run tells what it counts and how long things take: to whom, and whether to anybody, is decided outside.

Nothing that is told may hold text of a span: numbers, and attributes with the values that `telemetry.instruments` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Told(Protocol):
    """A stretch of work under way: what becomes known of it while it lasts."""

    def note(self, **attributes: str | int | float) -> None:
        """Adds what is known now, as the table of stretches names it; anything else is left out."""
        ...

    def failed(self, code: str) -> None:
        """Says that the work did not come to its end, and the code of the reason."""
        ...


class Telemetry(Protocol):
    """Takes numbers by the names of the table of instruments, from any thread; it never raises for a value.

    An attribute whose value is not in the table counts as `other`.
    """

    def add(self, name: str, amount: float = 1, **attributes: str) -> None:
        """Adds to a counter, 0 or more."""
        ...

    def put(self, name: str, value: float, **attributes: str) -> None:
        """Sets a gauge, or of an age the moment (epoch, seconds) that it is counted from."""
        ...

    def observe(self, name: str, value: float, **attributes: str) -> None:
        """Adds one value to a histogram."""
        ...

    def stretch(self, name: str, **attributes: str | int | float) -> AbstractContextManager[Told]:
        """A stretch of work: it lasts as long as the block, and lies within the one around it."""
        ...


class _Silence:
    """Telemetry that nobody hears."""

    def add(self, name: str, amount: float = 1, **attributes: str) -> None:
        """Nothing."""

    def put(self, name: str, value: float, **attributes: str) -> None:
        """Nothing."""

    def observe(self, name: str, value: float, **attributes: str) -> None:
        """Nothing."""

    @contextmanager
    def stretch(self, name: str, **attributes: str | int | float) -> Iterator[Told]:
        """Nothing."""
        yield self

    def note(self, **attributes: str | int | float) -> None:
        """Nothing."""

    def failed(self, code: str) -> None:
        """Nothing."""


SILENCE: Telemetry = _Silence()
"""Where nobody listens."""
