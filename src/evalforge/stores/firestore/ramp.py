"""How fast writes may go to Firestore: its 500/50/5 rule as a token bucket. Pure: the clock is passed in.

A database splits its ranges of keys as their traffic grows, and takes minutes to do so; whoever is faster is told to wait
(RESOURCE_EXHAUSTED, ABORTED) or waits without being told. See docs/decisions/0018-writing.md.

Source: https://firebase.google.com/docs/firestore/best-practices#ramping_up_traffic
"""

from __future__ import annotations

from collections.abc import Callable

BASE_RATE = 500.0
"""Writes a second that a database takes which has seen no traffic for long."""
GROWTH = 1.5
"""What the rate may grow by with each period."""
PERIOD_S = 300.0
BURST = 10_000
"""Writes that may go at once after a pause: 20 seconds' worth at the base rate."""
SHORTEST_WAIT_S = 0.001


MAX_WRITERS = 200
"""Among so many writers at most a ramp is shared: each one's burst still takes a batch."""


class Ramp:
    """The writes of one process, each of which takes a token. `clock` gives seconds that only grow.

    `writers` processes that write at the same time, each with a ramp made for that many, are as fast together as one: each
    has its part of every number here.

    In any stretch of time no more tokens are given than `BURST` and what the rate makes in it. The rate begins at
    `BASE_RATE`; each `PERIOD_S` it becomes 1.5 times the rate at which tokens were really taken in that period, or 1.5
    times itself where they came faster (out of the burst), but never less than `BASE_RATE`. So it grows by half while
    everything that it allows is used, follows a traffic that gets less, and has fallen back one period after the last
    write.
    """

    def __init__(self, clock: Callable[[], float], *, writers: int = 1) -> None:
        if not 1 <= writers <= MAX_WRITERS:
            raise ValueError(f"a ramp is shared by 1 to {MAX_WRITERS} writers")
        self._clock = clock
        self._at = clock()
        self._period_end = self._at + PERIOD_S
        self._base_rate = BASE_RATE / writers
        self._burst = BURST / writers
        self._tokens = self._burst
        self._taken_count = 0
        self.rate = self._base_rate
        """Writes a second that are allowed now."""

    def take(self, count: int) -> float:
        """0 if `count` writes may go now, else the seconds after which to ask again: then none was taken.

        `count` is at most `BURST`, divided by the writers.
        """
        self._advance(self._clock())
        if count > self._tokens:
            return max(SHORTEST_WAIT_S, (count - self._tokens) / self.rate)
        self._tokens -= count
        self._taken_count += count
        return 0.0

    def _advance(self, now: float) -> None:
        while now >= self._period_end:
            self._refill(self._period_end)
            self.rate = max(self._base_rate, GROWTH * min(self.rate, self._taken_count / PERIOD_S))
            self._taken_count = 0
            self._period_end += PERIOD_S
        self._refill(now)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
