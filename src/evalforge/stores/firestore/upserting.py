"""The upsert on Firestore: read what stands, write what differs under a guard, and again where another writer came first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from evalforge.core.capture import FailureCapture, document_id, merge_by_trace
from evalforge.core.ports import Recognized, UpsertResult
from evalforge.errors import SkippableError, StoreUnavailableError
from evalforge.stores import merging
from evalforge.stores.firestore import reader, writer
from evalforge.stores.firestore.connection import RETRY_AFTER_S, Connection, Turn, delays
from evalforge.stores.firestore.values import decode_fields
from evalforge.stores.firestore.writer import Fate
from evalforge.stores.measuring import measure_batch
from evalforge.stores.merging import Outcome

CAPTURES_PER_CHUNK = 50
RECOGNIZED_PER_CHUNK = 100

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A capture on its way: as it fits, and its document."""

    capture: FailureCapture
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Planned:
    """A write, the document that stands after it, and the list of the outcome that its trace belongs to then."""

    path: str
    write: writer.Write
    document: Mapping[str, Any]
    fate: list[str]


async def upsert(
    connection: Connection,
    collection: str,
    captures: Sequence[FailureCapture],
    now: datetime,
    *,
    absent: Collection[str] = (),
    writes: bool = True,
) -> UpsertResult:
    """What became of each capture; one read for each that is not of an absent trace, and one write where something changed.

    Without `writes` what would become of it: then nothing is written.

    Raises:
        StoreUnavailableError, StoreError: some captures may be written all the same.
    """
    outcome = Outcome()
    merged = merge_by_trace(captures)
    await connection.client()

    async def one_chunk(chunk: Sequence[FailureCapture]) -> None:
        async with connection.chunks:
            await _upsert_chunk(connection, collection, chunk, now, outcome, absent=absent, writes=writes)

    await _in_chunks(one_chunk, merged, CAPTURES_PER_CHUNK)
    return outcome.result()


async def recognize(connection: Connection, collection: str, origins: Mapping[str, bytes], now: datetime) -> Recognized:
    """The traces whose documents name these origins; one read for each, of a few of its fields."""
    outcome, absent = Outcome(), set[str]()
    await connection.client()
    turn = Turn()

    async def one_chunk(trace_ids: Sequence[str]) -> None:
        async with connection.chunks:
            paths = {trace_id: connection.document_path(collection, document_id(trace_id)) for trace_id in trace_ids}
            found = await reader.read_documents(connection, list(paths.values()), fields=merging.RECOGNIZED_BY)
            for trace_id, path in paths.items():
                await turn.shared()
                if path not in found:
                    absent.add(trace_id)
                elif not reader.has_expired(found[path], now):
                    with suppress(SkippableError):  # the upsert says what is wrong with it
                        outcome.recognize(trace_id, _decoded(found[path]), origins[trace_id])

    await _in_chunks(one_chunk, list(origins), RECOGNIZED_PER_CHUNK)
    return Recognized(outcome.result(), frozenset(absent))


async def _in_chunks(work: Callable[[Sequence[_T]], Coroutine[Any, Any, None]], items: Sequence[_T], size: int) -> None:
    """`work` on every `size` of the items at once; when one breaks the others are ended."""
    tasks = [asyncio.create_task(work(items[at : at + size])) for at in range(0, len(items), size)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _upsert_chunk(
    connection: Connection,
    collection: str,
    captures: Sequence[FailureCapture],
    now: datetime,
    outcome: Outcome,
    *,
    absent: Collection[str],
    writes: bool,
) -> None:
    wanted: dict[str, _Wanted] = {}
    turn = Turn()
    for capture in captures:
        await turn.shared()
        try:
            fitted, document = merging.fitted_document(capture)
            wanted[connection.document_path(collection, fitted.document_id)] = _Wanted(fitted, document)
        except SkippableError as error:
            outcome.refused.append((capture.trace_id, error.code))
    asked = [path for path, one in wanted.items() if one.capture.trace_id not in absent]
    patience_s = connection.timeout_s
    for delay_s in delays():
        if not wanted:
            return
        found = await reader.read_documents(connection, asked) if asked else {}
        planned = []
        for path, one in list(wanted.items()):
            await turn.shared()
            try:
                plan = _plan(path, one, found.get(path), now, outcome)
            except SkippableError as error:
                outcome.refused.append((one.capture.trace_id, error.code))
                plan = None
            if plan is None:
                del wanted[path]
            else:
                planned.append(plan)
        if not writes:
            for plan in planned:
                outcome.note(plan.fate, wanted.pop(plan.path).capture.trace_id, plan.document)
            return
        with measure_batch(connection.telemetry, "firestore", len(planned)):
            outcomes = await writer.write_all(connection, [plan.write for plan in planned])
        for plan, written in zip(planned, outcomes, strict=True):
            if written.fate is Fate.CONFLICT:
                continue
            trace_id = wanted.pop(plan.path).capture.trace_id
            if written.fate is Fate.WRITTEN:
                outcome.note(plan.fate, trace_id, plan.document)
            else:
                outcome.refused.append((trace_id, written.reason))
        if wanted:
            # Somebody wrote between our read and our write: what they wrote is merged next time round.
            asked = list(wanted)
            patience_s -= delay_s
            if patience_s <= 0:
                raise StoreUnavailableError(
                    f"{connection}: other writers kept changing {len(wanted)} documents for {connection.timeout_s:g} s",
                    retry_after_s=RETRY_AFTER_S,
                )
            await asyncio.sleep(delay_s)


def _plan(path: str, wanted: _Wanted, stored: Any, now: datetime, outcome: Outcome) -> _Planned | None:
    trace_id = wanted.capture.trace_id
    if stored is None or reader.has_expired(stored, now):
        created = {**wanted.document, **merging.created_fields(now)}
        write = writer.creation(path, created) if stored is None else writer.replacement(path, created, stored.update_time)
        return _Planned(path, write, created, outcome.created)
    if reader.text_in(stored, "fingerprint") == wanted.document["fingerprint"]:
        outcome.note(outcome.unchanged, trace_id, wanted.document)
        return None
    facts = _decoded(stored)
    merged = merging.merged_document(wanted.capture, facts)
    if merged is None:
        outcome.note(outcome.unchanged, trace_id, facts)
        return None
    return _Planned(path, writer.update(path, {**merged, "updated_at": now}, stored.update_time), merged, outcome.updated)


def _decoded(stored: Any) -> dict[str, Any]:
    try:
        return decode_fields(stored.fields)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise merging.unreadable(error) from error
