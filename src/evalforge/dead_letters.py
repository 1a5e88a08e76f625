"""Dead letters: which there are, and asking for their spans once more, by id, after whatever made them has been mended.

A span that is found goes the way of every span of a run: judged, sanitized, merged, kept out where it was erased. Its
letter goes when nothing is wrong with it any more. Letters hold no text, and nothing here shows any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from evalforge.core.plans import RETENTION_MS
from evalforge.core.ports import Checkpoint, DeadLetter, DeadLetters, FoundById, Page, Rejected, Source, Store
from evalforge.core.privacy import Neighbours, safe_span_id, safe_trace_id
from evalforge.core.span import Span
from evalforge.core.window import Window, epoch_ms, iso_ms
from evalforge.erasure import Guard
from evalforge.errors import RunInProgressError
from evalforge.events import emit
from evalforge.ingest import Judge, Reading, Tally, store_page
from evalforge.runs import check_keys, held_lease, new_run_id

RESOLVED, AGAIN, GONE, NOT_FOUND, NOT_ASKABLE, LEFT = "resolved", "failed_again", "gone", "not_found", "not_askable", "left"

OUTCOMES: Mapping[str, str] = {
    RESOLVED: "captured, healthy, or erased by now; the letter is removed",
    AGAIN: "the same span fails again; the letter stays",
    GONE: "older than the 15 days that Datadog keeps; the letter stays until it is purged or expires",
    NOT_FOUND: "Datadog has no such span; the letter stays until it is purged or expires",
    NOT_ASKABLE: "no span id, or one that stands for another: it cannot be asked for",
    LEFT: "not asked for yet: the replay ended early, Datadog answered in part, or its source may not be searched",
}
"""What may become of a letter that is replayed, by code."""

REMOVED_AT_ONCE = 500
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters: all conditions hold, None is any. `since` (inclusive) and `until` (exclusive) bound `occurred_at`."""

    source: str | None = None
    stage: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant."""
        pairs = ((self.source, letter.source), (self.stage, letter.stage), (self.reason, letter.reason))
        return (
            all(wanted is None or wanted == found for wanted, found in pairs)
            and (self.since is None or letter.occurred_at >= self.since)
            and (self.until is None or letter.occurred_at < self.until)
        )


async def matching(store: DeadLetters, wanted: Filter, *, now: datetime) -> AsyncIterator[DeadLetter]:
    """The live letters that match, ascending by id; streamed."""
    async for letter in store.dead_letters(now=now):
        if wanted.matches(letter):
            yield letter


async def purge_letters(store: DeadLetters, wanted: Filter, *, now: datetime) -> int:
    """Deletes the letters that match and gives how many there were.

    Raises:
        StoreError, StoreUnavailableError: some may be deleted all the same.
    """
    ids = [letter.id async for letter in matching(store, wanted, now=now)]
    return await _remove(store, ids)


async def _remove(store: DeadLetters, ids: Sequence[str]) -> int:
    return sum(
        [await store.remove_dead_letters(ids[at : at + REMOVED_AT_ONCE]) for at in range(0, len(ids), REMOVED_AT_ONCE)]
    )


@dataclass(slots=True)
class Replay:
    """What a replay did; filled as it goes, so that an end by error has one too.

    `outcomes` are codes of `OUTCOMES` by letter id, `reasons` counts why spans failed again.
    """

    run_id: str = ""
    outcomes: dict[str, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    request_count: int = 0
    warnings: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The replay as plain JSON values."""
        counts = Counter(self.outcomes.values())
        return {
            "run_id": self.run_id,
            "letters": len(self.outcomes),
            "outcomes": {code: counts[code] for code in OUTCOMES},
            "failed_again_by_reason": dict(sorted(self.reasons.items())),
            "captures": {
                "created": self.tally.created,
                "updated": self.tally.updated,
                "unchanged": self.tally.unchanged,
                "kept_out": self.tally.kept_out,
            },
            "request_count": self.request_count,
            "warnings": self.warnings,
        }


async def replay_letters(
    sources: Sequence[Source],
    store: Store,
    judge: Judge,
    wanted: Filter,
    *,
    replay: Replay,
    holder: str,
    clock: Callable[[], datetime],
) -> Replay:
    """Asks the sources for the spans of the letters that match, judges them as a run does, and fills `replay`.

    Holds the run lease. Whatever ends it early: what was replayed stays so, and calling again goes on.

    Raises:
        RunInProgressError: a run holds the lease, or took it meanwhile.
        StoreError: the hashing keys do not match those that stored hashes were made with.
        SourceRefusedError, SourceUnavailableError, QuotaExhaustedError, StoreUnavailableError
    """
    replay.run_id = new_run_id(clock)
    async with held_lease(store, holder, replay.run_id, clock) as lease:
        await check_keys(store, judge.ring)
        guard = await Guard.opened(store, judge.ring, run_id=replay.run_id, clock=clock)
        letters = [letter async for letter in matching(store, wanted, now=clock())]
        oldest = clock() - timedelta(milliseconds=RETENTION_MS)
        replay.outcomes = {letter.id: _unasked(letter, oldest) for letter in letters}
        reading = Reading(replay.run_id, judge, guard, clock, lambda tally: None, fence=lease.fence)
        for source in sources:
            own = [one for one in letters if one.source == source.name and replay.outcomes[one.id] == LEFT]
            before_count = source.status.request_count
            try:
                await _Asking(source, store, reading, replay, own, lambda: lease.is_lost).ask()
            finally:
                replay.request_count += source.status.request_count - before_count
                replay.warnings += [f"{source.name}: {warning}" for warning in source.status.warnings]
                replay.tally.kept_out = guard.kept_out_count
    counts = Counter(replay.outcomes.values())
    emit("letters.replayed", run_id=replay.run_id, letters=len(letters), **{code: counts[code] for code in OUTCOMES})
    return replay


def _unasked(letter: DeadLetter, oldest: datetime) -> str:
    if letter.span_id is None:
        return NOT_ASKABLE
    return GONE if letter.occurred_at < oldest else LEFT


@dataclass(slots=True)
class _Asking:
    """The letters of one source being replayed."""

    source: Source
    store: Store
    reading: Reading
    replay: Replay
    letters: Sequence[DeadLetter]
    is_lost: Callable[[], bool]
    neighbours: Neighbours = field(default_factory=Neighbours)

    async def ask(self) -> None:
        """Asks for every letter's span and removes the letters of those with which nothing is wrong."""
        if not self.letters:
            return
        by_span: dict[str, list[DeadLetter]] = {}
        for letter in self.letters:
            by_span.setdefault(letter.span_id or "", []).append(letter)
        starts_ns = {span_id: epoch_ms(about[0].occurred_at) * _NS_PER_MS for span_id, about in by_span.items()}
        asked: set[str] = set()
        # A letter says when its item was met. Its span began before that, by as much as Datadog keeps at most.
        async with aclosing(self.source.by_span_id(starts_ns, before_ms=RETENTION_MS)) as batches:
            async for found in batches:
                asked.update(found.span_ids)
                await self._replay(found, [letter for span_id in found.span_ids for letter in by_span[span_id]])
        for span_id in by_span.keys() - asked:
            self.replay.outcomes.update({letter.id: NOT_ASKABLE for letter in by_span[span_id]})

    async def _replay(self, found: FoundById, letters: Sequence[DeadLetter]) -> None:
        now = self.reading.clock()
        if self.is_lost():
            raise RunInProgressError("another run, which took over from this replay", iso_ms(epoch_ms(now)))
        starts_ms = [span.start_ns // _NS_PER_MS for span in found.spans if span.start_ns > 0] or [epoch_ms(now)]
        place = Checkpoint(self.source.name, Window(min(starts_ms), max(starts_ms) + 1), step="replay")
        page = Page(found.spans, found.rejected, place)
        again = await store_page(self.source, self.store, page, self.neighbours, self.reading, self.replay.tally)
        removable, kept = [], {one.id for one in again}
        for letter in letters:
            outcome, reason = self._outcome(letter, found, again)
            self.replay.outcomes[letter.id] = outcome
            if reason is not None:
                self.replay.reasons[reason] += 1
            # A span that fails in another way has a letter of its own by now, which stands in for the old one.
            replaced = letter.id not in kept and any(_is_same(letter, one.trace_id, one.span_id) for one in again)
            if outcome == RESOLVED or replaced:
                removable.append(letter.id)
        await _remove(self.store, removable)

    def _outcome(self, letter: DeadLetter, found: FoundById, again: Sequence[DeadLetter]) -> tuple[str, str | None]:
        # A capture that the store refuses was made of all failing spans of its trace that were read.
        failed = [
            one
            for one in again
            if _is_same(letter, one.trace_id, one.span_id)
            or (one.stage == "store" and one.trace_id is not None and one.trace_id == letter.trace_id)
        ]
        if failed:
            return AGAIN, failed[0].reason
        ring = self.reading.judge.ring
        items: list[Span | Rejected] = [*found.spans, *found.rejected]
        for item in items:
            trace_id = safe_trace_id(item.trace_id, ring)[0] if item.trace_id else None
            if _is_same(letter, trace_id, safe_span_id(item.span_id, ring) if item.span_id else None):
                return RESOLVED, None
        return (LEFT if found.is_partial else NOT_FOUND), None


def _is_same(letter: DeadLetter, trace_id: str | None, span_id: str | None) -> bool:
    """Whether an item of these stored ids is the one that the letter is about; a trace that nobody knows may be any."""
    return letter.span_id == span_id and (letter.trace_id is None or trace_id is None or letter.trace_id == trace_id)
