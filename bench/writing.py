"""Measures what a capture costs on its way into a store: client CPU and captures a second, beside Google's own client.

    python -m bench.writing           prints the table, some minutes
    python -m bench.writing --quick   a tenth of the captures, once: to see that it works

Client CPU is what tells: it is the operating system's figure for one process that does nothing else, and takes no notice
of how fast the server is. The null server answers every call at once and keeps what it is sent, so that a second run finds
it; where Google's emulator is installed the same is sent to that too, in a database of its own for each case. Medians of
interleaved repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
REPEATS = 3
LIBRARY_BATCH = 20
"""Writes in a batch of Google's client: what its BulkWriter takes."""


def made_captures(count: int) -> list[FailureCapture]:
    """Captures of as many failing spans of 4 kB, each a trace of its own, as the pipeline makes them."""
    from bench.server import Workload
    from evalforge.core.privacy import KeyRing, Sanitizer
    from evalforge.core.signals import Thresholds, find_signals
    from evalforge.ingest import Judge
    from evalforge.sources.datadog.spans import parse_llm_obs

    ring = KeyRing((b"bench-0nly-kZ8vQ2mX7pL4wR9tB6nJ3hG5yT",))
    thresholds = Thresholds()
    judge = Judge(thresholds, ring, Sanitizer(ring), "datadoghq.com", 180)
    workload = Workload(3 * count, 1.0, 4_000, 1, int(NOW.timestamp() * 1000))
    made: list[FailureCapture] = []
    for number in range(3 * count):
        span = parse_llm_obs(workload.span(number))
        signals = () if hasattr(span, "reason") else find_signals(span, thresholds)
        if signals:
            made.append(judge.captured(span, signals, NOW))
        if len(made) == count:
            break
    return made


# -- the null server


class Null:
    """What the null server keeps: documents by name, as they were sent."""

    def __init__(self) -> None:
        from google.cloud.firestore_v1 import types

        self._types = types
        self._documents: dict[str, Any] = {}

    def wrote(self, request: bytes, message: str) -> bytes:
        """The answer to a BatchWrite or a Commit."""
        asked = getattr(self._types, f"{message}Request").pb(getattr(self._types, f"{message}Request").deserialize(request))
        answer = self._types.BatchWriteResponse.pb(self._types.BatchWriteResponse())
        for write in asked.writes:
            self._documents[write.update.name] = write.update
            answer.write_results.add().update_time.seconds = 1
            if message == "BatchWrite":
                answer.status.add()
        serialized: bytes = answer.SerializeToString()  # a CommitResponse has its results under another number
        return serialized if message == "BatchWrite" else self._committed(answer)

    def _committed(self, answer: Any) -> bytes:
        commit = self._types.CommitResponse.pb(self._types.CommitResponse())
        commit.write_results.extend(answer.write_results)
        serialized: bytes = commit.SerializeToString()
        return serialized

    async def found(self, request: bytes) -> AsyncIterator[bytes]:
        """The answers to a BatchGetDocuments, with the fields of its mask, if it has one."""
        asked = self._types.BatchGetDocumentsRequest.pb(self._types.BatchGetDocumentsRequest.deserialize(request))
        for name in asked.documents:
            answer = self._types.BatchGetDocumentsResponse.pb(self._types.BatchGetDocumentsResponse())
            document = self._documents.get(name)
            if document is None:
                answer.missing = name
            elif asked.mask.field_paths:
                answer.found.name = name
                for field in asked.mask.field_paths:
                    if field in document.fields:
                        answer.found.fields[field].CopyFrom(document.fields[field])
            else:
                answer.found.CopyFrom(document)
            if document is not None:
                answer.found.update_time.seconds = 1
            yield answer.SerializeToString()


async def serve(port: int) -> None:
    """Serves as the null server until the process is ended."""
    import grpc

    null = Null()
    server = grpc.aio.server()

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # the library gives it no types
        def service(self, handler_call_details: Any) -> Any:
            method = handler_call_details.method.rpartition("/")[2]

            async def unary(request: bytes, context: Any) -> bytes:
                return null.wrote(request, method)

            async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
                async for answer in null.found(request):
                    yield answer

            if method == "BatchGetDocuments":
                return grpc.unary_stream_rpc_method_handler(stream)
            return grpc.unary_unary_rpc_method_handler(unary)

    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()
