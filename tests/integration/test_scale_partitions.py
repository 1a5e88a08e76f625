"""What workers do with their parts, without an engine: any split and any order give what one machine gives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evalforge import bootstrap
from evalforge.bootstrap.archives import buckets_of
from evalforge.config import Settings
from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Selection
from evalforge.credentials import resolve_key_ring
from evalforge.ingest import Tally
from evalforge.rejudging import Rejudged, rejudge
from evalforge.scale import partitions
from evalforge.scale.partitions import Order
from evalforge.sources.archive import Part, parts_of
from tests.archives import documents_in, settings_of, written
from tests.integration.test_archive import Live, live, sandbox
from tests.storage import storage

__all__ = ["live", "sandbox", "storage"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the driver, which every worker reads from its own environment."""
    environment = {"CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}"}
    found = settings_of(**environment)
    for name in ("CAPTURE_STORE", "PII_SALT"):
        monkeypatch.setenv(name, environment.get(name, "0nly-f0r-tests-kZ8vQ2mX7pL4wR9tB6nJ3hG5"))
    return found


def order_of(settings: Settings, writers: int = 3) -> Order:
    judge = bootstrap.judge_of(settings, asyncio.run(resolve_key_ring(settings)))
    return Order(bootstrap.utc_now(), writers, partitions.settings_digest(settings, judge))


def shuffled(parts: list[Part], failing: bytes, count: int) -> Iterator[list[partitions.Row]]:
    """What an engine's shuffle and sort give to each of `count` partitions, the rows of a trace in any order."""
    rows = [row for part in parts for row in partitions.wanted_in([part], failing)]
    random.Random(3).shuffle(rows)
    for number in range(count):
        yield sorted((row for row in rows if row[0] % count == number), key=lambda row: row[0])


def test_parts_judged_apart_and_twice_are_what_one_live_run_makes(live: Live, settings: Settings, tmp_path: Path) -> None:
    parts = parts_of([str(written(tmp_path / "archive", live.items))], buckets_of(settings), split_bytes=20_000)
    assert len(parts) > 4
    order = order_of(settings)
    found = [one for part in parts for one in partitions.found_in([part], order)]
    failing = partitions.joined_places(one.failing for one in found)
    assert len(failing) // 8 >= len(live.documents)
    tallies = []
    for rows in shuffled(parts, failing, order.writers):
        tallies.append(partitions.judged(iter(rows), order))
        before = asyncio.run(whole(settings))
        again = partitions.judged(iter(rows), replace(order, began_at=bootstrap.utc_now()))
        assert (again.created, again.updated) == (0, 0)
        assert asyncio.run(whole(settings)) == before, "a part that runs twice writes nothing new, no time either"
    assert asyncio.run(documents_in(settings)) == live.documents
    total = Tally.total([*tallies, *(one.tally for one in found)])
    healthy_count = sum(one.span_count for one in found) - sum(one.fetched for one in tallies)
    assert total.fetched + healthy_count == live.tally.fetched
    assert (total.healthy + healthy_count, total.failing, total.rejected) == (
        live.tally.healthy,
        live.tally.failing,
        live.tally.rejected,
    )


async def whole(settings: Settings) -> dict[str, dict[str, object]]:
    async with bootstrap.opened_store(settings) as store:
        return {one.key: dict(one.document) async for one in store.documents("raw_traces")}


def test_odd_items_are_dead_letters_wherever_they_are_read(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"{no json\n[1]\n" * 300)
    parts = parts_of([str(tmp_path)], buckets_of(settings), split_bytes=1000)
    order = order_of(settings)
    tally = Tally.total(one.tally for part in parts for one in partitions.found_in([part], order))
    assert (tally.fetched, tally.rejected, tally.new_letters) == (600, 600, 2)


@pytest.mark.parametrize("name", ["PII_SALT", "QUALITY_THRESHOLD", "FIRESTORE_COLLECTION_PREFIX", "DATADOG_ML_APPS"])
def test_a_worker_with_other_settings_does_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"{}\n")
    order = order_of(settings)
    other = {"PII_SALT": "an0ther-Salt-of-32-bytes-kZ8vQ2mX7pL4w", "QUALITY_THRESHOLD": "0.6"}
    monkeypatch.setenv(name, other.get(name, "other_"))
    with pytest.raises(RuntimeError, match="other settings than the driver"):
        partitions.found_in(parts_of([str(tmp_path / "a.ndjson")], buckets_of(settings)), order)


def test_an_error_that_nobody_foresaw_says_where_and_nothing_of_the_span(settings: Settings) -> None:
    def rows() -> Iterator[partitions.Row]:
        yield 1, "llm_obs", b"Lsecret text"

    with pytest.raises(RuntimeError) as caught:
        partitions.judged(rows(), order_of(settings))
    assert "secret" not in str(caught.value)
    assert "[evalforge unexpected] NonsenseError at answers.py:" in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_ranges_of_keys_hold_every_key_once(count: int) -> None:
    rng = random.Random(4)
    keys = ["0" * 32, "f" * 32, *(f"{rng.getrandbits(128):032x}" for _ in range(300))]
    keys += [f"{16**32 * number // count:032x}" for number in range(1, count)]
    ranges = partitions.key_ranges(count)
    for key in keys:
        inside = [one for one in ranges if (one[0] is None or one[0] < key) and (one[1] is None or key < one[1])]
        assert len(inside) == 1
    assert len(ranges) == count


async def stored(settings: Settings) -> dict[str, FailureCapture]:
    async with bootstrap.opened_store(settings) as store:
        return {one.capture.trace_id: one.capture async for one in store.select(Selection(), now=bootstrap.utc_now())}


async def test_new_rules_add_signals_and_touch_no_review_state(live: Live, tmp_path: Path, settings: Settings) -> None:
    from evalforge.bootstrap.archives import judge_archive_once

    place = str(written(tmp_path / "archive", live.items))
    await judge_archive_once(settings, [place], holder="test")
    before = await stored(settings)
    documents = await whole(settings)
    strict = settings_of(CAPTURE_STORE=settings.capture_store, QUALITY_THRESHOLD="0.95", TOXICITY_THRESHOLD="0.1")
    judge = bootstrap.judge_of(strict, await resolve_key_ring(strict))

    async def again(bounds: list[tuple[str | None, str | None]]) -> Rejudged:
        total = Rejudged()
        async with bootstrap.opened_store(strict) as store:
            for after, upto in bounds:
                total.add(await rejudge(store, judge, after=after, before=upto, clock=bootstrap.utc_now))
        return total

    first = await again(partitions.key_ranges(3))
    assert first.seen == len(before) == first.rewritten + first.unchanged
    assert first.new_signals > 0
    after = await stored(settings)
    assert all(set(before[trace_id].signals) <= set(capture.signals) for trace_id, capture in after.items())
    # A live run by the same rules finds these signals too.
    other = settings_of(
        CAPTURE_STORE=f"sqlite:///{tmp_path / 'other.sqlite3'}", QUALITY_THRESHOLD="0.95", TOXICITY_THRESHOLD="0.1"
    )
    await judge_archive_once(other, [place], holder="test")
    by_new_rules = await stored(other)
    for trace_id, capture in after.items():
        added = set(capture.signals) - set(before[trace_id].signals)
        assert added <= set(by_new_rules[trace_id].signals)
    second = await again(partitions.key_ranges(1))
    assert (second.rewritten, second.unchanged) == (0, first.seen), "it is idempotent"
    kept = await whole(settings)
    assert {key: one["processed"] for key, one in kept.items()} == {key: one["processed"] for key, one in documents.items()}
