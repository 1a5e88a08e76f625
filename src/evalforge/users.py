"""Users of failing traces whose failing spans name nobody: looked up on the traces' roots, last in a run.

The failing span is often deep inside a trace, while the application tells Datadog its user on the root, which is healthy
and therefore not kept. Of what is fetched here only the keyed hash is kept. It is an extra: whatever stops it is a warning,
and the next run that meets the same traces looks again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from evalforge.core.capture import with_root_user
from evalforge.core.ports import Page, Source, Store, UpsertResult
from evalforge.core.privacy import KeyRing, safe_trace_id, user_id_in
from evalforge.core.span import Span, TraceIdKind
from evalforge.core.window import MS_PER_HOUR, Window
from evalforge.erasure import Guard
from evalforge.errors import EvalForgeError, StoreError
from evalforge.events import emit

MAX_TRACES = 20_000
"""How many traces of one run are remembered, by id only: about 3 MB."""

ROOT_LEAD_MS = 24 * MS_PER_HOUR
"""How much earlier than its failing spans a root may have begun."""


@dataclass(slots=True)
class Nameless:
    """The traces that a run has stored without any user, as it goes on; `left_out_count` are those beyond the bound."""

    traces: dict[str, TraceIdKind] = field(default_factory=dict)
    left_out_count: int = 0
    window: Window | None = None

    def hear(self, page: Page, result: UpsertResult) -> None:
        """Notes what became of a page's captures: who has a user by now is no longer looked for."""
        read = page.checkpoint.window
        known = self.window or read
        self.window = Window(min(known.from_ms, read.from_ms), max(known.to_ms, read.to_ms))
        for trace_id in (*result.created, *result.updated, *result.unchanged):
            if trace_id not in result.without_user:
                self.traces.pop(trace_id, None)
        for trace_id, kind in result.without_user.items():
            if trace_id in self.traces or len(self.traces) < MAX_TRACES:
                self.traces[trace_id] = kind
            else:
                self.left_out_count += 1


@dataclass(slots=True)
class Lookup:
    """What came of looking for users: how many traces had none, how many of them got one, and what stopped it."""

    looked_for: int = 0
    found: int = 0
    warnings: list[str] = field(default_factory=list)

    def document(self) -> dict[str, int]:
        """The counts, for a run report."""
        return {"looked_for": self.looked_for, "found": self.found}


async def look_up_users(
    sources: Sequence[Source],
    store: Store,
    ring: KeyRing,
    nameless: Nameless,
    *,
    guard: Guard,
    run_id: str,
    clock: Callable[[], datetime],
    should_stop: Callable[[], str | None],
) -> Lookup:
    """Asks each source for the roots of those traces, and merges the hashes of the users they name into the captures.

    A trace that one source has answered is not asked of the next. `should_stop` is asked before each request and gives the
    code of a reason, or None to go on. No error of a source or of the store gets out: it becomes a warning.
    """
    lookup = Lookup(looked_for=len(nameless.traces))
    if nameless.left_out_count:
        lookup.warnings.append(
            f"{nameless.left_out_count} captures without a user were not looked up: a run remembers {MAX_TRACES} of them"
        )
    if nameless.window is None or not nameless.traces:
        return lookup
    window = Window(nameless.window.from_ms - ROOT_LEAD_MS, nameless.window.to_ms)
    # In any order: a quota that ends at the same place in each run must not leave the same traces out each time.
    order = random.sample(sorted(nameless.traces), len(nameless.traces))
    open_traces = {trace_id: nameless.traces[trace_id] for trace_id in order}
    for source in sources:
        if source.status.skipped is not None or not open_traces:
            continue
        stopped = None
        found: set[str] = set()
        try:
            async with aclosing(source.roots(open_traces, window)) as pages:
                while (stopped := should_stop()) is None:
                    spans = await anext(pages, None)
                    if spans is None:
                        break
                    found.update(await _merge_users(spans, open_traces, store, ring, guard, run_id, clock()))
        except EvalForgeError as error:
            lookup.warnings.append(f"{source.name}: looking for users ended early: {error.message}")
        # Only now, since a trace may have several roots, on several pages.
        open_traces = {trace_id: kind for trace_id, kind in open_traces.items() if trace_id not in found}
        lookup.found += len(found)
        if stopped is not None:
            lookup.warnings.append(f"looking for users ended early ({stopped}); a later run goes on")
            break
    emit("users.looked_up", run_id=run_id, looked_for=lookup.looked_for, found=lookup.found)
    return lookup


async def _merge_users(
    spans: Sequence[Span],
    wanted: dict[str, TraceIdKind],
    store: Store,
    ring: KeyRing,
    guard: Guard,
    run_id: str,
    now: datetime,
) -> list[str]:
    """Merges the users whom these spans name into the captures of the wanted traces, and gives the traces that got one."""
    users: dict[str, list[tuple[str, int]]] = {}
    for span in spans:
        for trace_id, user_hash in _named_by(span, wanted, ring):
            users.setdefault(trace_id, []).append((user_hash, span.start_ns))
    captures = []
    for trace_id, named in users.items():
        try:
            stored = await store.get(trace_id, now=now)
        except StoreError:
            continue  # what stands there is no capture: it is left as it is
        if stored is None:
            continue  # deleted or expired meanwhile
        capture = stored.capture
        for user_hash, start_ns in named:
            capture = with_root_user(capture, user_hash, start_ns)
        captures.append(capture)
    captures = await guard.admitted(captures, spans)
    if not captures:
        return []
    # A capture that was erased since it was read would be made anew here: the guard looks again.
    result = await guard.confirmed(await store.upsert(captures, now=now), captures, spans=spans)
    for trace_id in result.updated:
        emit("capture.updated", run_id=run_id, trace_id=trace_id, action="look_up_user", outcome="updated")
    return [trace_id for trace_id in (*result.updated, *result.unchanged) if trace_id in wanted]


def _named_by(span: Span, wanted: dict[str, TraceIdKind], ring: KeyRing) -> Iterator[tuple[str, str]]:
    """The wanted traces that this span belongs to, each with the hash of the user whom it names; none if it names nobody."""
    trace_ids = {safe_trace_id(raw, ring)[0] for raw in (span.trace_id, span.apm_trace_id) if raw} & wanted.keys()
    if not trace_ids:
        return
    try:
        user_hash = ring.user_hash(user_id_in(span))
    except Exception:  # noqa: BLE001 - a span that nobody foresaw names nobody; it must not end the run
        return
    if user_hash is not None:
        yield from ((trace_id, user_hash) for trace_id in trace_ids)
