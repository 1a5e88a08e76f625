"""A server that speaks Firestore's protocol by passing every call on to the emulator, except where a test has it fail."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.cloud.firestore_v1 import types
from google.rpc import status_pb2

_SERVICE = "/google.firestore.v1.Firestore/"
_STREAMS = frozenset({"BatchGetDocuments", "RunQuery", "RunAggregationQuery"})

Pass = Callable[[bytes], Awaitable[bytes]]
Fault = Callable[[bytes, Any, Pass], Awaitable[bytes]]
"""What happens to one call: given the request, the call's context and the way to the emulator, its answer.

For a call with many answers the way leads nowhere: a fault that ends well lets them through.
"""


@dataclass
class Strike:
    """When a fault strikes: at calls of `method` ("" for any) that name `about`, after `after` of these, `times` times.

    `times` None is for ever.
    """

    fault: Fault
    method: str = ""
    about: bytes = b""
    after: int = 0
    times: int | None = 1
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def strikes(self, method: str, request: bytes) -> bool:
        """Whether this call is hit; counts it."""
        if self.method not in ("", method) or self.about not in request:
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class FlakyFirestore:
    """Serves on a loopback port while the block runs; `faults` are used up by BatchWrite calls, one each.

    `strikes` are asked at every call, in order. `broken` is a status with which every call fails; `hangs` makes every call
    wait for ever. `methods` are the calls so far; `write_counts` and `read_counts` tell how many documents each one named.
    `queries` are those that were asked or counted.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._port = 0
        self._server: Any = None
        self.faults: deque[Fault] = deque()
        self.strikes: list[Strike] = []
        self.methods: list[str] = []
        self.broken: grpc.StatusCode | None = None
        self.hangs = False
        self.write_counts: list[int] = []
        self.write_sizes: list[int] = []
        self.read_counts: list[int] = []
        self.queries: list[types.StructuredQuery] = []

    async def __aenter__(self) -> FlakyFirestore:
        self._channel = grpc.aio.insecure_channel(self._target)
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        await self._channel.close()

    @property
    def address(self) -> str:
        """`host:port` where it listens, or did."""
        return f"127.0.0.1:{self._port}"

    async def accept(self) -> None:
        """Listens, on the same port as before."""
        if self._server is not None:
            return
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        await self._server.start()

    async def refuse(self) -> None:
        """Ends every call and stops listening."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    def struck(self, method: str, request: bytes) -> Fault | None:
        """The fault that meets this call, if one does."""
        name = method.removeprefix(_SERVICE)
        self.methods.append(name)
        return next((one.fault for one in self.strikes if one.strikes(name, request)), None)

    async def fail(self, context: Any) -> None:
        """Ends the call as `broken` or `hangs` say, if they do."""
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken is not None:
            await context.abort(self.broken, "as the test wants it: with text of a document")

    async def unary(self, method: str, request: bytes, context: Any) -> bytes:
        """The answer to a call that has one."""
        await self.fail(context)

        async def forward(changed: bytes) -> bytes:
            answer: bytes = await self._channel.unary_unary(method)(changed, metadata=_metadata(context))
            return answer

        struck = self.struck(method, request)
        if struck is not None:
            return await struck(request, context, forward)
        if method.endswith("/BatchWrite"):
            self.write_counts.append(len(types.BatchWriteRequest.deserialize(request).writes))
            self.write_sizes.append(len(request))
            if self.faults:
                return await self.faults.popleft()(request, context, forward)
        try:
            return await forward(request)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
            raise

    async def stream(self, method: str, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """The answers to a call that has many."""
        await self.fail(context)
        struck = self.struck(method, request)
        if struck is not None:
            await struck(request, context, _nowhere)
        if method.endswith("/BatchGetDocuments"):
            self.read_counts.append(len(types.BatchGetDocumentsRequest.deserialize(request).documents))
        elif method.endswith("/RunQuery"):
            self.queries.append(types.RunQueryRequest.deserialize(request).structured_query)
        elif method.endswith("/RunAggregationQuery"):
            aggregation = types.RunAggregationQueryRequest.deserialize(request).structured_aggregation_query
            assert all("count" in one for one in aggregation.aggregations), "sums and averages need indexes of their own"
            self.queries.append(aggregation.structured_query)
        async for answer in self._channel.unary_stream(method)(request, metadata=_metadata(context)):
            yield answer


async def _nowhere(request: bytes) -> bytes:
    return b""


def _metadata(context: Any) -> list[tuple[str, str]]:
    return [(key, value) for key, value in context.invocation_metadata() if key == "authorization"]


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # the library gives it no types
    def __init__(self, flaky: FlakyFirestore) -> None:
        self._flaky = flaky

    def service(self, handler_call_details: Any) -> Any:
        method: str = handler_call_details.method

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async for answer in self._flaky.stream(method, request, context):
                yield answer

        async def unary(request: bytes, context: Any) -> bytes:
            return await self._flaky.unary(method, request, context)

        if method.removeprefix(_SERVICE) in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


def refused(code: grpc.StatusCode) -> Fault:
    """The call fails and nothing is written."""

    async def fault(request: bytes, context: Any, forward: Pass) -> bytes:
        await context.abort(code, "as the test wants it")
        return b""

    return fault


def answer_lost(code: grpc.StatusCode) -> Fault:
    """Everything is written, and the caller hears that it failed."""

    async def fault(request: bytes, context: Any, forward: Pass) -> bytes:
        await forward(request)
        await context.abort(code, "as the test wants it")
        return b""

    return fault


def partly(*codes: int) -> Fault:
    """The first writes fail with these codes, each on its own; the rest is written."""

    async def fault(request: bytes, context: Any, forward: Pass) -> bytes:
        whole = types.BatchWriteRequest.deserialize(request)
        rest = types.BatchWriteRequest(database=whole.database, writes=list(whole.writes)[len(codes) :])
        answer = types.BatchWriteResponse()
        if rest.writes:
            answer = types.BatchWriteResponse.deserialize(await forward(types.BatchWriteRequest.serialize(rest)))
        failed = len(whole.writes) - len(rest.writes)
        merged = types.BatchWriteResponse(
            write_results=[types.WriteResult()] * failed + list(answer.write_results),
            status=[status_pb2.Status(code=code) for code in codes[:failed]] + list(answer.status),
        )
        serialized: bytes = types.BatchWriteResponse.serialize(merged)
        return serialized

    return fault


def one_invalid(document: bytes) -> Fault:
    """The call is malformed as long as it writes this document, so nothing of it is written."""

    async def fault(request: bytes, context: Any, forward: Pass) -> bytes:
        if document in request:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "as the test wants it: with text of a document")
        return await forward(request)

    return fault


def calling(call: Callable[[], Awaitable[None]], *, when_answered: bool = False) -> Fault:
    """Nothing fails, but `call` is awaited first; with `when_answered` between Firestore's answer and the caller's."""

    async def fault(request: bytes, context: Any, forward: Pass) -> bytes:
        if not when_answered:
            await call()
        answer = await forward(request)
        if when_answered:
            await call()
        return answer

    return fault
