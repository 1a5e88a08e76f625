"""Measures what a capture costs on its way into a store: client CPU and captures a second, beside Google's own client.

    python -m bench.writing                              prints the table, some minutes
    python -m bench.writing --captures 200 --repeats 1   to see that it works

Client CPU is what tells: the operating system's figure for a process that does nothing else, however fast the server is.
The null server answers every call at once and keeps what it is sent, so that a second run finds it. Where Google's emulator
is installed the same goes to that too, each case in a project of its own. Medians of interleaved repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Store

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE = 1_000
"""How many captures one upsert brings, about as many as a page of failing spans."""
PREFIX = "bench_"
COLLECTION = f"{PREFIX}raw_traces"
LIBRARY_BATCH = 20
"""Writes in a batch of Google's client: what its BulkWriter takes."""
FIRESTORE_CASES = {
    "WriteBatch, set": "write_batch",
    "BulkWriter, set, its limit lifted": "bulk_writer",
    "ours, the documents alone": "documents",
    "ours, first run": "created",
    "ours, unchanged second run": "unchanged",
}
SQLITE_CASES = {"first run": "created", "unchanged second run": "unchanged"}


def made_captures(count: int) -> list[FailureCapture]:
    """Captures of as many failing spans of 4 kB, each a trace of its own, as the pipeline makes them."""
    from bench.spans import Workload, failing_items
    from evalforge.core.privacy import KeyRing, Sanitizer
    from evalforge.core.signals import Thresholds, find_signals
    from evalforge.core.span import Span
    from evalforge.ingest import Judge
    from evalforge.sources.datadog.spans import parse_llm_obs

    ring = KeyRing((b"bench-0nly-kZ8vQ2mX7pL4wR9tB6nJ3hG5yT",))
    judge = Judge(Thresholds(), ring, Sanitizer(ring), "datadoghq.com", 180)
    load = Workload(20 * count, 20, 4_000, 1, int(NOW.timestamp() * 1000))
    made: dict[str, FailureCapture] = {}
    for item in failing_items(load):
        span = parse_llm_obs(item | {"attributes": item["attributes"] | {"trace_id": f"{len(made):032x}"}})
        assert isinstance(span, Span)
        capture = judge.captured(span, find_signals(span, judge.thresholds), NOW)
        made[capture.trace_id] = capture
    return list(made.values())


def made_documents(captures: Sequence[FailureCapture]) -> dict[str, dict[str, Any]]:
    """What is stored of them, by document id."""
    from evalforge.stores import merging

    fitted = (merging.fitted_document(capture) for capture in captures)
    return {capture.document_id: {**document, **merging.created_fields(NOW)} for capture, document in fitted}


# -- one case, in a process of its own


async def upserted(store: Store, captures: Sequence[FailureCapture]) -> tuple[int, int]:
    """Brings the captures page by page; how many were created, and how many unchanged."""
    created = unchanged = 0
    for at in range(0, len(captures), PAGE):
        result = await store.upsert(captures[at : at + PAGE], now=NOW)
        created, unchanged = created + len(result.created), unchanged + len(result.unchanged)
    return created, unchanged


async def run_store(case: str, store: Store, captures: Sequence[FailureCapture]) -> dict[str, float]:
    """A first run or the one after it."""
    await store.ping()
    expected = (len(captures), 0)
    if case == "unchanged":
        assert await upserted(store, captures) == expected
        expected = (0, len(captures))
    figures = await timed(lambda: upserted(store, captures), expected)
    await store.close()
    return figures


async def run_documents(address: str, project: str, captures: Sequence[FailureCapture]) -> dict[str, float]:
    """Our writer with the finished documents: what can be compared with Google's client."""
    from evalforge.stores.firestore import writer
    from evalforge.stores.firestore.connection import Connection

    connection = Connection(project, None, address, 30.0, None)
    await connection.client()
    writes = [
        writer.creation(connection.document_path(COLLECTION, key), document)
        for key, document in made_documents(captures).items()
    ]

    async def part(some: Sequence[writer.Write]) -> int:
        async with connection.chunks:
            return sum(one.fate is writer.Fate.WRITTEN for one in await writer.write_all(connection, some))

    async def work() -> int:
        size = writer.WRITES_PER_BATCH
        return sum(await asyncio.gather(*(part(writes[at : at + size]) for at in range(0, len(writes), size))))

    figures = await timed(work, len(captures))
    await connection.close()
    return figures


async def run_library(case: str, address: str, project: str, captures: Sequence[FailureCapture]) -> dict[str, float]:
    """Google's client with the same documents."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import firestore
    from google.cloud.firestore_v1.bulk_writer import BulkWriterOptions

    documents = made_documents(captures)
    with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": address}):
        client = firestore.Client(project=project, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]  # no types
    collection = client.collection(COLLECTION)

    def in_batches() -> None:
        entries = list(documents.items())
        for at in range(0, len(entries), LIBRARY_BATCH):
            batch = client.batch()
            for key, document in entries[at : at + LIBRARY_BATCH]:
                batch.set(collection.document(key), document)
            batch.commit()

    def in_bulk() -> None:
        options = BulkWriterOptions(initial_ops_per_second=100_000, max_ops_per_second=100_000)
        bulk = client.bulk_writer(options=options)
        for key, document in documents.items():
            bulk.set(collection.document(key), document)
        bulk.close()  # type: ignore[no-untyped-call]  # the library gives it no types

    async def work() -> None:
        await asyncio.to_thread(in_batches if case == "write_batch" else in_bulk)

    return await timed(work, None)


async def timed(work: Callable[[], Awaitable[Any]], expected: Any) -> dict[str, float]:
    """Wall and CPU seconds of this process for it."""
    began, cpu = time.perf_counter(), time.process_time()
    found = await work()
    figures = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    assert found == expected, found
    return figures


def run_case(case: str, address: str, count: int) -> dict[str, float]:
    """One case against a server at `address`, or with "" in a SQLite file."""
    captures = made_captures(count)
    project = f"bench-{uuid.uuid4().hex[:12]}"
    if not address:
        from evalforge.stores.sqlite import SqliteStore

        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(run_store(case, SqliteStore(f"{folder}/bench.sqlite3", prefix=PREFIX), captures))
    if case in ("write_batch", "bulk_writer"):
        return asyncio.run(run_library(case, address, project, captures))
    if case == "documents":
        return asyncio.run(run_documents(address, project, captures))
    from evalforge.stores.firestore import FirestoreStore

    return asyncio.run(run_store(case, FirestoreStore(project, prefix=PREFIX, emulator_host=address), captures))


# -- the null server


class Null:
    """What the null server keeps: documents by name, as they were sent."""

    def __init__(self) -> None:
        from google.cloud.firestore_v1 import types

        self._types = types
        self._documents: dict[str, Any] = {}

    def wrote(self, request: bytes, method: str) -> bytes:
        """The answer to a BatchWrite or a Commit: every write stands."""
        asked = self._raw(f"{method}Request").FromString(request)
        answer = self._raw(f"{method}Response")()
        for write in asked.writes:
            self._documents[write.update.name] = write.update
            answer.write_results.add().update_time.seconds = 1
            if method == "BatchWrite":
                answer.status.add()
        serialized: bytes = answer.SerializeToString()
        return serialized

    def found(self, request: bytes) -> Iterator[bytes]:
        """The answers to a BatchGetDocuments."""
        for name in self._raw("BatchGetDocumentsRequest").FromString(request).documents:
            answer = self._raw("BatchGetDocumentsResponse")()
            if name in self._documents:
                answer.found.CopyFrom(self._documents[name])
                answer.found.update_time.seconds = 1
            else:
                answer.missing = name
            yield answer.SerializeToString()

    def _raw(self, name: str) -> Any:
        wrapped = getattr(self._types, name)
        return wrapped.pb(wrapped()).__class__


async def serve() -> None:
    """Serves as the null server until the process is ended; prints `host:port` first."""
    import grpc

    null = Null()
    server = grpc.aio.server()

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # the library gives it no types
        def service(self, handler_call_details: Any) -> Any:
            method = handler_call_details.method.rpartition("/")[2]

            async def unary(request: bytes, context: Any) -> bytes:
                return null.wrote(request, method)

            async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
                for answer in null.found(request):
                    yield answer

            if method == "BatchGetDocuments":
                return grpc.unary_stream_rpc_method_handler(stream)
            return grpc.unary_unary_rpc_method_handler(unary)

    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


@contextmanager
def null_server() -> Iterator[str]:
    """The null server in a process of its own; gives its `host:port`."""
    command = [sys.executable, "-m", "bench.writing", "--serve"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


# -- the table


def figures_of(case: str, address: str, count: int) -> dict[str, float]:
    """One case in a process of its own."""
    command = [sys.executable, "-m", "bench.writing", "--case", case, "--address", address, "--captures", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def rows(where: str, cases: dict[str, str], address: str, count: int, repeats: int) -> list[str]:
    """The rows of the table for one server or file."""
    runs = [{case: figures_of(case, address, count) for case in cases.values()} for _ in range(repeats)]
    cpu, wall = (
        {case: statistics.median(run[case][name] for run in runs) for case in cases.values()} for name in ("cpu_s", "wall_s")
    )
    made = []
    for label, case in cases.items():
        ratio = f"{cpu[case] / cpu['write_batch']:.2f}" if "write_batch" in cpu else "-"
        made.append(f"| {where} | {label} | {count / wall[case]:,.0f} | {cpu[case] / count * 1e6:,.0f} | {ratio} |")
        print(made[-1], file=sys.stderr, flush=True)
    return made


def measured(count: int = 3_000, repeats: int = 3) -> str:
    """Every figure, as Markdown."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; "
        f"{count:,} captures of spans of 4 kB, medians of {repeats}.",
        "",
        "| into | how | captures/s | client CPU, µs each | × WriteBatch |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    with null_server() as address:
        lines += rows("null server", FIRESTORE_CASES, address, count, repeats)
    if shutil.which("gcloud") and shutil.which("java"):
        from tests.emulator import Emulator

        with tempfile.TemporaryDirectory() as folder, Emulator(Path(folder)) as emulator:
            lines += rows("emulator", FIRESTORE_CASES, emulator.address, count, repeats)
    lines += rows("SQLite file", SQLITE_CASES, "", count, repeats)
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.writing")
    parser.add_argument("--captures", type=int, default=3_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
    elif given.case:
        print(json.dumps(run_case(given.case, given.address, given.captures)))
    else:
        print(measured(given.captures, given.repeats), end="")


if __name__ == "__main__":
    main()
