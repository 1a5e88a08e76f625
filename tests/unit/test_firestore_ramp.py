"""The ramp of Firestore's writes: how its rate grows and falls; waiting for it is no failure and holds up no stop."""

from __future__ import annotations

import asyncio
import time

import pytest

from evalforge.stores.firestore.connection import TURN_S, Connection, Turn
from evalforge.stores.firestore.ramp import BASE_RATE, BURST, GROWTH, MAX_WRITERS, PERIOD_S, Ramp
from tests.virtual_time import run


class Bench:
    """A ramp with a clock to set."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.ramp = Ramp(lambda: self.now)

    def write(self, seconds: float, per_second: float) -> None:
        """Writes in batches of 50, evenly, or as fast as the ramp lets them."""
        end = self.now + seconds
        while self.now < end:
            wait_s = self.ramp.take(50)
            self.now += wait_s or 50 / per_second
        self.ramp.take(0)


def test_a_burst_goes_at_once_and_what_comes_after_it_at_the_base_rate() -> None:
    bench = Bench()
    assert [bench.ramp.take(50) for _ in range(BURST // 50)] == [0.0] * (BURST // 50)
    assert bench.ramp.take(50) == pytest.approx(50 / BASE_RATE)
    bench.now += 50 / BASE_RATE + 0.001
    assert bench.ramp.take(50) == 0.0


def test_the_rate_grows_by_half_in_each_period_of_which_everything_was_used() -> None:
    bench = Bench()
    for period in range(4):
        assert bench.ramp.rate == pytest.approx(BASE_RATE * GROWTH**period, rel=0.01)
        bench.write(PERIOD_S, 1_000_000)


def test_the_rate_follows_a_traffic_that_gets_less() -> None:
    bench = Bench()
    bench.write(6 * PERIOD_S, 1_000_000)
    before = bench.ramp.rate
    bench.write(2 * PERIOD_S, 1_200)
    assert before > bench.ramp.rate == pytest.approx(GROWTH * 1_200, rel=0.05)


@pytest.mark.parametrize("pause_s", [2 * PERIOD_S, 86_400.0])
def test_after_a_pause_it_begins_again(pause_s: float) -> None:
    bench = Bench()
    bench.write(5 * PERIOD_S, 1_000_000)
    bench.now += pause_s
    assert [bench.ramp.take(BURST), bench.ramp.rate] == [0.0, BASE_RATE]
    assert bench.ramp.take(1) > 0


def test_waiting_for_the_ramp_is_no_failure_however_long_it_takes() -> None:
    async def work() -> tuple[float, list[int]]:
        clock = asyncio.get_running_loop().time
        connection = Connection("p", None, None, timeout_s=1.0, ramp=Ramp(clock))
        order: list[int] = []

        async def one(number: int) -> None:
            await connection.admitted(1_000)
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(40)))
        return clock(), order

    took_s, order = run(work())
    assert took_s == pytest.approx((40_000 - BURST) / BASE_RATE, abs=0.1)
    assert order == list(range(40))


def test_a_stop_does_not_wait_for_the_ramp_and_takes_no_turn_from_others() -> None:
    async def work() -> float:
        clock = asyncio.get_running_loop().time
        connection = Connection("p", None, None, timeout_s=1.0, ramp=Ramp(clock))
        await connection.admitted(BURST)
        waiting = asyncio.create_task(connection.admitted(BURST))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert clock() == 1
        await connection.admitted(50)  # what had come together in the meantime is still there
        return clock()

    assert run(work()) == 1


def test_without_a_ramp_nobody_waits() -> None:
    async def work() -> float:
        connection = Connection("p", None, "127.0.0.1:1", timeout_s=1.0, ramp=None)
        await connection.admitted(10 * BURST)
        return asyncio.get_running_loop().time()

    assert run(work()) == 0


async def test_whoever_computes_much_lets_others_in() -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    other = asyncio.create_task(beat())
    turn = Turn()
    await turn.shared()
    assert beats == 0
    time.sleep(TURN_S)  # noqa: ASYNC251 - computing
    await turn.shared()
    await turn.shared()
    time.sleep(TURN_S)  # noqa: ASYNC251
    await turn.shared()
    assert beats == 1
    other.cancel()


@pytest.mark.parametrize("writers", [2, 7, MAX_WRITERS])
def test_writers_that_share_a_ramp_are_together_as_fast_as_one(writers: int) -> None:
    def written(ramps: int, seconds: float) -> tuple[int, float]:
        """How many writes so many greedy writers get through, and the greatest share of one in that time."""
        now = 0.0
        shared = [Ramp(lambda: now, writers=ramps) for _ in range(ramps)]
        counts = [0] * ramps
        while now < seconds:
            for number, ramp in enumerate(shared):
                while ramp.take(50) == 0:
                    counts[number] += 50
            now += 2.0
        return sum(counts), max(counts)

    alone, _ = written(1, 3 * PERIOD_S)
    together, most = written(writers, 3 * PERIOD_S)
    assert 0.9 * alone <= together <= alone + 50 * writers, "each may have part of a batch more than its share"
    assert most <= alone / writers + 50


@pytest.mark.parametrize("writers", [0, MAX_WRITERS + 1])
def test_a_ramp_is_shared_by_no_more_than_still_get_a_batch(writers: int) -> None:
    with pytest.raises(ValueError, match="1 to 200"):
        Ramp(time.monotonic, writers=writers)
