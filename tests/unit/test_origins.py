"""Origins: what makes one another, and what a run does with a trace that it recognizes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from evalforge.core.origins import MAX_ORIGINS, ORIGIN_BYTES, Origins, cut_origins, pack_origins, unpack_origins
from evalforge.core.ports import Erasure, Selection, StoredDocument
from evalforge.core.privacy import KeyRing, Sanitizer, TextPolicy
from evalforge.core.privacy.again import judged_again
from evalforge.core.signals import Limits, Thresholds
from evalforge.core.span import Evaluation, Span
from evalforge.core.tombstones import trace_key
from evalforge.ingest import Judge
from evalforge.rehearsal import Rehearsal
from evalforge.runs import RunReport, run
from evalforge.sources.datadog.spans import parse_llm_obs
from evalforge.stores.sqlite import SqliteStore
from tests.fake_source import FakeSource
from tests.orders import order
from tests.unit.test_runs import KEY_A, KEY_B, NOW, WINDOW, judge, span

RULES = {"site": "datadoghq.com"}


def origins(key: bytes = KEY_A, **rules: Any) -> Origins:
    made = Origins.under(KeyRing((key,)), {**RULES, **rules})
    assert made is not None
    return made


ONE, TWO = span(1), span(2)
ORIGIN = origins().of([ONE, TWO], [ONE])


def test_an_origin_is_short_and_tells_nothing() -> None:
    assert ORIGIN is not None
    assert len(ORIGIN) == ORIGIN_BYTES
    assert "k" not in repr(origins()).removeprefix("Origins")


def test_neither_order_nor_repetition_counts() -> None:
    assert origins().of([TWO, ONE, TWO], [ONE]) == ORIGIN


def test_there_is_none_without_a_key() -> None:
    assert Origins.under(KeyRing(()), RULES) is None


def test_what_cannot_be_written_down_has_none() -> None:
    deep: Any = []
    for _ in range(200_000):
        deep = [deep]
    assert origins().of([replace(ONE, metadata={"a": deep})], [ONE]) is None
    assert origins().of([replace(ONE, metadata={"a": object()})], [ONE]) is None


@pytest.mark.parametrize(
    "other",
    [
        origins().of([ONE], [ONE]),
        origins().of([ONE, TWO], [ONE, TWO]),
        origins().of([ONE, replace(TWO, metadata={"customer": "Ann"})], [ONE]),
        origins(KEY_B).of([ONE, TWO], [ONE]),
        origins(site="datadoghq.eu").of([ONE, TWO], [ONE]),
    ],
    ids=["a neighbour less", "a failure more", "another neighbour", "another key", "another rule"],
)
def test_anything_that_could_matter_makes_another_origin(other: bytes) -> None:
    assert other != ORIGIN


_OTHER: dict[str, Any] = {
    "trace_id_kind": "apm",
    "start_ns": 1,
    "duration_ns": 1,
    "metadata": {"a": 1},
    "metrics": {"a": 1},
    "attributes": {"a": 1},
    "extra": {"a": 1},
    "tags": (("a", "b"),),
    "evaluations": (Evaluation("toxicity", 0.9, body={"reasoning": "rude"}),),
}


@pytest.mark.parametrize("name", [one.name for one in fields(Span) if one.compare])
def test_every_field_of_a_span_counts(name: str) -> None:
    changed = replace(ONE, **{name: _OTHER.get(name, "other")})
    assert origins().of([changed], [changed]) != origins().of([ONE], [ONE])


def test_a_span_as_it_was_received_counts_by_what_was_received() -> None:
    def parsed(**attributes: Any) -> Span:
        found = parse_llm_obs({"attributes": {"trace_id": "ab", "span_id": "1", "status": "error", **attributes}})
        assert isinstance(found, Span)
        return found

    one = parsed(input={"value": "a", "n": 1})
    assert origins().of([one], [one]) == origins().of([again := parsed(input={"n": 1, "value": "a"})], [again])
    for other in (parsed(input={"value": "b", "n": 1}), parsed(unforeseen="x"), parsed()):
        assert origins().of([other], [other]) != origins().of([one], [one])


LIMITS = Thresholds(applications={"shop": Limits(quality=0.2)})


@pytest.mark.parametrize(
    "other",
    [
        Judge(Thresholds(quality=0.4), KeyRing((KEY_A,)), Sanitizer(KeyRing((KEY_A,))), "datadoghq.com", 180),
        Judge(LIMITS, KeyRing((KEY_A,)), Sanitizer(KeyRing((KEY_A,))), "datadoghq.com", 180),
        Judge(
            Thresholds(ignored_evaluations=frozenset({"csat"})),
            KeyRing((KEY_A,)),
            Sanitizer(KeyRing((KEY_A,))),
            "datadoghq.com",
            180,
        ),
        Judge(
            Thresholds(),
            KeyRing((KEY_A,)),
            Sanitizer(KeyRing((KEY_A,)), TextPolicy.of(explanations="closed")),
            "datadoghq.com",
            180,
        ),
        Judge(
            Thresholds(),
            KeyRing((KEY_A,)),
            Sanitizer(KeyRing((KEY_A,)), TextPolicy.of(["input", "output"])),
            "datadoghq.com",
            180,
        ),
        judge(KEY_B, KEY_A),
        judge(KEY_A, KEY_B),
    ],
)
def test_every_setting_that_decides_makes_other_origins(other: Judge) -> None:
    mine = judge(KEY_A)
    assert mine.origins is not None
    assert other.origins is not None
    assert other.origins.of([ONE], [ONE]) != mine.origins.of([ONE], [ONE])


def test_how_long_captures_are_kept_does_not() -> None:
    longer = replace(judge(KEY_A), retention_days=9).origins
    same = judge(KEY_A).origins
    assert longer is not None
    assert same is not None
    assert longer.of([ONE], [ONE]) == same.of([ONE], [ONE])


def test_origins_are_packed_and_cut_in_one_order() -> None:
    many = frozenset(bytes([n]) * ORIGIN_BYTES for n in range(MAX_ORIGINS + 8))
    assert unpack_origins(pack_origins(many)) == many
    assert len(cut_origins(many)) == MAX_ORIGINS
    assert cut_origins(cut_origins(many) | many) == cut_origins(many)


# -- runs


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


@pytest.fixture
def sanitized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The span ids that the sanitizer was asked for."""
    asked: list[str] = []
    real = Sanitizer.sanitize

    def sanitize(self: Sanitizer, one: Span, *others: Any) -> Any:
        asked.append(one.span_id)
        return real(self, one, *others)

    monkeypatch.setattr(Sanitizer, "sanitize", sanitize)
    return asked


async def go(store: Any, *items: Any, keys: tuple[bytes, ...] = (KEY_A,), page_size: int = 10, **others: Any) -> RunReport:
    source = FakeSource(items, page_size=page_size)
    return await run([source], store, judge(*keys), order(WINDOW, **others), clock=lambda: NOW)


async def held(store: SqliteStore) -> list[dict[str, Any]]:
    return [dict(one.document) async for one in store.select(Selection(), now=NOW)]


async def test_what_is_stored_is_not_sanitized_again(store: SqliteStore, sanitized: list[str]) -> None:
    items = [span(1), span(2, trace=1), span(3, status="ok"), span(4)]
    first = await go(store, *items)
    documents = await held(store)
    assert sorted(sanitized) == sorted(one.span_id for one in items if one.status == "error")
    sanitized.clear()
    second = await go(store, *items)
    assert sanitized == []
    assert await held(store) == documents
    assert (first.tally.created, second.tally.created, second.tally.unchanged) == (2, 0, 2)
    for tally in (first.tally, second.tally):
        assert (tally.fetched, tally.healthy, tally.failing, tally.rejected) == (4, 1, 3, 0)


async def test_what_changed_is_and_only_that(store: SqliteStore, sanitized: list[str]) -> None:
    await go(store, span(1), span(2))
    sanitized.clear()
    changed = replace(span(2), metadata={"http.status_code": 503})
    report = await go(store, span(1), changed)
    assert sanitized == [changed.span_id]
    assert (report.tally.updated, report.tally.unchanged) == (1, 1)
    sanitized.clear()
    assert (await go(store, span(1), changed)).tally.unchanged == 2
    assert (await go(store, span(1), span(2))).tally.unchanged == 2, "the version before is known too"
    assert sanitized == []


async def test_without_hashing_keys_everything_is(store: SqliteStore, sanitized: list[str]) -> None:
    for _ in range(2):
        await go(store, span(1), keys=())
    assert sanitized == [span(1).span_id] * 2
    (document,) = await held(store)
    assert document["origins"] == b""


async def test_under_a_new_key_everything_is(store: SqliteStore, sanitized: list[str]) -> None:
    await go(store, span(1))
    sanitized.clear()
    await go(store, span(1), keys=(KEY_B, KEY_A))
    assert sanitized == [span(1).span_id]


async def test_a_trace_with_a_dead_letter_is_judged_each_time(store: SqliteStore, sanitized: list[str]) -> None:
    """Its letter counts in the report, and may be resolved by the next version."""
    items = [span(1), replace(span(2, trace=1), span_id="undefined")]
    for _ in range(2):
        report = await go(store, *items)
        assert (report.tally.failing, report.tally.rejected) == (1, 1)
    assert len(sanitized) == 4
    assert await store.dead_letter_count(now=NOW) == 1


async def test_a_dry_run_shows_what_the_rules_make_of_everything(store: SqliteStore, sanitized: list[str]) -> None:
    await go(store, span(1))
    sanitized.clear()
    report = await go(Rehearsal(store), span(1), rehearsal=True)
    assert sanitized == [span(1).span_id]
    assert report.rehearsed is not None
    assert report.rehearsed.document()["captures_by_signal"] == {"execution_error": 1}


@pytest.mark.parametrize("what", ["trace", "user"])
async def test_what_was_erased_goes_though_it_is_recognized(store: SqliteStore, what: str) -> None:
    """An erasure broke off after its tombstone stood: the next run removes what it left."""
    ring = KeyRing((KEY_A,))
    items = [replace(span(1, status="ok"), metadata={"user.id": "ann"}), span(2, trace=1), span(3)]
    await go(store, *items)
    await store.save_erasure(
        Erasure(
            id="erasure_1",
            erased_at=NOW + timedelta(hours=1),
            kind="trace",
            actor="officer",
            trace_keys=(trace_key(span(1).trace_id, ring),) if what == "trace" else (),
            user_hashes=(str(ring.user_hash("ann")),) if what == "user" else (),
        )
    )
    report = await go(store, *items)
    assert [one["trace_id"] for one in await held(store)] == [span(3).trace_id]
    assert (report.tally.kept_out, report.tally.unchanged) == (1, 1)


async def test_what_is_erased_while_it_is_recognized_is_not_unchanged(store: SqliteStore) -> None:
    ring = KeyRing((KEY_A,))
    await go(store, span(1), span(2))

    class Erasing:
        """The store, in which an erasure is ordered while a page is looked at."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def upsert(self, *captures: Any, **others: Any) -> Any:
            key = trace_key(span(1).trace_id, ring)
            await store.save_erasure(Erasure("erasure_1", NOW, "trace", "officer", trace_keys=(key,)))
            return await store.upsert(*captures, **others)

    report = await go(Erasing(), span(1), span(2))
    assert (report.tally.unchanged, report.tally.kept_out) == (1, 1)
    assert [one["trace_id"] for one in await held(store)] == [span(2).trace_id]


async def test_what_an_audit_has_mended_is_judged_again(store: SqliteStore) -> None:
    """A capture in which something leaked does not hold any more what came of its spans."""
    await go(store, span(1))
    found: list[StoredDocument] = [one async for one in store.documents("raw_traces")]
    (capture,) = [one.capture async for one in store.select(Selection(), now=NOW)]
    assert capture.origins
    leaking = replace(capture, payload={**capture.payload, "name": "ann@example.com"})
    better, leaks = judged_again(leaking, leaking.to_document(), judge(KEY_A).sanitizer)
    assert leaks
    assert better.origins == frozenset()
    same, none = judged_again(capture, found[0].document, judge(KEY_A).sanitizer)
    assert (none, same.origins) == ([], capture.origins)


@pytest.mark.parametrize("page_size", [1, 2, 3])
async def test_users_and_untold_errors_are_looked_for_again(store: SqliteStore, page_size: int) -> None:
    for _ in range(2):
        report = await go(store, span(1), span(2), page_size=page_size, resolve_users=True)
        assert report.user_lookup is not None
        assert report.user_lookup.looked_for == 2


def test_a_received_span_that_was_changed_since_counts_by_its_fields() -> None:
    found = parse_llm_obs({"attributes": {"trace_id": "ab", "span_id": "1", "status": "error"}})
    assert isinstance(found, Span)
    moved, again = (replace(found, trace_id=trace_id) for trace_id in ("cd", "cd"))
    assert origins().of([moved], [moved]) == origins().of([again], [again]) != origins().of([found], [found])
