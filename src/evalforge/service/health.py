"""Is each part there that a run needs? The answer is cached, costs the same however much is stored, and searches no span."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from evalforge import __version__, bootstrap
from evalforge.config import Settings
from evalforge.core.ports import Store
from evalforge.credentials import DatadogKeys, resolve_datadog_keys, resolve_key_ring
from evalforge.errors import EvalForgeError, SettingsError
from evalforge.events import emit
from evalforge.probes import Probe, ProbeResult, probe
from evalforge.runs import NO_SALT_HINT, NOTHING_FETCHED, NOTHING_FETCHED_TEXT, fetches_nothing
from evalforge.service.quotas import KEY_CHECK, Quotas
from evalforge.service.running import in_own_thread

COUNT_TIMEOUT_S = 2.0
"""How long the count of dead letters and the last runs may take; they are no part that can be ill."""

RUNS_CACHE_S = 300.0
"""How long what the last runs fetched stands: it costs 10 reads."""

CACHE_S = 15.0
"""How long an answer stands; callers that come together share one."""


async def probe_parts(
    settings: Settings, quotas: Quotas | None = None, look: Callable[[Store], Awaitable[None]] | None = None
) -> list[ProbeResult]:
    """What each part says: keys, salt, Datadog's key validation, the store. At most one request to each.

    Secret Manager references are read anew, so that a key that was taken away shows. `quotas` hears what the key check tells
    of its own, and `look` looks into the store; that it fails is no failure of the store.
    """
    keys: list[DatadogKeys] = []

    async def read_keys() -> str:
        keys.append(await resolve_datadog_keys(settings))
        return "both keys are there"

    async def read_salt() -> str:
        ring = await resolve_key_ring(settings)
        return f"{len(ring.keys)} key(s), newest {ring.key_ids[0]}" if ring.keys else "unset: user ids are dropped"

    async def ask_datadog() -> str:
        async with bootstrap.opened_client(settings, keys[0]) as client:
            told = await client.validate_keys()
        if quotas is not None:
            quotas.hear(KEY_CHECK, told)
        return f"{settings.datadog_site} accepts the keys"

    async def ask_store() -> str:
        async with bootstrap.opened_store(settings) as store:
            await store.ping()
            if look is not None:
                with suppress(EvalForgeError, TimeoutError):
                    async with asyncio.timeout(COUNT_TIMEOUT_S):
                        await look(store)
        return f"{settings.capture_store} answers"

    salt_hint = NO_SALT_HINT if settings.pii_salt is None else None
    first, *others = await asyncio.gather(
        probe(Probe("keys", read_keys)), *map(probe, (Probe("salt", read_salt, salt_hint), Probe("store", ask_store)))
    )
    if keys:
        datadog = await probe(Probe("datadog", ask_datadog))
    else:
        datadog = ProbeResult("datadog", False, "not asked: there are no keys to ask with", "not_asked")
    return [first, others[0], datadog, others[1]]


class Health:
    """The cached answer of one process. Wrong settings are an answer too. `quotas` is what its runs heard meanwhile."""

    def __init__(
        self,
        settings: Settings | SettingsError,
        *,
        quotas: Quotas | None = None,
        now: Callable[[], float] = time.monotonic,
        ask: Callable[[Settings], Awaitable[list[ProbeResult]]] | None = None,
    ) -> None:
        self._settings = settings
        self._quotas = quotas or Quotas()
        self._now = now
        self._letter_count: int | None = None
        self._fetches_nothing = False
        self._looked_at: float | None = None
        self._ask = ask or (lambda settings: probe_parts(settings, self._quotas, self._look))
        self._present: Future[list[ProbeResult]] | None = None
        self._asked_at = 0.0
        self._told: frozenset[str] = frozenset()

    async def document(self) -> dict[str, Any]:
        """`{"status": "ok", ...}` when every part is well, else `{"status": "error", "part": ..., ...}`."""
        if isinstance(self._settings, SettingsError):
            results = [ProbeResult("settings", False, self._settings.message, self._settings.code)]
        else:
            results = [ProbeResult("settings", True, "valid"), *await self._results(self._settings)]
        self._tell(results)
        return {
            **health_document(results),
            "version": __version__,
            "quota": self._quotas.document(),
            "dead_letters": {"total": self._letter_count},
            "warnings": [{"code": NOTHING_FETCHED, "text": NOTHING_FETCHED_TEXT}] if self._fetches_nothing else [],
        }

    async def _look(self, store: Store) -> None:
        now = bootstrap.utc_now()
        self._letter_count = await store.dead_letter_count(now=now)
        if self._looked_at is None or self._now() - self._looked_at >= RUNS_CACHE_S:
            self._fetches_nothing = await fetches_nothing(store, now)
            self._looked_at = self._now()  # after it: a look that failed is tried again with the next one

    async def _results(self, settings: Settings) -> list[ProbeResult]:
        now = self._now()
        if self._present is None or (self._present.done() and now - self._asked_at >= CACHE_S):
            self._asked_at = now
            # In a thread of its own: importing and opening a store's client may block for longer than a probe may wait.
            self._present = in_own_thread("health", lambda: _of(self._ask, settings))
        return await asyncio.wrap_future(self._present)

    def _tell(self, results: list[ProbeResult]) -> None:
        """One log line when a part falls ill, not one a probe."""
        ill = frozenset(result.part for result in results if not result.ok)
        for result in results:
            if result.part in ill - self._told:
                emit("health.failed", part=result.part, code=result.code)
        self._told = ill


async def _of(ask: Callable[[Settings], Awaitable[list[ProbeResult]]], settings: Settings) -> list[ProbeResult]:
    return await ask(settings)


def health_document(results: list[ProbeResult]) -> dict[str, Any]:
    """What `/health` answers; the first part that is ill is named at the top."""
    parts = {result.part: "ok" if result.ok else "error" for result in results}
    hints = [result.hint for result in results if result.hint is not None]
    ill = next((result for result in results if not result.ok), None)
    if ill is None:
        return {"status": "ok", "parts": parts, "hints": hints}
    return {
        "status": "error",
        "part": ill.part,
        "code": ill.code,
        "detail": ill.message,
        "parts": parts,
        "errors": [
            {"part": result.part, "code": result.code, "detail": result.message} for result in results if not result.ok
        ],
        "hints": hints,
    }
