"""The same run through a door in front of the emulator that counts documents. Not for its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc
from google.cloud.firestore_v1 import types

from bench.cases.case import Case
from bench.cases.ours import ingest, settings_of

_SERVICE = "/google.firestore.v1.Firestore/"
_STREAMED = {"BatchGetDocuments", "RunQuery", "RunAggregationQuery"}
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Door(grpc.GenericRpcHandler):  # type: ignore[misc]  # the library gives it no types
    """Passes every call on to the emulator, and counts the documents that Firestore would bill."""

    def __init__(self, emulator: str) -> None:
        self._channel = grpc.aio.insecure_channel(emulator, options=_UNLIMITED)
        self.reads = self.writes = self.deletes = 0

    async def close(self) -> None:
        """Frees the connection."""
        await self._channel.close()

    def service(self, handler_call_details: Any) -> Any:
        """The way on for one method."""
        method: str = handler_call_details.method
        name = method.removeprefix(_SERVICE)

        async def one(request: bytes, context: Any) -> bytes:
            self._count_asked(name, request)
            answer: bytes = await self._channel.unary_unary(method)(request, metadata=_metadata(context))
            return answer

        async def many(request: bytes, context: Any) -> AsyncIterator[bytes]:
            self._count_asked(name, request)
            found = 0
            async for answer in self._channel.unary_stream(method)(request, metadata=_metadata(context)):
                found += name == "RunQuery" and bool(types.RunQueryResponse.deserialize(answer).document.name)
                yield answer
            if name == "RunQuery":
                self.reads += max(1, found)  # a query that finds nothing is billed as one read

        if name in _STREAMED:
            return grpc.unary_stream_rpc_method_handler(many)
        return grpc.unary_unary_rpc_method_handler(one)

    def _count_asked(self, name: str, request: bytes) -> None:
        if name == "BatchGetDocuments":
            self.reads += len(types.BatchGetDocumentsRequest.deserialize(request).documents)
        elif name in ("GetDocument", "RunAggregationQuery"):
            self.reads += 1
        elif name in ("BatchWrite", "Commit"):
            asked = types.BatchWriteRequest if name == "BatchWrite" else types.CommitRequest
            deletes = sum(bool(write.delete) for write in asked.deserialize(request).writes)
            self.deletes += deletes
            self.writes += len(asked.deserialize(request).writes) - deletes
        elif name != "RunQuery":
            raise RuntimeError(f"{name} is not counted")


def _metadata(context: Any) -> list[tuple[str, str]]:
    return [(key, value) for key, value in context.invocation_metadata() if key == "authorization"]


def prepared(case: Case) -> Callable[[], dict[str, Any]]:
    """Runs, and tells documents read, written and deleted beside what the run says."""

    async def counted() -> dict[str, Any]:
        door, server = Door(case.emulator), grpc.aio.server(options=_UNLIMITED)
        server.add_generic_rpc_handlers((door,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        result = await ingest(settings_of(replace(case, emulator=f"127.0.0.1:{port}")))
        await server.stop(None)
        await door.close()
        return {**result, "reads": door.reads, "writes": door.writes, "deletes": door.deletes}

    return lambda: asyncio.run(counted())
