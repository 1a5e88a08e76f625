"""Archives on one machine: the same captures as one live run over the same spans, byte for byte."""

from __future__ import annotations

import asyncio
import gzip
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from evalforge import bootstrap
from evalforge.archives import ArchiveReport, Bounds
from evalforge.bootstrap.archives import judge_archive_once
from evalforge.cli import main
from evalforge.config import Settings
from evalforge.errors import RequestError, RunInProgressError
from evalforge.ingest import Tally
from evalforge.runs import ARCHIVE_LEASE_NAME, taken_lease
from evalforge.sandbox import samples
from evalforge.sandbox.server import BackgroundServer
from evalforge.sources import archive
from tests.archives import SALT, documents_in, items_in, letters_in, settings_of, written
from tests.storage import Storage, storage

__all__ = ["storage"]


@dataclass(frozen=True)
class Live:
    """What one live run made of the samples, and the samples as the searches gave them."""

    items: list[Any]
    documents: dict[str, bytes]
    letters: dict[str, bytes]
    tally: Tally
    planted: tuple[str, ...]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer() as server:
        yield server


@pytest.fixture(scope="module")
def live(sandbox: BackgroundServer, tmp_path_factory: pytest.TempPathFactory) -> Live:
    return live_run(sandbox, tmp_path_factory.mktemp("live"), traces=40)


def live_run(sandbox: BackgroundServer, folder: Path, *, traces: int) -> Live:
    """What one live run makes of samples of so many traces."""
    loaded = samples.load(sandbox.sandbox.store, end=datetime.now(UTC), traces=traces)
    path = folder / "captures.sqlite3"
    settings = settings_of(CAPTURE_STORE=f"sqlite:///{path}", DATADOG_API_URL=sandbox.url, DATADOG_FILTER="scan")

    async def read() -> Live:
        report = await bootstrap.ingest_once(settings, holder="test", lookback_hours=26)
        assert report.complete, report.incomplete_because
        documents = await documents_in(settings)
        return Live(await items_in(sandbox), documents, await letters_in(settings), report.tally, loaded.planted)

    return asyncio.run(read())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(CAPTURE_STORE=f"sqlite:///{tmp_path / 'captures.sqlite3'}")


async def judged(settings: Settings, *places: str | Path, **options: Any) -> ArchiveReport:
    return await judge_archive_once(settings, [str(place) for place in places], holder="test", **options)


async def test_an_archive_becomes_what_a_live_run_makes_of_its_spans(live: Live, settings: Settings, tmp_path: Path) -> None:
    report = await judged(settings, written(tmp_path / "archive", live.items))
    found = await documents_in(settings)
    assert found.keys() == live.documents.keys()
    assert found == live.documents
    everything = b"".join(found.values()).decode().lower()
    assert [secret for secret in live.planted if secret.lower() in everything] == []
    tally, run = report.tally, live.tally
    assert (tally.fetched, tally.healthy, tally.failing, tally.rejected) == (
        run.fetched,
        run.healthy,
        run.failing,
        run.rejected,
    )
    assert report.document()["complete"] is True
    assert report.read_count == 2
    again = await judged(settings, tmp_path / "archive")
    assert (again.tally.created, again.tally.updated) == (0, 0)
    assert again.tally.unchanged >= len(found), "a trace with spans of both searches is met twice"
    assert await documents_in(settings) == found


async def test_what_does_not_fit_into_memory_is_read_for_again(live: Live, settings: Settings, tmp_path: Path) -> None:
    folder = written(tmp_path / "archive", live.items, seed=2)
    report = await judged(settings, folder, bounds=Bounds(held_bytes=12_000, indexed_traces=3))
    assert await documents_in(settings) == live.documents
    assert report.tally.fetched == report.tally.healthy + report.tally.failing + report.tally.rejected == live.tally.fetched
    assert report.read_count > 6


async def test_a_run_that_was_stopped_goes_on_where_it_stood(live: Live, settings: Settings, tmp_path: Path) -> None:
    folder = written(tmp_path / "archive", live.items)
    bounds = Bounds(held_bytes=12_000)
    told: list[float] = []
    first = await judged(
        settings,
        folder,
        bounds=bounds,
        on_progress=lambda report: told.append(report.position),
        wants_stop=lambda: len(told) >= 2,
    )
    assert (first.stopped, first.position) == ("stopped", told[-1])
    assert 0 < first.position < 1
    assert 0 < len(await documents_in(settings)) < len(live.documents)
    second = await judged(settings, folder, bounds=bounds)
    assert (second.resumed_at, second.position, second.stopped) == (first.position, 1.0, None)
    assert second.tally.unchanged == 0, "what was stored is not judged again"
    assert first.tally.created + second.tally.created == len(live.documents)
    assert first.tally.fetched + second.tally.fetched == live.tally.fetched
    assert await documents_in(settings) == live.documents


async def test_a_trace_larger_than_memory_is_judged_in_pieces(live: Live, settings: Settings, tmp_path: Path) -> None:
    report = await judged(settings, written(tmp_path / "archive", live.items), bounds=Bounds(held_bytes=1))
    found = await documents_in(settings)
    assert found.keys() == live.documents.keys()
    assert report.tally.fetched == live.tally.fetched


async def test_odd_lines_and_broken_files_are_dead_letters_and_never_the_end(
    live: Live, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_LINE_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "FREE_BYTES", 2 << 20)
    folder = written(tmp_path / "archive", live.items)
    odd = [
        b"{no json",
        b"[1, null, {}]",
        b'{"data": 7}',
        b'{"attributes": {"span_id": "1"}}',
        b"\xff\xfe",
        b'{"attributes": {"trace_id": "t", "span_id": "s", "status": "error", "input": ' + b"[" * 900 + b"]" * 900 + b"}}",
        b"",
        b'"' + b"x" * (1 << 20) + b'"',
        b'{"attributes": {"trace_id": "9", "span_id": "9", "ml_app": "left", "status": "ok", "start_ns": NaN}}',
    ]
    (folder / "odd.ndjson").write_bytes(b"\xef\xbb\xbf" + b"\n".join(odd))
    lines = b"\n".join(orjson.dumps(item) for item in live.items[:50])
    (folder / "cut.ndjson.gz").write_bytes(gzip.compress(lines)[:-200])
    (folder / "bomb.ndjson.gz").write_bytes(gzip.compress(bytes(9 << 20)))
    (folder / "empty.ndjson").write_bytes(b"")
    report = await judged(settings, folder)
    tally = report.tally
    assert tally.fetched == tally.healthy + tally.failing + tally.rejected
    assert dict(tally.by_reason) == {
        "no_json": 2,
        "not_an_object": 2,
        "no_attributes": 2,
        "missing_trace_id": 1,
        "line_too_long": 2,
        "decompresses_to_too_much": 1,
        "unreadable_rest": 1,
    }
    found = await documents_in(settings)
    assert live.documents.items() <= found.items()
    assert len(found) == len(live.documents) + 1, "the trace of the deep span"
    assert {orjson.loads(letter)[0] for letter in (await letters_in(settings)).values()} <= {"archive", "llm_obs"}


async def test_two_do_not_judge_archives_at_once(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "one.ndjson").write_bytes(b"{}")
    async with bootstrap.opened_store(settings) as store:
        await taken_lease(store, "somebody", bootstrap.utc_now(), name=ARCHIVE_LEASE_NAME)
    with pytest.raises(RunInProgressError):
        await judged(settings, tmp_path / "one.ndjson")


@pytest.mark.parametrize("place", ["absent.ndjson", "empty-folder", "a\0b"])
async def test_a_place_with_nothing_to_read_is_refused(settings: Settings, tmp_path: Path, place: str) -> None:
    (tmp_path / "empty-folder").mkdir()
    with pytest.raises(RequestError, match=re.escape(place.partition("\0")[0])):
        await judged(settings, tmp_path / place)


async def test_scope_counts_as_in_a_live_run(live: Live, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "captures.sqlite3"
    narrow = settings_of(CAPTURE_STORE=f"sqlite:///{path}", DATADOG_ML_APPS="support-bot")
    await judged(narrow, written(tmp_path / "archive", live.items))
    found = await documents_in(narrow)
    assert 0 < len(found) < len(live.documents)


async def test_an_archive_in_a_bucket_is_read_there(live: Live, tmp_path: Path, storage: Storage) -> None:
    folder = written(tmp_path / "archive", live.items)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    storage.make_bucket(bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.put(bucket, f"spans/{path.relative_to(folder)}", path.read_bytes())
    storage.put(bucket, "spans-of-others/x.ndjson", b"no json")
    settings = settings_of(
        CAPTURE_STORE=f"sqlite:///{tmp_path / 'captures.sqlite3'}", CLOUD_STORAGE_ENDPOINT=storage.address
    )
    report = await judged(settings, f"gs://{bucket}/spans")
    assert report.files == 3
    assert dict(report.tally.by_reason) == {}
    assert await documents_in(settings) == live.documents
    with pytest.raises(RequestError, match="does not exist"):
        await judged(settings, "gs://no-such-bucket-here/spans")


async def test_what_was_erased_does_not_come_back_with_an_archive(live: Live, settings: Settings, tmp_path: Path) -> None:
    folder = written(tmp_path / "archive", live.items)
    await judged(settings, folder)
    async with bootstrap.opened_store(settings) as store:
        first = await anext(store.documents("raw_traces").__aiter__())
    await bootstrap.erase_once(settings, actor="officer", trace_id=first.document["trace_id"])
    again = await judged(settings, folder)
    assert again.tally.kept_out >= 1
    assert (await documents_in(settings)).keys() == live.documents.keys() - {first.key}


def test_the_command_prints_its_report(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "archive", live.items[:30])
    monkeypatch.setenv("CAPTURE_STORE", f"sqlite:///{tmp_path / 'captures.sqlite3'}")
    monkeypatch.setenv("PII_SALT", SALT)
    assert main(["archive", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "3 files, read 2 times" in said
    assert "30 = " in said
    assert main(["archive", str(folder), "--json"]) == 0
    report = orjson.loads(capsys.readouterr().out)
    assert (report["complete"], report["items"]["fetched"], report["captures"]["created"]) == (True, 30, 0)
    assert main(["archive", str(tmp_path / "nowhere")]) == 2
