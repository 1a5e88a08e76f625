"""What a run is to read: a window that somebody asked for, or whatever is new since the last run. Pure.

Data arrives late: a span's time is its start, the intake takes spans of a day ago, evaluations come minutes to days after
their span. So a run that reads on from the last one also reads again what lies before it, in tiers: a little each time, a
day now and then, and once a day everything that Datadog still holds, of which only evaluated spans can have changed.

A tier's window begins its overlap before its *last reading began*. So whatever arrives within the overlap after its span's
start is met: the last reading that reaches back to that span began later than that (docs/decisions/0014-late-data.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from evalforge.core.ports import LOOKBACK, Checkpoint, Reach
from evalforge.core.window import MS_PER_HOUR, Window

RETENTION_MS = 15 * 24 * MS_PER_HOUR
"""How long Datadog holds LLM Observability spans. Source: https://docs.datadoghq.com/llm_observability/"""


@dataclass(frozen=True, slots=True)
class Tier:
    """A series of windows with a checkpoint of its own.

    It is due `every_ms` milliseconds after its last reading began, and then reads `overlap_ms` further back than that.
    """

    name: str
    reach: Reach = "all"
    overlap_ms: int = 0
    every_ms: int = 0


ASKED = Tier(LOOKBACK)
RECENT = Tier("recent", overlap_ms=MS_PER_HOUR)
DAY = Tier("day", overlap_ms=26 * MS_PER_HOUR, every_ms=6 * MS_PER_HOUR)
FORTNIGHT = Tier("fortnight", "evaluated", overlap_ms=RETENTION_MS, every_ms=24 * MS_PER_HOUR)

TIERS = (RECENT, DAY, FORTNIGHT)
"""The tiers of incremental runs, in the order in which they are read: what is newest comes first."""

TIER_NAMES = tuple(tier.name for tier in (ASKED, *TIERS))


def learned_by(checkpoints: Iterable[Checkpoint]) -> tuple[str, ...]:
    """What any of these has learned about where failures are, each entry once."""
    return tuple(dict.fromkeys(entry for checkpoint in checkpoints for entry in checkpoint.learned))


PlanName = Literal["window", "since_last", "backfill"]

BACKFILL: PlanName = "backfill"
"""A window in slices, several at a time; see `core.slices`."""


@dataclass(frozen=True, slots=True)
class Due:
    """What one tier is to read of one source now: windows in order, each with the checkpoint to go on from.

    No windows: nothing is to be read, but the tier counts as read at `began_ms`. `gone` is what Datadog no longer holds and
    nobody has read.
    """

    tier: Tier
    began_ms: int
    windows: tuple[tuple[Window, Checkpoint | None], ...]
    gone: Window | None = None


class Plan(Protocol):
    """Says what is due for a source."""

    @property
    def name(self) -> PlanName:
        """What kind of run this makes."""
        ...

    def window(self, now_ms: int) -> Window:
        """The window that a report speaks of when nothing was read yet."""
        ...

    def due(self, checkpoints: Mapping[str, Checkpoint], now_ms: int) -> Sequence[Due]:
        """What to read of a source with these checkpoints, by tier, in order."""
        ...


@dataclass(frozen=True, slots=True)
class AskedWindow:
    """The plan of a run over one window; an earlier one that such a run left unfinished is finished first.

    With `reads_on` whatever lies between the two is read as well: the window ends now, as those of all such runs do.
    """

    asked: Window
    reads_on: bool = False
    name: PlanName = "window"

    def window(self, now_ms: int) -> Window:
        """The window that was asked for."""
        return self.asked

    def due(self, checkpoints: Mapping[str, Checkpoint], now_ms: int) -> Sequence[Due]:
        """One reading, of the window that was asked for."""
        checkpoint = checkpoints.get(ASKED.name)
        if checkpoint is None or checkpoint.done:
            return [Due(ASKED, now_ms, ((self.asked, None),))]
        held_from_ms = now_ms - RETENTION_MS
        wanted = self.asked
        if self.reads_on and checkpoint.window.to_ms < wanted.from_ms:
            wanted = Window(min(max(checkpoint.window.to_ms, held_from_ms), wanted.from_ms), wanted.to_ms)
        rest = [(window, None) for window in wanted.without(checkpoint.window)]
        return [
            Due(ASKED, now_ms, ((checkpoint.window, checkpoint), *rest), _between(_read_to_ms(checkpoint), held_from_ms))
        ]


@dataclass(frozen=True, slots=True)
class SinceLast:
    """The plan of incremental runs. The first of all reads `lookback_ms` milliseconds and begins the tiers."""

    lookback_ms: int
    name: PlanName = "since_last"

    def window(self, now_ms: int) -> Window:
        """What a first run would read."""
        return Window(now_ms - self.lookback_ms, now_ms)

    def due(self, checkpoints: Mapping[str, Checkpoint], now_ms: int) -> Sequence[Due]:
        """The tiers that are due, each without what those before it read anew in this run."""
        last = checkpoints.get(RECENT.name)
        recent = self._recent(last, now_ms)
        # A tier begins with the first reading of all, also where later runs finished that one; until it has begun its place
        # is known by that of the newest tier.
        first_ms = now_ms if last is None or last.began_ms is None else min(last.began_ms, now_ms)
        if not {DAY.name, FORTNIGHT.name} <= checkpoints.keys():
            recent = replace(recent, began_ms=first_ms)
        found = [recent]
        fresh_from_ms = recent.windows[-1][0].from_ms
        for tier in (DAY, FORTNIGHT):
            checkpoint = checkpoints.get(tier.name)
            due = Due(tier, first_ms, ()) if checkpoint is None else _later_tier(tier, checkpoint, fresh_from_ms, now_ms)
            if due is None:
                continue
            found.append(due)
            if due.windows and due.began_ms == now_ms:  # what an earlier run has read of a window is not fresh
                fresh_from_ms = min(fresh_from_ms, due.windows[0][0].from_ms)
        return found

    def _recent(self, checkpoint: Checkpoint | None, now_ms: int) -> Due:
        if checkpoint is None:
            return Due(RECENT, now_ms, ((self.window(now_ms), None),))
        held_from_ms = now_ms - RETENTION_MS
        if not checkpoint.done:
            windows: list[tuple[Window, Checkpoint | None]] = [(checkpoint.window, checkpoint)]
            # With the overlap: the beginning of that window was read when it had just ended.
            beyond_ms = max(min(checkpoint.window.to_ms, now_ms) - RECENT.overlap_ms, held_from_ms)
            windows.append((Window(beyond_ms, now_ms), None))
            return Due(RECENT, now_ms, tuple(windows), _between(_read_to_ms(checkpoint), held_from_ms))
        read_to_ms = checkpoint.window.to_ms
        # Also where our clock was set back: the overlap before now is read in any case.
        from_ms = max(min(read_to_ms, now_ms) - RECENT.overlap_ms, held_from_ms)
        return Due(RECENT, now_ms, ((Window(from_ms, now_ms), None),), _between(read_to_ms, held_from_ms))


def _later_tier(tier: Tier, checkpoint: Checkpoint, fresh_from_ms: int, now_ms: int) -> Due | None:
    began_ms = min(checkpoint.window.to_ms if checkpoint.began_ms is None else checkpoint.began_ms, now_ms)
    if not checkpoint.done:
        return Due(tier, began_ms, ((checkpoint.window, checkpoint),))
    if now_ms - began_ms < tier.every_ms:
        return None
    from_ms = max(began_ms - tier.overlap_ms, now_ms - RETENTION_MS)
    return Due(tier, now_ms, ((Window(from_ms, fresh_from_ms), None),) if from_ms < fresh_from_ms else ())


def _read_to_ms(unfinished: Checkpoint) -> int:
    return unfinished.window.from_ms if unfinished.last_ms is None else unfinished.last_ms


def _between(from_ms: int, to_ms: int) -> Window | None:
    return Window(from_ms, to_ms) if from_ms < to_ms else None
