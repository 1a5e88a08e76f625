"""One Firestore database: its client, its names, how long we wait for it, and its errors in our words."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import grpc
from google.api_core import exceptions as google_errors
from google.auth import exceptions as auth_errors
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.errors import StoreError, StoreUnavailableError
from evalforge.google_credentials import default_credentials
from evalforge.stores.firestore.ramp import Ramp

DEFAULT_DATABASE = "(default)"
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
RETRY_AFTER_S = 30.0
CHUNKS_IN_FLIGHT = 8
"""How many chunks of captures a store reads and writes at once, whoever brought them. Firestore's advice for much to write
is many small batches at a time."""
TURN_S = 0.005
"""Letting others in costs about as much as half a document: after each one would be too often."""
SCOPES = ("https://www.googleapis.com/auth/datastore",)

TRANSIENT_CODES = frozenset({2, 4, 8, 10, 13, 14})
"""gRPC codes after which the same call may succeed: unknown, deadline, exhausted, aborted, internal, unavailable."""

_T = TypeVar("_T")


class Connection:
    """A lazily made client of one database; `emulator_host` is `host:port` of an emulator, which needs no credentials.

    `timeout_s` bounds each call with all its repetitions. The client belongs to the event loop of the first call. `ramp`
    says how fast writes may go; None is as fast as they come.
    """

    def __init__(
        self,
        project: str | None,
        database: str | None,
        emulator_host: str | None,
        timeout_s: float,
        ramp: Ramp | None,
        telemetry: Telemetry = SILENCE,
    ) -> None:
        self.telemetry = telemetry
        self._project = project
        self._database = database or DEFAULT_DATABASE
        self._emulator_host = emulator_host
        self._client: FirestoreAsyncClient | None = None
        self._opening = asyncio.Lock()
        self._ramp = ramp
        self._next_write = asyncio.Lock()
        self.chunks = asyncio.Semaphore(CHUNKS_IN_FLIGHT)
        self.timeout_s = timeout_s
        # The emulator takes batch writes from its owner only.
        self.metadata: Sequence[tuple[str, str]] = [("authorization", "Bearer owner")] if emulator_host else []

    def __str__(self) -> str:
        at = f" on the emulator at {self._emulator_host}" if self._emulator_host else ""
        return f"Firestore project {self._project or '(not known)'}, database {self._database}{at}"

    @property
    def database_path(self) -> str:
        """The resource name of the database."""
        return f"projects/{self._project}/databases/{self._database}"

    @property
    def documents_path(self) -> str:
        """The parent of every collection."""
        return f"{self.database_path}/documents"

    def document_path(self, collection: str, key: str) -> str:
        """The resource name of one document."""
        return f"{self.documents_path}/{collection}/{key}"

    async def call(
        self, attempt: Callable[[FirestoreAsyncClient, float], Awaitable[_T]], *, patience_s: float | None = None
    ) -> _T:
        """What `attempt(client, timeout_s)` returns, tried again after transient errors within `patience_s`.

        Raises:
            StoreUnavailableError, StoreError
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + (self.timeout_s if patience_s is None else patience_s)
        with self.translated_errors():
            client = await self.client()
            for delay_s in delays():
                try:
                    return await attempt(client, max(0.01, deadline - clock()))
                except google_errors.GoogleAPICallError as error:
                    if code_of(error) not in TRANSIENT_CODES or clock() + delay_s >= deadline:
                        raise
                    await asyncio.sleep(delay_s)
        raise AssertionError("the delays never end")

    async def admitted(self, write_count: int) -> None:
        """Returns when so many writes may be sent, first come, first served. However long it takes: nothing is wrong."""
        if self._ramp is None:
            return
        async with self._next_write:
            wait_s = self._ramp.take(write_count)
            while wait_s > 0:
                await asyncio.sleep(wait_s)
                wait_s = self._ramp.take(write_count)

    async def client(self) -> FirestoreAsyncClient:
        """The client, made on first use.

        Raises:
            StoreError: when there are no credentials or no project.
        """
        async with self._opening:
            if self._client is None:
                self._client = await self._open()
            return self._client

    async def _open(self) -> FirestoreAsyncClient:
        if self._emulator_host:
            channel = grpc.aio.insecure_channel(self._emulator_host)
            return FirestoreAsyncClient(transport=FirestoreGrpcAsyncIOTransport(channel=channel))
        with self.translated_errors():
            credentials, project = await default_credentials(SCOPES)
        self._project = self._project or project
        if not self._project:
            raise StoreError("the Google project is not known: set GOOGLE_CLOUD_PROJECT")
        return FirestoreAsyncClient(credentials=credentials)

    async def close(self) -> None:
        """Closes the channel, if one was opened."""
        client, self._client = self._client, None
        if client is not None:
            await client.transport.close()  # type: ignore[no-untyped-call]  # the library gives it no types

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Google's errors as ours. Their texts may quote documents, so none is passed on."""
        try:
            yield
        except (google_errors.Forbidden, google_errors.Unauthenticated) as error:
            raise StoreError(f"{self} denied access: give the service account the role roles/datastore.user") from error
        except google_errors.NotFound as error:
            raise StoreError(
                f"{self} does not exist: create it (gcloud firestore databases create), "
                "or correct GOOGLE_CLOUD_PROJECT or FIRESTORE_DATABASE"
            ) from error
        except google_errors.FailedPrecondition as error:
            raise StoreError(
                f"{self} cannot run a query for want of an index: deploy what `evalforge firestore indexes` prints "
                "(docs/operations.md), or wait until it is built"
            ) from error
        except google_errors.GoogleAPICallError as error:
            code = code_of(error)
            if code in TRANSIENT_CODES:
                raise StoreUnavailableError(
                    f"{self} did not answer in time (gRPC code {code})", retry_after_s=RETRY_AFTER_S
                ) from error
            raise StoreError(f"{self} refused a request (gRPC code {code})") from error
        except google_errors.RetryError as error:
            raise StoreUnavailableError(f"{self} did not answer in time", retry_after_s=RETRY_AFTER_S) from error
        except auth_errors.GoogleAuthError as error:
            raise StoreError(
                f"{self}: no usable Google credentials were found: run where a service account is attached, "
                "set GOOGLE_APPLICATION_CREDENTIALS, or set FIRESTORE_EMULATOR_HOST to use an emulator"
            ) from error


class Turn:
    """Somebody's turn on the event loop, who computes much: others are let in whenever it has lasted `TURN_S` seconds."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._ends_at = self._clock() + TURN_S

    async def shared(self) -> None:
        """Lets others in, if it is time; asked between two documents."""
        if self._clock() >= self._ends_at:
            await asyncio.sleep(0)
            self._ends_at = self._clock() + TURN_S


def delays() -> Iterator[float]:
    """Seconds to wait before each further attempt: doubled up to 5 s, each between half and all of it by chance."""
    longest = FIRST_DELAY_S
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(2 * longest, LONGEST_DELAY_S)


def code_of(error: google_errors.GoogleAPICallError) -> int:
    """The number of the gRPC status code, 2 (unknown) where there is none."""
    status = error.grpc_status_code
    return int(status.value[0]) if status is not None else 2
