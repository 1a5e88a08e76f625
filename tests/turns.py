"""Two tasks that use one store take turns at its calls as a schedule says, so that every interleaving can be tried."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from evalforge.core.ports import Store


class Turns:
    """Lets the owner of the next turn make one call; who is done, or waits for nothing, gives all turns to the other."""

    def __init__(self, schedule: Iterable[str], players: Iterable[str]) -> None:
        self._schedule = list(schedule)
        self._active = set(players)
        self._changed = asyncio.Condition()

    async def take(self, player: str) -> None:
        """Returns when it is this player's turn."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._next() in (player, None))
            if self._schedule:
                self._schedule.pop(0)
            self._changed.notify_all()

    def _next(self) -> str | None:
        while self._schedule and self._schedule[0] not in self._active:
            self._schedule.pop(0)
        return self._schedule[0] if self._schedule else None

    async def leave(self, player: str) -> None:
        """Says that this player will take no more turns."""
        async with self._changed:
            self._active.discard(player)
            self._changed.notify_all()


class Taking:
    """A store as one player sees it: each call, and each step of a stream, is a turn. `calls` counts them."""

    def __init__(self, store: Any, turns: Turns, player: str) -> None:
        self._store, self._turns, self._player = store, turns, player
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            await self._turns.take(self._player)
            return await method(*arguments, **options)

        async def stream(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
            self.calls += 1
            await self._turns.take(self._player)
            async for one in method(*arguments, **options):
                yield one
                await self._turns.take(self._player)

        return call if inspect.iscoroutinefunction(method) else stream


def taking(store: Store, turns: Turns, player: str) -> Store:
    """The store with every call of this player's in its turn."""
    return cast(Store, Taking(store, turns, player))
