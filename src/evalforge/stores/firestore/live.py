"""What a live Firestore answers: how fast, which indexes and TTL policies it has, what the account may read. Writes nothing.

No document is read: names of documents at most, one for each index, and they are forgotten. Errors of Google's are told by
the name of their gRPC code alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.api_core import exceptions as google_errors
from google.cloud.firestore_admin_v1.services.firestore_admin import FirestoreAdminAsyncClient
from google.cloud.firestore_admin_v1.services.firestore_admin.transports import FirestoreAdminGrpcAsyncIOTransport
from google.cloud.firestore_v1 import types

from evalforge.core.findings import Finding, NoFindingError, Question, Verdict, judged
from evalforge.google_credentials import default_credentials
from evalforge.stores.firestore.connection import SCOPES, Connection
from evalforge.stores.firestore.values import PbValue, encode
from evalforge.stores.firestore_indexes import EXPIRING, EXPIRY, INDEXES, Index, Mode

TIMEOUT_S = 10.0
READS = 5
"""How many single reads are timed."""
TTL_PATIENCE = timedelta(days=3)
"""Firestore deletes what has expired "typically within 24 hours"; what is older shows that nothing deletes it."""

_Operator = types.StructuredQuery.FieldFilter.Operator
_Direction = types.StructuredQuery.Direction


@dataclass(slots=True)
class FirestoreLook:
    """The questions for one database, in collections whose names begin with `prefix`. `now` is the clock."""

    connection: Connection
    prefix: str
    emulator_host: str | None
    now: Callable[[], datetime]

    def questions(self) -> list[Question]:
        """In the order in which they are to be asked."""
        return [
            Question("firestore.read", "an answer", READS, self._read),
            Question("firestore.indexes", f"all {len(INDEXES)} declared queries are answered", len(INDEXES), self._indexes),
            Question("firestore.expired", "nothing expired more than 3 days ago is still there", 1, self._expired),
            Question("firestore.ttl", f"a TTL policy on {EXPIRY} of {', '.join(EXPIRING)}", len(EXPIRING), self._ttl),
            Question("firestore.database", "native mode", 1, self._database),
        ]

    async def close(self) -> list[Finding]:
        """Closes the channel, and finds nothing."""
        await self.connection.close()
        return []

    async def _read(self) -> list[Finding]:
        took_ms, clocks = [], []
        for number in range(READS):
            began = time.monotonic()
            read_at = await self._one_read(number)
            took_ms.append((time.monotonic() - began) * 1000)
            if read_at is not None:
                clocks.append((self.now() - read_at).total_seconds())
        median, first = statistics.median(took_ms[1:]), took_ms[0]
        found = [
            Finding(
                "firestore.read",
                "",
                Verdict.SEEN,
                f"the first in {first:,.0f} ms, then {median:,.0f} ms (median of {READS - 1})",
                {"first_ms": round(first), "median_ms": round(median)},
            ),
            Finding(
                "firestore.may_read",
                "datastore.entities.get",
                Verdict.AS_ASSUMED,
                "reading by name is allowed; whether writing is was not asked",
            ),
        ]
        if clocks:
            skew_s = statistics.median(clocks)
            words = f"ours is {skew_s:+.1f} s from theirs"
            is_close = abs(skew_s) < 5
            found.append(
                judged(
                    "firestore.clock",
                    "their clock and ours differ by less than 5 s",
                    is_close,
                    words,
                    skew_s=round(skew_s, 1),
                )
            )
        return found

    async def _one_read(self, number: int) -> datetime | None:
        client = await self.connection.client()
        path = self.connection.document_path(f"{self.prefix}raw_traces", f"look-{number}")

        async def attempt() -> datetime | None:
            request = types.BatchGetDocumentsRequest(database=self.connection.database_path, documents=[path])
            stream = await client.batch_get_documents(
                request, retry=None, timeout=TIMEOUT_S, metadata=self.connection.metadata
            )
            return next(iter([answer.read_time async for answer in stream if answer.read_time]), None)

        read_at: datetime | None = await _once(attempt)
        return read_at

    async def _indexes(self) -> list[Finding]:
        missing: list[str] = []
        refused: dict[str, str] = {}
        took_ms: list[float] = []
        for index in INDEXES:
            began = time.monotonic()
            try:
                await self._ask(index)
            except _RefusedError as error:
                if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and not took_ms:
                    raise  # nobody is there: the others need not be waited for
                if error.code == "FAILED_PRECONDITION":
                    missing.append(_shown(index))
                else:
                    refused[_shown(index)] = error.code
            took_ms.append((time.monotonic() - began) * 1000)
        answered = len(INDEXES) - len(missing) - len(refused)
        seen = f"{answered} of {len(INDEXES)} answered, in {statistics.median(took_ms):,.0f} ms (median)"
        if missing:
            seen += f"; no index for {'; '.join(missing)}"
        if refused:
            seen += "; " + "; ".join(f"{name}: {code}" for name, code in refused.items())
        if self.emulator_host:
            seen += "; an emulator answers without indexes"
        return [
            judged(
                "firestore.indexes",
                f"all {len(INDEXES)} declared queries are answered",
                (None if self.emulator_host else True) if answered == len(INDEXES) else False,
                seen,
                answered=answered,
                missing=missing,
                refused=refused,
            )
        ]

    async def _ask(self, index: Index) -> None:
        """Runs the query that needs this index, for one document's name."""
        *filtered, (ordered, mode) = index.fields
        conditions = [_condition(field, _Operator.EQUAL, "") for field, _ in filtered]
        query = types.StructuredQuery(
            from_=[types.StructuredQuery.CollectionSelector(collection_id=f"{self.prefix}{index.collection}")],
            select=types.StructuredQuery.Projection(fields=[types.StructuredQuery.FieldReference(field_path="__name__")]),
            limit=1,
        )
        if mode is Mode.CONTAINS:
            conditions.append(_condition(ordered, _Operator.ARRAY_CONTAINS, ""))
        else:
            direction = _Direction.DESCENDING if mode is Mode.DESCENDING else _Direction.ASCENDING
            reference = types.StructuredQuery.FieldReference(field_path=ordered)
            query.order_by = [types.StructuredQuery.Order(field=reference, direction=direction)]
        if conditions:
            [query.where] = conditions
        client = await self.connection.client()

        async def attempt() -> None:
            request = types.RunQueryRequest(parent=self.connection.documents_path, structured_query=query)
            stream = await client.run_query(request, retry=None, timeout=TIMEOUT_S, metadata=self.connection.metadata)
            async for _ in stream:
                pass

        await _once(attempt)

    async def _expired(self) -> list[Finding]:
        name, assumed = "firestore.expired", "nothing expired more than 3 days ago is still there"
        query = types.StructuredQuery(
            from_=[types.StructuredQuery.CollectionSelector(collection_id=f"{self.prefix}raw_traces")],
            where=_condition(EXPIRY, _Operator.LESS_THAN, self.now() - TTL_PATIENCE),
            select=types.StructuredQuery.Projection(fields=[types.StructuredQuery.FieldReference(field_path="__name__")]),
            limit=1,
        )
        client = await self.connection.client()

        async def attempt() -> bool:
            request = types.RunQueryRequest(parent=self.connection.documents_path, structured_query=query)
            stream = await client.run_query(request, retry=None, timeout=TIMEOUT_S, metadata=self.connection.metadata)
            return any([types.RunQueryResponse.pb(answer).HasField("document") async for answer in stream])

        is_there = await _once(attempt)
        return [judged(name, assumed, not is_there, "there is some: nothing deletes it" if is_there else "none")]

    async def _ttl(self) -> list[Finding]:
        states = {}
        async with _Admin(self.emulator_host) as admin:
            for collection in EXPIRING:
                group = f"{self.connection.database_path}/collectionGroups/{self.prefix}{collection}"
                field = await admin.asked("get_field", {"name": f"{group}/fields/{EXPIRY}"})
                ttl = type(field).pb(field)
                states[collection] = field.ttl_config.state.name if ttl.HasField("ttl_config") else "none"
        return [
            judged(
                "firestore.ttl",
                f"a TTL policy on {EXPIRY} of {', '.join(EXPIRING)}",
                set(states.values()) == {"ACTIVE"},
                ", ".join(f"{collection} {state}" for collection, state in states.items()),
                states=states,
            )
        ]

    async def _database(self) -> list[Finding]:
        async with _Admin(self.emulator_host) as admin:
            database = await admin.asked("get_database", {"name": self.connection.database_path})
        kind = database.type_.name
        recovery = database.point_in_time_recovery_enablement.name
        return [
            judged(
                "firestore.database",
                "native mode",
                kind == "FIRESTORE_NATIVE",
                f"{kind}; point-in-time recovery {recovery}; delete protection {database.delete_protection_state.name}",
            )
        ]


class _RefusedError(NoFindingError):
    """One call failed; `code` is the name of its gRPC code."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Firestore answered {code}")
        self.code = code


async def _once(attempt: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await attempt()
    except google_errors.GoogleAPICallError as error:
        raise _refusal(error) from error


def _refusal(error: google_errors.GoogleAPICallError) -> _RefusedError:
    status = error.grpc_status_code
    return _RefusedError(status.name if status is not None else "UNKNOWN")


class _Admin:
    """Google's client for the administration of databases, for one block."""

    def __init__(self, emulator_host: str | None) -> None:
        self._emulator_host = emulator_host

    async def __aenter__(self) -> _Admin:
        if self._emulator_host:
            channel = grpc.aio.insecure_channel(self._emulator_host)
            self._client = FirestoreAdminAsyncClient(transport=FirestoreAdminGrpcAsyncIOTransport(channel=channel))
        else:
            credentials, _ = await default_credentials(SCOPES)
            self._client = FirestoreAdminAsyncClient(credentials=credentials)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.transport.close()  # type: ignore[no-untyped-call]  # the library gives it no types

    async def asked(self, method: str, request: dict[str, str]) -> Any:
        try:
            return await getattr(self._client, method)(request=request, retry=None, timeout=TIMEOUT_S)
        except google_errors.MethodNotImplemented as error:
            raise NoFindingError("not told: an emulator has no administration", Verdict.NOT_SEEN) from error
        except google_errors.GoogleAPICallError as error:
            raise _refusal(error) from error


def _shown(index: Index) -> str:
    marks = {Mode.ASCENDING: "up", Mode.DESCENDING: "down", Mode.CONTAINS: "as an array"}
    return f"{index.collection} ({', '.join(f'{field} {marks[mode]}' for field, mode in index.fields)})"


def _condition(field: str, operator: Any, value: Any) -> types.StructuredQuery.Filter:
    encoded = PbValue()
    encode(encoded, value)
    reference = types.StructuredQuery.FieldReference(field_path=field)
    return types.StructuredQuery.Filter(
        field_filter=types.StructuredQuery.FieldFilter(field=reference, op=operator, value=types.Value.wrap(encoded))
    )
