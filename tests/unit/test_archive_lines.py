"""Lines of an archive: what is read of any bytes, how a span is packed and had again, and how a file is cut."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from evalforge.cli.archive import report_rows
from evalforge.core.ports import ArchiveEntry, Rejected
from evalforge.sources.archive import entries_in, entries_of, lines_of, ordered, parts_of, place_of, span_again
from evalforge.sources.archive_buckets import Buckets

BUCKETS = Buckets()
ITEM = {"attributes": {"trace_id": "6b03", "span_id": "7", "status": "error", "start_ns": 5, "ml_app": "bot"}}

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_any_line_gives_entries_or_rejections(line: bytes) -> None:
    for found in entries_in(line):
        assert isinstance(found, ArchiveEntry) or isinstance(found[1], Rejected)


@given(JSON, st.booleans())
def test_a_packed_span_is_had_again_as_it_was(value: Any, is_apm: bool) -> None:
    import json

    attributes = {**ITEM["attributes"], "input": value, "metadata": {"m": value}}
    if is_apm:
        attributes["custom"] = {"c": value}
    for document in ({"attributes": attributes}, attributes, {"data": [{"attributes": attributes}]}):
        [entry] = entries_in(json.dumps(document).encode())
        assert isinstance(entry, ArchiveEntry)
        again = span_again(entry.source, entry.packed)
        assert repr(again.content) == repr(entry.span.content)
        assert entry.source == ("apm" if is_apm else "llm_obs")
        assert entry.place == place_of("6b03")


def test_what_is_packed_by_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="no packed span"):
        span_again("llm_obs", b"L[]")


def test_spans_of_a_trace_come_as_a_run_reads_them_whatever_their_order() -> None:
    lines = [orjson.dumps({"attributes": {**ITEM["attributes"], "span_id": str(n), "start_ns": n % 3}}) for n in range(6)]
    packed = [
        (one.place, one.source, one.packed) for line in lines for one in entries_in(line) if isinstance(one, ArchiveEntry)
    ]
    assert ordered(packed) == ordered(packed[::-1])
    assert [span.start_ns for _, span in ordered(packed)] == [0, 0, 1_000_000, 1_000_000, 2_000_000, 2_000_000]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("length", [1, 7, 64, 65, 1000])
def test_a_plain_file_cut_anywhere_has_the_same_lines(tmp_path: Path, length: int, ending: bytes) -> None:
    lines = [b"x" * (number % 90 + 1) for number in range(12)]
    (tmp_path / "a.ndjson").write_bytes(ending.join(lines) + (ending if length % 2 else b""))
    parts = parts_of([str(tmp_path)], BUCKETS, split_bytes=length)
    found = [line.strip() for part in parts for line in lines_of(part, BUCKETS) if isinstance(line, bytes)]
    assert found == lines
    assert len(parts) > 1 or length == 1000


def test_a_packed_file_is_never_cut(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(gzip.compress(b"1\n" * 5000))
    (tmp_path / "b.ndjson").write_bytes(zstandard.compress(b"1\n" * 5000))
    assert len(parts_of([str(tmp_path)], BUCKETS, split_bytes=5)) == 2


def test_a_zstd_window_beyond_what_is_allowed_is_not_taken(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=False)
    chunks = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.ndjson").write_bytes(chunks.compress(b"{}\n") + chunks.flush())
    [part] = parts_of([str(tmp_path)], BUCKETS)
    [found] = entries_of(part, BUCKETS)
    assert isinstance(found, tuple)
    assert (found[0], found[1].reason) == ("archive", "unreadable_rest")


def test_a_file_that_is_gone_is_a_rejection(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"{}\n")
    [part] = parts_of([str(tmp_path / "a.ndjson")], BUCKETS)
    (tmp_path / "a.ndjson").unlink()
    assert [one.reason for one in lines_of(part, BUCKETS) if isinstance(one, Rejected)] == ["unreadable_rest"]


def test_the_report_says_where_a_stopped_run_stands() -> None:
    counts = dict.fromkeys(("created", "updated", "unchanged", "refused", "kept_out"), 0)
    items = {"fetched": 5, "healthy": 3, "failing": 1, "rejected": 1}
    report = {"files": 1, "times_read": 2, "items": items, "captures": counts, "errors_by_code": {"no_json": 1}}
    rows = dict(report_rows({**report, "complete": False, "position": 0.25, "resumed_at": 0.0}))
    assert rows["outcome"] == "stopped at 25%; run it again and it goes on"
    assert rows["odd"] == "1 no_json"
