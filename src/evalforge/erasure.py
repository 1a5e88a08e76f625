"""The privacy officer's use-case: everything held of one person, or of one trace, is deleted and stays away.

Two halves work together, in different processes if need be. `erase` puts up a tombstone before it deletes anything; `Guard`
is what every run asks before it writes, and once more after it. One of them always comes second, and that one removes
what the other could not know of. docs/decisions/0010-erasure.md has the interleavings.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import DeadLetter, Erasure, Store, UpsertResult
from evalforge.core.privacy import KeyRing, safe_trace_id, user_id_in
from evalforge.core.review import without_traces
from evalforge.core.span import Json, Span
from evalforge.core.tombstones import Burial, Tombstones, trace_key
from evalforge.errors import RequestError, SettingsError, StoreError
from evalforge.events import emit

CAPTURES, LETTERS, ROWS = "captures", "dead_letters", "export_rows"
"""What `Erasure.counts` counts; a record without counts is of an erasure that has not ended."""

MAX_ROUNDS = 10
"""How often `erase` looks for captures that came while it deleted; the guard of a run removes later ones."""

DELETED_AT_ONCE = 200
"""How many traces `erase_again` finds before it deletes them."""

_INGESTION = "ingestion"


@dataclass(frozen=True, slots=True)
class PackagesErased:
    """What became of export packages: how many rows were removed from files, and what a person has to do."""

    row_count: int = 0
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Packages:
    """What an erasure asks of the exports, which are another room's.

    `tasks_elsewhere(earliest)` names the packages out of our reach that may hold captures first seen at or after that time;
    `erase_rows(tombstones)` removes buried rows from the files within reach.
    """

    tasks_elsewhere: Callable[[datetime], Awaitable[tuple[str, ...]]]
    erase_rows: Callable[[Tombstones], Awaitable[PackagesErased]]


@dataclass(frozen=True, slots=True)
class Target:
    """Whom or what an erasure is about, in stored forms only: candidate hashes of a user, or the stored ids of a trace."""

    user_hashes: frozenset[str] = frozenset()
    trace_ids: tuple[str, ...] = ()


def user_target(user_id: Json, ring: KeyRing) -> Target:
    """The user with this raw id, under every key of the ring.

    Raises:
        SettingsError: there is no ring.
        RequestError: the id names nobody.
    """
    if not ring.keys:
        raise SettingsError(
            "PII_SALT: got nothing; wants the keys that stored user hashes were made with: without them nobody can be found "
            "by user id. By trace id it works without: Datadog and `evalforge captures list` show the ids of traces"
        )
    hashes = ring.candidate_hashes(user_id)
    if not hashes:
        raise RequestError("user_id names nobody: it is empty, or a word such as unknown or null", field="user_id")
    return Target(user_hashes=hashes)


def trace_target(trace_id: str, ring: KeyRing) -> Target:
    """The trace with this id as Datadog shows it or as it is stored; an odd one under every key of the ring and under none.

    Raises:
        RequestError: the id is empty.
    """
    if not trace_id.strip():
        raise RequestError("trace_id is empty; wants the id of a trace, as Datadog or `evalforge captures list` shows it",
                           field="trace_id")  # fmt: skip
    rings = (*(KeyRing((key,)) for key in ring.keys), KeyRing(()))
    return Target(trace_ids=tuple(dict.fromkeys(safe_trace_id(trace_id, one)[0] for one in rings)))


def needs_ring(trace_id: str) -> bool:
    """Whether the stored form of this trace id is made with the ring: it is neither plain nor a stored form itself."""
    return len({safe_trace_id(trace_id, ring)[0] for ring in (KeyRing(()), KeyRing((b"any other",)))}) > 1


async def erase(
    store: Store, ring: KeyRing, target: Target, packages: Packages, *, actor: str, clock: Callable[[], datetime]
) -> Erasure:
    """Deletes what is held of the target and keeps it out; gives the record, with counts and what a person still has to do.

    Where it breaks off, what is deleted stays deleted, the tombstone stands, and calling it again goes on. Nobody found is
    no error: the tombstone stands all the same.

    Raises:
        StoreError, StoreUnavailableError: the record is not complete.
    """
    now = clock()
    record = Erasure(
        id=f"erasure_{now:%Y%m%dT%H%M%SZ}_{secrets.token_hex(4)}",
        erased_at=now,
        kind="user" if target.user_hashes else "trace",
        actor=actor,
        user_hashes=tuple(sorted(target.user_hashes)),
        trace_keys=tuple(trace_key(trace_id, ring) for trace_id in target.trace_ids),
    )
    await store.save_erasure(record)
    counts: Counter[str] = Counter({CAPTURES: 0, LETTERS: 0, ROWS: 0})
    known: dict[str, None] = {}
    for turn in range(MAX_ROUNDS):
        found, earliest = await _held(store, target, now, is_first=turn == 0)
        new = [trace_id for trace_id in found if trace_id not in known]
        if turn and not new:
            break
        known.update(dict.fromkeys(new))
        # First the tombstones and the tasks, last the captures: they are what all the rest is found by, so whoever goes on
        # after a crash finds what this one found.
        elsewhere = await packages.tasks_elsewhere(earliest) if earliest is not None else ()
        record = replace(
            record,
            trace_keys=_joined(record.trace_keys, (trace_key(trace_id, ring) for trace_id in new)),
            tasks=_joined(record.tasks, elsewhere),
        )
        await store.save_erasure(record)
        counts[LETTERS] += await store.delete_dead_letters(new)
        await forget_answers(store, new)
        counts[CAPTURES] += await store.delete_captures(new, user_hashes=target.user_hashes)
    earlier = [erasure async for erasure in store.erasures()]
    # Under all tombstones, so that rows which an interrupted erasure has left in files go too.
    rows = await packages.erase_rows(Tombstones(earlier, ring))
    counts[ROWS] = rows.row_count
    record = replace(record, counts=dict(counts), tasks=_joined(_told_before(record, earlier), (*record.tasks, *rows.tasks)))
    await store.save_erasure(record)
    emit("erasure.finished", erasure_id=record.id, kind=record.kind, task_count=len(record.tasks), **record.counts)
    return record


async def erase_again(
    store: Store, ring: KeyRing, packages: Packages, *, clock: Callable[[], datetime]
) -> Mapping[str, int]:
    """Deletes what stands here although it was erased, as after a restore; how many of each, named as in a record.

    Goes by the tombstones that are there: it needs nobody's id, and finds nobody whose tombstone was lost. Stopped and
    called again it goes on.

    Raises:
        StoreError, StoreUnavailableError
    """
    tombstones = Tombstones([erasure async for erasure in store.erasures()], ring)
    counts: Counter[str] = Counter({CAPTURES: 0, LETTERS: 0, ROWS: 0})
    buried: dict[str, None] = {}

    async def delete() -> None:
        if not (traces := list(buried)):
            return
        buried.clear()
        counts[LETTERS] += await store.delete_dead_letters(traces)
        await forget_answers(store, traces)
        counts[CAPTURES] += await store.delete_captures(traces)

    async for stored in store.documents("raw_traces"):
        if tombstones.buries_row(stored.document):
            ids = (stored.document.get(name) for name in ("trace_id", "apm_trace_id"))
            buried.update(dict.fromkeys(one for one in ids if isinstance(one, str) and one))
        if len(buried) >= DELETED_AT_ONCE:
            await delete()
    letters = [letter.trace_id async for letter in store.dead_letters(now=clock()) if letter.trace_id is not None]
    buried.update(dict.fromkeys(trace_id for trace_id in letters if tombstones.buries_trace(trace_id)))
    await delete()
    counts[ROWS] = (await packages.erase_rows(tombstones)).row_count
    emit("erasure.repeated", **counts)
    return dict(counts)


async def forget_answers(store: Store, trace_ids: Collection[str]) -> None:
    """Takes what reviewers wrote as the right answers of these traces out of their reviews, and of the histories.

    Raises:
        StoreError, StoreUnavailableError
    """
    if not trace_ids:
        return
    async for review in store.reviews():
        left = without_traces(review, trace_ids)
        while left is not review and not await store.save_review(left):  # a reviewer was faster
            review = await store.load_review(review.signature)
            left = without_traces(review, trace_ids)


async def _held(store: Store, target: Target, now: datetime, *, is_first: bool) -> tuple[list[str], datetime | None]:
    """The traces of the target's captures, each with the APM trace that it was part of, and when the first was fetched.

    Traces that were asked for by id come in the first round, whether or not they have a capture.
    """
    traces: dict[str, None] = {}
    earliest: datetime | None = None

    def note(capture: FailureCapture) -> None:
        nonlocal earliest
        earliest = capture.fetched_at if earliest is None else min(earliest, capture.fetched_at)
        # Spans of the same request that name no LLM trace are filed under their APM trace.
        traces.update(dict.fromkeys(one for one in (capture.trace_id, capture.apm_trace_id) if one))

    if target.user_hashes:
        async for stored in store.captures_of_users(target.user_hashes):
            note(stored.capture)
    if is_first:
        traces.update(dict.fromkeys(target.trace_ids))
        for trace_id in target.trace_ids:
            try:
                of_trace = await store.get(trace_id, now=now)
            except StoreError:  # what stands there cannot be read; it is deleted all the same
                continue
            if of_trace is not None:
                note(of_trace.capture)
    return list(traces), earliest


def _told_before(record: Erasure, earlier: Iterable[Erasure]) -> tuple[str, ...]:
    """The tasks of earlier erasures of the same target.

    Whether anybody was told of them and did them is not known here: an erasure may have broken off, and its caller may have
    gone before the answer came.
    """
    mine = frozenset((*record.user_hashes, *record.trace_keys))
    same = (one for one in earlier if one.id != record.id and not mine.isdisjoint((*one.user_hashes, *one.trace_keys)))
    return tuple(task for one in same for task in one.tasks)


def _joined(known: tuple[str, ...], added: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *added)))


@dataclass(slots=True)
class Guard:
    """Keeps what was erased from coming back with a run: asked before captures are written, and once more afterwards.

    `kept_out_count` is how many captures it has kept out or removed again so far. One for each run; made by `opened`.
    """

    store: Store
    ring: KeyRing
    run_id: str
    clock: Callable[[], datetime]
    kept_out_count: int = 0
    _epoch: str = ""
    _tombstones: Tombstones = field(init=False)
    _own: Erasure | None = None

    def __post_init__(self) -> None:
        self._tombstones = Tombstones((), self.ring)

    @classmethod
    async def opened(cls, store: Store, ring: KeyRing, *, run_id: str, clock: Callable[[], datetime]) -> Guard:
        """A guard that knows every tombstone there is.

        Raises:
            StoreError, StoreUnavailableError
        """
        guard = cls(store, ring, run_id, clock)
        await guard._load(await store.erasure_epoch())
        return guard

    async def admitted(self, captures: Sequence[FailureCapture], spans: Iterable[Span] = ()) -> list[FailureCapture]:
        """The captures that may be written; of the others nothing stays in the store. `spans` are those they were read with.

        Raises:
            StoreError, StoreUnavailableError
        """
        buried = self._buried(captures, spans)
        await self._keep_out(buried)
        return [capture for capture in captures if capture.trace_id not in buried]

    def admitted_letters(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        """The dead letters that may be kept: those about no trace that was erased."""
        return [letter for letter in letters if not self._tombstones.buries_trace(letter.trace_id)]

    async def confirmed(
        self,
        result: UpsertResult,
        captures: Sequence[FailureCapture],
        letters: Sequence[DeadLetter] = (),
        spans: Iterable[Span] = (),
    ) -> UpsertResult:
        """The result without what was erased while it was written or met, which is removed again. Costs one read.

        Raises:
            StoreError, StoreUnavailableError: the page must be read again.
        """
        epoch = await self.store.erasure_epoch()
        if epoch == self._epoch:
            return result
        await self._load(epoch)
        written = {capture.trace_id for capture in captures}
        buried = self._buried(captures, spans, [trace_id for trace_id in result.unchanged if trace_id not in written])
        await self._keep_out(buried)
        about = {letter.trace_id for letter in letters if letter.trace_id and self._tombstones.buries_trace(letter.trace_id)}
        await self.store.delete_dead_letters(sorted(about - buried.keys()))
        return result.without(buried) if buried else result

    async def _load(self, epoch: str) -> None:
        # The epoch was read first: records saved since are read too, and then the next page finds another epoch.
        tombstones = Tombstones((), self.ring)
        async for erasure in self.store.erasures():
            tombstones.add(erasure)
        self._tombstones, self._epoch = tombstones, epoch

    def buried(self, trace_ids: Collection[str], spans: Iterable[Span]) -> Collection[str]:
        """Those of these stored traces that were erased; `spans` are those they were read with."""
        return self._buried((), spans, trace_ids).keys()

    def _buried(
        self, captures: Sequence[FailureCapture], spans: Iterable[Span], others: Collection[str] = ()
    ) -> dict[str, Burial]:
        """By trace id, what each capture is kept out by, where it is; `others` are traces that were met without one."""
        buried: dict[str, Burial] = {
            capture.trace_id: by for capture in captures if (by := self._tombstones.buries(capture)) is not None
        }
        buried |= {trace_id: "trace" for trace_id in others if self._tombstones.buries_trace(trace_id)}
        for trace_id in self._traces_naming_buried({*(capture.trace_id for capture in captures), *others}, spans):
            buried.setdefault(trace_id, "user")
        return buried

    def _traces_naming_buried(self, wanted: Set[str], spans: Iterable[Span]) -> Iterable[str]:
        """Those of the wanted traces of which a span names a buried user, a healthy one too, under any key of the ring.

        Captures carry the hashes of failing spans under the newest key only, and the raw ids are at hand only here.
        """
        if not self._tombstones.knows_users:
            return
        for span in spans:
            traces = {safe_trace_id(raw, self.ring)[0] for raw in (span.trace_id, span.apm_trace_id) if raw} & wanted
            if not traces:
                continue
            hashes = self.ring.candidate_hashes(_user_id_in(span))
            if any(self._tombstones.buries_user(user_hash, span.start_ns) for user_hash in hashes):
                yield from traces

    async def _keep_out(self, buried: dict[str, Burial]) -> None:
        if not buried:
            return
        by_user = [trace_id for trace_id, by in buried.items() if by == "user"]
        if by_user:
            # Other spans of the trace may name nobody: from now on its tombstone keeps them out. A record of the run's
            # own, since the erasure's belongs to whoever is erasing, perhaps at this moment.
            self._own = self._own or Erasure(
                id=f"kept_out_{self.run_id}", erased_at=self.clock(), kind="trace", actor=_INGESTION,
                counts={CAPTURES: 0, LETTERS: 0, ROWS: 0},
            )  # fmt: skip
            keys = (trace_key(trace_id, self.ring) for trace_id in by_user)
            self._own = replace(self._own, trace_keys=_joined(self._own.trace_keys, keys))
            await self.store.save_erasure(self._own)
            self._tombstones.add(self._own)
        traces = list(buried)
        await self.store.delete_dead_letters(traces)
        await forget_answers(self.store, traces)
        await self.store.delete_captures(traces)
        self.kept_out_count += len(traces)
        emit("captures.kept_out", run_id=self.run_id, count=len(traces))


def _user_id_in(span: Span) -> Json:
    try:
        return user_id_in(span)
    except Exception:  # noqa: BLE001 - a span that nobody foresaw names nobody here either
        return None


def erasure_document(record: Erasure) -> dict[str, Any]:
    """The record as plain values for whoever asked: no hash, no key."""
    return {
        "id": record.id,
        "erased_at": record.erased_at,
        "kind": record.kind,
        "actor": record.actor,
        "counts": dict(record.counts),
        "tasks": list(record.tasks),
    }
