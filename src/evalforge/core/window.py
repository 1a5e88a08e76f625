"""Windows of time, half-open, in epoch milliseconds: what a run asks a source for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

MS_PER_HOUR = 3_600_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The spans that began at or after `from_ms` and before `to_ms` (epoch milliseconds, UTC).

    Raises:
        ValueError: when the window is empty or runs backwards.
    """

    from_ms: int
    to_ms: int

    def __post_init__(self) -> None:
        if self.from_ms >= self.to_ms:
            raise ValueError(f"a window must end after it begins: from {self.from_ms} ms to {self.to_ms} ms")

    @classmethod
    def last_hours(cls, hours: float, now: datetime) -> Window:
        """The window of `hours` hours that ends at `now` (an aware datetime)."""
        to_ms = epoch_ms(now)
        return cls(to_ms - round(hours * MS_PER_HOUR), to_ms)

    @property
    def duration_ms(self) -> int:
        """How long the window is, in milliseconds; at least 1."""
        return self.to_ms - self.from_ms

    def covers(self, other: Window) -> bool:
        """Whether every instant of `other` lies in this window."""
        return self.from_ms <= other.from_ms and other.to_ms <= self.to_ms

    def without(self, covered: Window) -> list[Window]:
        """What remains of this window after `covered` is taken away: none, one or two windows, in order of time."""
        if covered.to_ms <= self.from_ms or self.to_ms <= covered.from_ms:
            return [self]
        rest = []
        if self.from_ms < covered.from_ms:
            rest.append(Window(self.from_ms, covered.from_ms))
        if covered.to_ms < self.to_ms:
            rest.append(Window(covered.to_ms, self.to_ms))
        return rest

    def slices(self, length_ms: int) -> list[Window]:
        """This window cut where `length_ms` divides the time since the epoch: the same cuts for every window.

        Raises:
            ValueError: when `length_ms` is not positive.
        """
        if length_ms <= 0:
            raise ValueError(f"a slice has a length: got {length_ms} ms")
        edges = range((self.from_ms // length_ms + 1) * length_ms, self.to_ms, length_ms)
        return [Window(began, ended) for began, ended in pairwise((self.from_ms, *edges, self.to_ms))]

    def __str__(self) -> str:
        return f"{iso_ms(self.from_ms)}/{iso_ms(self.to_ms)}"


def joined(windows: Iterable[Window]) -> tuple[Window, ...]:
    """The fewest windows that cover the same instants, ascending."""
    rest: list[Window] = []
    for window in sorted(windows):
        if rest and window.from_ms <= rest[-1].to_ms:
            rest[-1] = Window(rest[-1].from_ms, max(rest[-1].to_ms, window.to_ms))
        else:
            rest.append(window)
    return tuple(rest)


def epoch_ms(instant: datetime) -> int:
    """The aware datetime `instant` as whole milliseconds since the Unix epoch.

    Raises:
        ValueError: when `instant` has no time zone.
    """
    if instant.tzinfo is None:
        raise ValueError("a time without a time zone is ambiguous; add Z or an offset")
    delta = instant - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def datetime_of_ms(ms: int) -> datetime:
    """Epoch milliseconds as an aware UTC datetime."""
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


def iso_ms(ms: int) -> str:
    """Epoch milliseconds as ISO 8601 in UTC with millisecond precision, such as `2026-11-23T06:26:00.813Z`."""
    return datetime_of_ms(ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
