"""Which pieces of a long window are still to be read, when some were read before and others half. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from evalforge.core.ports import Checkpoint, Coverage
from evalforge.core.window import Window, epoch_ms

MAX_WORKERS = 8
"""How many slices of one source are read at once, at most."""

SLOT_TIERS = tuple(f"backfill.slot-{number}" for number in range(MAX_WORKERS))
"""The tiers under which the slices that are under way keep their places."""

PROGRESS_LIFETIME = timedelta(days=7)
"""How long what was read counts as read. Evaluations and feedback arrive meanwhile: later it is read again."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A window to be read in one go, from `after` on when somebody began it."""

    window: Window
    after: Checkpoint | None = None


def beyond(windows: Iterable[Window], taken: Iterable[Window]) -> list[Window]:
    """What remains of `windows` after `taken` is taken away."""
    rest = list(windows)
    for one in taken:
        rest = [part for window in rest for part in window.without(one)]
    return rest


def within(windows: Iterable[Window], bounds: Window) -> list[Window]:
    """What of `windows` lies in `bounds`."""
    return [
        Window(max(window.from_ms, bounds.from_ms), min(window.to_ms, bounds.to_ms))
        for window in windows
        if window.from_ms < bounds.to_ms and bounds.from_ms < window.to_ms
    ]


def valid_coverage(coverage: Coverage | None, source: str, query_digest: str, now: datetime) -> Coverage:
    """What counts as read of a source: nothing when the settings have changed since, or when it is too long ago."""
    if coverage is None or coverage.query_digest != query_digest or now - coverage.saved_at > PROGRESS_LIFETIME:
        return Coverage(source, query_digest, now)
    return coverage


def slices_left(
    asked: Window, coverage: Coverage, slots: Iterable[Checkpoint], length_ms: int, now: datetime
) -> list[Slice]:
    """What to read of `asked`, in order: first slices that were begun, then the rest, cut every `length_ms`, oldest first.

    They overlap neither each other nor what `coverage` has. A place counts as long as coverage does.
    """
    oldest_ms = epoch_ms(now - PROGRESS_LIFETIME)
    taken = list(coverage.windows)
    begun = []
    for slot in slots:
        is_valid = (
            not slot.done
            and slot.query_digest == coverage.query_digest
            and (slot.began_ms or 0) >= oldest_ms
            and asked.covers(slot.window)
            and not within(taken, slot.window)
        )
        if is_valid:
            begun.append(Slice(slot.window, slot))
            taken.append(slot.window)
    begun.sort(key=lambda one: one.window)
    return [*begun, *(Slice(piece) for rest in beyond([asked], taken) for piece in rest.slices(length_ms))]


def slice_count(windows: Sequence[Window], length_ms: int) -> int:
    """How many slices of that length these windows are cut into."""
    return sum(len(window.slices(length_ms)) for window in windows)
