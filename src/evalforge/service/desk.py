"""The desk: one open store for everything that is only looked at, in a thread and an event loop of its own.

A store belongs to one event loop, and opening one for each page would cost more than the page. Runs and exports open their
own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports import Store
from evalforge.errors import EvalForgeError, StoreUnavailableError

ANSWER_S = 60.0
"""How long one question may take."""

T = TypeVar("T")


class Desk:
    """Answers questions about what is stored. The store is opened with the first question, and again after it failed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._opening: asyncio.Lock | None = None
        self._store: Store | None = None
        self._closing = AsyncExitStack()

    async def ask(self, settings: Settings, question: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """What the question makes of the store.

        Raises:
            StoreUnavailableError: no answer within 60 s.
            EvalForgeError: what the question raises.
        """

        async def answered() -> T:
            async with asyncio.timeout(ANSWER_S):
                return await question(await self._opened(settings))

        future = asyncio.run_coroutine_threadsafe(answered(), self._running_loop())
        try:
            return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise StoreUnavailableError(f"the store did not answer within {ANSWER_S:.0f} s") from error

    async def closed(self) -> None:
        """Closes the store; nothing may be asked afterwards."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        with suppress(EvalForgeError):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._closing.aclose(), loop))
        loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_turning, args=(self._loop,), name="desk", daemon=True)
                self._thread.start()
            return self._loop

    async def _opened(self, settings: Settings) -> Store:
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._store is None:
                self._store = await self._closing.enter_async_context(bootstrap.opened_store(settings))
            return self._store


def _turning(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
