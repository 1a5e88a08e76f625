"""Which request goes when, so that a quota is used up and not overrun, by what headers tell. Pure: the clock is passed in.

A quota is so many requests in each period of the calendar. While much of it is left, requests go at once: a job that needs
few of them is not slowed. When it gets scarce they are spread over the rest of the period, and when it is out they wait for
the reset, as far as that lies within the caller's patience; else the caller is told, before anything is sent. A period much
longer than the patience (an hour, for APM) is therefore used without any wait and then ended: what a period leaves unused is
lost, so waiting between its requests would only keep a run open that could stop now and go on after the reset.

Headers are hints from outside: any of them may be missing, wrong, late, or tell of other consumers too. No wait is longer
than the patience, whatever they say, and a refusal (429) overrules them.

Source: https://docs.datadoghq.com/api/latest/rate-limits/ (headers; periods are aligned with the calendar)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

ROUNDING_S = 1.0
"""Resets are told in whole seconds, and nobody says whether they are rounded up or down."""

MIN_PERIOD_S, MAX_PERIOD_S = 1.0, 86_400.0
"""Any other period, or a later reset, is taken for nonsense, such as a moment where a number of seconds is meant."""

SCARCE_SHARE = 0.25
"""Requests are spread when less than this share of the quota is left."""

MAX_SPREAD_S = 5.0
"""Spreading leaves room for whoever shares the quota; nobody is helped by longer gaps between two requests than this."""

MIN_POLL_S = 0.05

Told = Mapping[str, float | str]
"""What the headers of one answer tell: limit, remaining, period_s, reset_s and name, those that make sense."""


class OutOfQuotaError(Exception):
    """Nothing is left, and the reset lies beyond the patience: in `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the quota resets in {wait_s:.0f} s")
        self.wait_s = wait_s


@dataclass(slots=True, eq=False)
class Turn:
    """What a request that wants to be sent has to do: wait so many seconds (0 or more), then `begin`.

    `kind` says what for: to be sent then (`send`), for the quota to be filled again (`reset`), or for requests under way to
    be answered (`poll`, a moment). Only a `send` has a place in the quota.
    """

    source: str
    kind: Literal["send", "reset", "poll"]
    wait_s: float
    pace: _Pace
    sent_at: float = 0.0


class Pacing:
    """The quotas of one client, shared by all its requests. `clock` gives seconds that only grow.

    Every `Turn` of kind `send` must end in exactly one of `answered`, `unanswered` and `cancel`, unless `begin` said no.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._names: dict[str, str] = {}
        self._paces: dict[str, _Pace] = {}

    def ask(self, source: str, patience_s: float) -> Turn:
        """The turn of a request to this search, which would wait at most `patience_s` seconds.

        Raises:
            OutOfQuotaError
        """
        pace = self._pace(source)
        kind, wait_s = pace.ask(self._clock(), patience_s)
        return Turn(source, kind, wait_s, pace)

    def has_plenty(self, source: str) -> bool:
        """Whether requests to this search may go before their turn: as long as none has to wait for any other."""
        return self._pace(source).has_plenty(self._clock())

    def spare(self, source: str) -> Turn | None:
        """The turn of a request that goes before its turn, now or not at all; it has begun already."""
        pace, now = self._pace(source), self._clock()
        if not pace.has_plenty(now):
            return None
        pace.pending += 1
        return Turn(source, "send", 0.0, pace, sent_at=now)

    def begin(self, turn: Turn) -> bool:
        """Whether the request may be sent, now that it has waited; if not, it has to ask again."""
        if turn.kind != "send":
            return False
        turn.sent_at = self._clock()
        return turn.wait_s == 0 or turn.pace.holds(turn.sent_at)

    def answered(self, turn: Turn, told: Told, *, is_refusal: bool = False) -> Told:
        """Learns from the head of an answer, and gives what of it is news: nothing when a newer one came before.

        `is_refusal` says that the answer was a 429.
        """
        turn.pace.pending -= 1
        pace = self._named(turn, told.get("name"))
        if not pace.hear(turn.sent_at, self._clock(), told, is_refusal):
            return {}
        return told if pace.left is None or "remaining" not in told else {**told, "remaining": pace.left}

    def unanswered(self, turn: Turn) -> None:
        """The request was sent and no answer came: it may have been counted."""
        turn.pace.pending -= 1
        turn.pace.count_unseen(self._clock())

    def cancel(self, turn: Turn) -> None:
        """The request is not going to be sent."""
        if turn.kind == "send":
            turn.pace.pending -= 1

    def _pace(self, source: str) -> _Pace:
        return self._paces.setdefault(self._names.setdefault(source, source), _Pace())

    def _named(self, turn: Turn, name: float | str | None) -> _Pace:
        """The pace of the quota that this answer names; searches under one name share it."""
        before = self._names[turn.source]
        if isinstance(name, str) and name != before:
            self._names[turn.source] = name
            # A quota that gets its name keeps what is under way; one that is named anew is another one.
            self._paces.setdefault(name, turn.pace if before == turn.source else _Pace())
            self._paces = {used: self._paces[used] for used in self._names.values() if used in self._paces}
        return self._paces.setdefault(self._names[turn.source], turn.pace)


class _Pace:
    """One quota. `pending` counts the requests that have a place in it and no answer yet.

    The reset lies between `lo` and `hi`; `left` is the fewest requests that any answer of this period told, None when nobody
    can pace by what was told. An answer whose request was sent after the newest one had come is newer; of two that crossed,
    the one that tells less counts, so that an old answer that comes late never raises what is left.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._is_heard = False
        self._limit: float | None = None
        self._period_s: float | None = None
        self.left: float | None = None
        self._lo = self._hi = math.inf
        self._ended_at = -math.inf  # when the period before was over for sure
        self._heard_at = -math.inf
        self._last_slot = -math.inf
        self._unseen_at: deque[float] = deque(maxlen=1000)  # when requests were given up whose answers nobody saw
        self._rtt_s = 0.0

    def ask(self, now: float, patience_s: float) -> tuple[Literal["send", "reset", "poll"], float]:
        """What a request has to wait for, and how long; one that is to be sent takes its place at once."""
        self._turn_period(now)
        if not self._is_heard and self.pending:
            return "poll", MIN_POLL_S  # the first answer tells how many may go at once
        if self.left is None:
            return "send", self._booked(now, now)
        free = math.floor(self.left) - self.pending
        if free >= 1:
            return "send", self._booked(now, self._slot(now, free, patience_s))
        wait_s = self._hi - now
        if self.left >= 1:
            # Those under way may have been counted already in what was told: their answers say.
            return "poll", min(wait_s, max(MIN_POLL_S, self._rtt_s))
        if wait_s > patience_s:
            raise OutOfQuotaError(wait_s)
        return "reset", wait_s

    def has_plenty(self, now: float) -> bool:
        """Whether so much is left that nothing is spread yet; not before the first answer has told."""
        self._turn_period(now)
        if not self._is_heard:
            return False
        free = math.inf if self.left is None else math.floor(self.left) - self.pending
        return free > max(1.0, SCARCE_SHARE * (self._limit or 0.0))

    def holds(self, now: float) -> bool:
        """Whether a place that was taken earlier is still there; if not it is given back."""
        self._turn_period(now)
        if self.left is None or self.left >= self.pending:
            return True
        self.pending -= 1
        return False

    def hear(self, sent_at: float, now: float, told: Told, is_refusal: bool) -> bool:
        """Learns what an answer tells; False when it tells of the past."""
        self._is_heard = True
        self._rtt_s = max(now - sent_at, 0.8 * self._rtt_s + 0.2 * (now - sent_at))
        remaining = _number(told, "remaining")
        period_s = _number(told, "period_s")
        period_s = period_s if period_s is not None and MIN_PERIOD_S <= period_s <= MAX_PERIOD_S else None
        bounds = _reset_bounds(sent_at, now, _number(told, "reset_s"), period_s)
        if is_refusal and bounds is not None:
            remaining = 0.0  # whatever the header says
        if remaining is None:
            self.count_unseen(now)
            return True
        if bounds is None:
            self._forget()
            return True
        is_newer = sent_at >= self._heard_at
        lo, hi = bounds
        if sent_at < self._ended_at and lo <= self._ended_at:  # maybe it tells of the period before
            self.count_unseen(now)
            return False
        if lo > self._hi:
            self._end_period()
        # Whatever was given up after this request was sent may have been counted after it.
        left = max(0.0, remaining - sum(at >= sent_at for at in self._unseen_at))
        self.left = left if is_newer or self.left is None else min(left, self.left)
        self._lo, self._hi = lo, hi
        limit = _number(told, "limit")
        self._limit = None if limit is None else max(limit, remaining)
        self._period_s = period_s
        self._heard_at = now
        return True

    def count_unseen(self, now: float) -> None:
        """A request was counted, or not: what it left is not known."""
        self._is_heard = True
        self._unseen_at.append(now)
        if self.left is not None:
            self.left = max(0.0, self.left - 1)

    def _turn_period(self, now: float) -> None:
        """Begins the next period when the present one is over for sure."""
        if now < self._hi:
            return
        lo, hi = self._lo, self._hi
        self._end_period()
        while self._unseen_at and self._unseen_at[0] < lo:
            self._unseen_at.popleft()  # what was given up later may count for the new period
        if self._limit is None or self._period_s is None:
            return
        self.left = max(0.0, self._limit - len(self._unseen_at))
        passed_s = (math.floor((now - hi) / self._period_s) + 1) * self._period_s
        self._lo, self._hi = lo + passed_s, hi + passed_s

    def _end_period(self) -> None:
        self._ended_at = self._hi
        self._forget()

    def _forget(self) -> None:
        self.left = None
        self._lo = self._hi = math.inf

    def _slot(self, now: float, free: int, patience_s: float) -> float:
        """When the next of `free` requests goes: now while there are many, else so that the last one goes before the end."""
        # The earliest end counts, and the way to Datadog: what arrives later counts for the next period.
        end = self._lo - self._rtt_s
        if self._limit is None or free >= SCARCE_SHARE * self._limit or not now < end <= now + patience_s:
            return now
        slot = self._last_slot + min((end - self._last_slot) / free, MAX_SPREAD_S)
        return min(max(now, slot), end)

    def _booked(self, now: float, slot: float) -> float:
        self.pending += 1
        self._last_slot = slot
        return slot - now


def _reset_bounds(sent_at: float, now: float, reset_s: float | None, period_s: float | None) -> tuple[float, float] | None:
    """Between which two moments the period ends, None when the headers do not say or contradict themselves."""
    if reset_s is not None and reset_s <= (period_s or MAX_PERIOD_S) + ROUNDING_S:
        return sent_at + reset_s - ROUNDING_S, now + reset_s + ROUNDING_S
    return (sent_at, now + period_s + ROUNDING_S) if period_s is not None else None


def _number(told: Told, key: str) -> float | None:
    value = told.get(key)
    return value if isinstance(value, int | float) else None
