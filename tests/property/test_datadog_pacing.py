"""Pacing against a quota server in virtual time: all of a quota is used, none is overrun, and no wait is too long."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from evalforge.datadog_http.answers import rate_limit
from evalforge.datadog_http.pacing import MAX_SPREAD_S, SCARCE_SHARE, OutOfQuotaError, Pacing, Turn
from tests.examples import examples
from tests.quota import ROUNDINGS, Quota


class World:
    """Virtual time: workers that search one after the other, each request taking `latency` seconds there and back."""

    def __init__(self, quota: Quota, *, latency: Callable[[], float], patience_s: float = 60.0, loss: float = 0.0) -> None:
        self.now = 0.0
        self.quota = quota
        self.pacing = Pacing(lambda: self.now)
        self.waits: list[tuple[str, float]] = []
        self.told_s: list[float] = []  # how long those that ended were told to stay away
        self.requests = 0
        self.lost = 0
        self._latency = latency
        self._patience_s = patience_s
        self.loss = loss
        self._rng = random.Random(1)
        self._due: list[tuple[float, int, Iterator[float]]] = []
        self._order = itertools.count()

    def start(self, steps: Iterator[float], at: float = 0.0) -> None:
        heapq.heappush(self._due, (at, next(self._order), steps))

    def run(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            self.now, _, steps = heapq.heappop(self._due)
            pause_s = next(steps, None)
            if pause_s is not None:
                assert pause_s >= 0
                self.start(steps, self.now + pause_s)
        self.now = until

    def worker(self, requests: int = 10**9, think_s: float = 0.0) -> Iterator[float]:
        for _ in range(requests):
            yield think_s
            patience_s = self._patience_s
            while True:
                try:
                    turn = self.pacing.ask("llm_obs", patience_s)
                except OutOfQuotaError as out:
                    self.told_s.append(out.wait_s)
                    return
                if turn.kind != "poll":
                    patience_s -= turn.wait_s
                    self.waits.append((turn.kind, turn.wait_s))
                    assert patience_s >= 0
                yield turn.wait_s
                if self.pacing.begin(turn):
                    break
            yield from self._request(turn)

    def _request(self, turn: Turn) -> Iterator[float]:
        self.requests += 1
        latency_s = self._latency()
        yield latency_s / 2
        if self.requests > 1 and self._rng.random() < self.loss:  # who never heard anything cannot know of a quota
            self.lost += 1
            if self._rng.random() < 0.5:
                self.quota.take(self.now)
            yield latency_s / 2
            self.pacing.unanswered(turn)
            return
        allowed, told = self.quota.take(self.now)
        yield latency_s / 2
        self.pacing.answered(turn, told, is_refusal=not allowed)

    def others(self, every_s: float) -> Iterator[float]:
        """Somebody else who uses the same quota, and is refused when it is out."""
        while True:
            yield every_s
            allowed, _ = self.quota.take(self.now)
            self.quota.refused -= not allowed


@st.composite
def busy_worlds(draw: st.DrawFn) -> tuple[World, int]:
    """A world with more work than quota, whose workers are fast enough to use the quota up."""
    limit = draw(st.integers(1, 80))
    period_s = float(draw(st.sampled_from([4, 5, 10, 30, 60])))
    workers = draw(st.integers(1, min(8, limit)))  # with more of them, chance decides who gets the few places
    # What is left of a period after the wait for a reset that may be late by the rounding, and before the next one.
    fastest_s = (period_s - 2.5) / limit * workers
    latency_s = draw(st.floats(0.001, 1.0)) * min(1.0, fastest_s)
    rng = random.Random(draw(st.integers(0, 10**6)))
    quota = Quota(limit, period_s, draw(st.floats(0, 0.999)) * period_s, ROUNDINGS[draw(st.sampled_from(sorted(ROUNDINGS)))])
    return World(quota, latency=lambda: latency_s * rng.uniform(0.5, 1.0), patience_s=period_s + 2.5), workers


@given(busy_worlds())
@examples(150)
def test_a_quota_is_used_up_and_never_overrun(busy: tuple[World, int]) -> None:
    world, workers = busy
    for _ in range(workers):
        world.start(world.worker())
    until = world.quota.period_s * 6
    world.run(until)
    assert world.quota.refused == 0
    assert world.told_s == []
    used = [world.quota.used[period] for period in world.quota.whole_periods(until)]
    assert len(used) >= 4
    assert min(used) >= 0.95 * world.quota.limit, (used, world.quota)


@given(busy_worlds(), st.floats(0, 0.9))
def test_what_got_lost_counts_as_used(busy: tuple[World, int], loss: float) -> None:
    world, workers = busy
    world.loss = loss
    for _ in range(workers):
        world.start(world.worker())
    world.run(world.quota.period_s * 4)
    assert world.quota.refused == 0


@given(limit=st.integers(4, 300), period_s=st.sampled_from([10.0, 60.0, 3600.0]), workers=st.integers(1, 4))
def test_a_job_that_needs_few_requests_is_not_slowed(limit: int, period_s: float, workers: int) -> None:
    world = World(Quota(limit, period_s), latency=lambda: 0.001)
    few = math.floor((1 - SCARCE_SHARE) * limit) // workers
    for _ in range(workers):
        world.start(world.worker(few))
    world.run(period_s)
    assert world.requests == few * workers
    assert not any(wait_s for _, wait_s in world.waits)


@given(limit=st.integers(1, 300), used=st.integers(0, 300), workers=st.integers(1, 4), phase_s=st.floats(0, 3500))
def test_a_quota_of_an_hour_is_used_without_a_wait_and_then_ends(
    limit: int, used: int, workers: int, phase_s: float
) -> None:
    quota = Quota(limit, 3600.0, phase_s)
    quota.used[0] = min(used, limit - 1)
    left = limit - quota.used[0]
    world = World(quota, latency=lambda: 0.01)
    for _ in range(workers):
        world.start(world.worker())
    world.run(60.0)
    assert world.requests == left
    assert quota.refused == 0
    assert not any(wait_s for _, wait_s in world.waits)
    assert len(world.told_s) == workers
    to_the_end_s = 3600 - phase_s
    assert all(to_the_end_s - 10 <= told_s <= to_the_end_s + 3 for told_s in world.told_s)


@given(limit=st.integers(5, 60), workers=st.integers(1, 8), patience_s=st.floats(0, 70), phase_s=st.floats(0, 59))
def test_what_is_scarce_is_spread_with_bounded_gaps(limit: int, workers: int, patience_s: float, phase_s: float) -> None:
    world = World(Quota(limit, 60.0, phase_s), latency=lambda: 0.01, patience_s=patience_s)
    for _ in range(workers):
        world.start(world.worker())
    world.run(200.0)
    assert world.quota.refused == 0
    assert all(wait_s <= patience_s for _, wait_s in world.waits)
    if patience_s < 60:
        return
    spread_s = [wait_s for kind, wait_s in world.waits if kind == "send" and wait_s > 0]
    assert spread_s or limit * SCARCE_SHARE < 2
    # Behind every request under way there may be a gap.
    assert all(wait_s <= workers * MAX_SPREAD_S for wait_s in spread_s)


@given(
    limit=st.integers(2, 60),
    every_s=st.floats(0.05, 5),
    workers=st.integers(1, 6),
    loss=st.floats(0, 0.3),
    seed=st.integers(0, 10**6),
)
def test_others_and_losses_are_lived_with(limit: int, every_s: float, workers: int, loss: float, seed: int) -> None:
    rng = random.Random(seed)
    world = World(Quota(limit, 10.0), latency=lambda: rng.uniform(0.01, 0.4), patience_s=13.0, loss=loss)
    world.start(world.others(every_s))
    for _ in range(workers):
        world.start(world.worker())
    world.run(100.0)
    assert all(wait_s <= 13 for _, wait_s in world.waits)
    # Somebody who takes the last places between an answer and the next request costs at most the requests under way; and
    # whoever hears no answer cannot know.
    assert world.quota.refused <= workers * len(world.quota.whole_periods(110)) + world.lost
    assert world.requests >= 9


def test_the_world_notices_an_overrun() -> None:
    world = World(Quota(5, 10.0), latency=lambda: 0.01)
    for _ in range(9):
        turn = world.pacing.ask("llm_obs", 0)
        world.pacing.begin(turn)
        allowed, _ = world.quota.take(world.now)
        world.pacing.answered(turn, {}, is_refusal=not allowed)
    assert world.quota.refused == 4


# -- whatever the headers say ----------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1", "9", "nan", "inf", "1e308", "1e-308", "1764000000", "1764000000000", "3600", "soon"]
    ),
    st.floats().map(str),
    st.integers(-5, 5000).map(str),
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "x-ratelimit-limit": NUMBERS,
        "x-ratelimit-remaining": NUMBERS,
        "x-ratelimit-period": NUMBERS,
        "x-ratelimit-reset": NUMBERS,
        "x-ratelimit-name": st.sampled_from(["a", "b", "llm_obs", "", "x" * 99, "\x00"]),
    },
)
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answer", "lose", "cancel"]),
        st.integers(0, 5),
        st.one_of(st.floats(0, 4000), st.just(1e12)),
        HEADERS,
        st.booleans(),
    ),
    max_size=40,
)


@given(OPERATIONS, st.floats(0, 3600))
@examples(200)
def test_no_headers_in_any_order_crash_it_or_make_it_wait_longer_than_allowed(
    operations: list[tuple[str, int, float, dict[str, str], bool]], patience_s: float
) -> None:
    now = 0.0
    pacing = Pacing(lambda: now)
    under_way: list[Turn] = []
    for what, which, pause_s, headers, is_refusal in operations:
        now += pause_s
        if what == "ask":
            try:
                turn = pacing.ask("apm" if which % 2 else "llm_obs", patience_s)
            except OutOfQuotaError as out:
                told_s = out.wait_s
                assert patience_s < told_s <= 86_400 * 2
                continue
            assert 0 <= turn.wait_s <= patience_s or (turn.kind == "poll" and turn.wait_s <= 4000)
            now += turn.wait_s
            if pacing.begin(turn):
                under_way.append(turn)
        elif under_way:
            turn = under_way.pop(which % len(under_way))
            if what == "answer":
                pacing.answered(turn, rate_limit(headers), is_refusal=is_refusal)
            elif what == "lose":
                pacing.unanswered(turn)
            else:
                pacing.cancel(turn)
        assert all(turn.pace.pending >= 1 for turn in under_way)
    while under_way:
        pace = under_way[0].pace
        pacing.cancel(under_way.pop(0))
        assert pace.pending >= 0
