"""Answers that are asked for before their turn: how many may be held at once, and how one is taken up or left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

AHEAD_BYTES = 8 * 1024 * 1024
"""So much is expected at most of all answers together that one client asks for ahead; each may take twice its part."""

MAX_AHEAD = 6
"""So many answers at most are asked for ahead, however small they are."""

_PASSES = 10

T = TypeVar("T")


@dataclass(slots=True)
class Allowance:
    """What all answers ahead of one client take, as far as expected: `count` of them, and their bytes."""

    count: int = 0
    expected_bytes: int = 0

    def take(self, expected_bytes: int) -> bool:
        """Takes a place for one answer, unless the places or the bytes are used up."""
        if self.count >= MAX_AHEAD or self.expected_bytes + expected_bytes > AHEAD_BYTES:
            return False
        self.count += 1
        self.expected_bytes += expected_bytes
        return True

    def give_back(self, expected_bytes: int) -> None:
        """Gives one answer's place back."""
        self.count -= 1
        self.expected_bytes -= expected_bytes


class Ahead(Generic[T]):
    """One answer that is asked for ahead, of which `expected_bytes` are expected; ends with `taken` or `dropped`.

    It is held as it came, packed into bytes, and whatever went wrong is told when it is taken: not before its turn.
    """

    def __init__(self, work: Awaitable[T | None], expected_bytes: int, on_end: Callable[[], None]) -> None:
        self.expected_bytes = expected_bytes
        self._task = asyncio.ensure_future(work)
        self._on_end = on_end

    async def taken(self) -> T | None:
        """The answer, when it has come; None when there was no room to ask for it ahead."""
        try:
            return await self._task
        finally:
            self._on_end()
            del self._task

    async def dropped(self) -> None:
        """Leaves the answer; nothing of it goes on afterwards."""
        self._task.cancel()
        self._on_end()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # nobody is going to hear of it


async def on_its_way() -> None:
    """Gives what was asked for ahead the moment that it takes to be sent, before this task goes on to compute."""
    for _ in range(_PASSES):
        await asyncio.sleep(0)
