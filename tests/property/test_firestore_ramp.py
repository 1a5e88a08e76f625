"""The ramp of Firestore's writes gives no more tokens in any stretch of time than its burst and what its rate makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalforge.stores.firestore.ramp import BASE_RATE, BURST, PERIOD_S, Ramp

asks = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 30), st.sampled_from([0.0, 0.05, PERIOD_S, 3 * PERIOD_S, 86_400.0])),
        st.integers(1, BURST),
        st.integers(1, 60),
    ),
    min_size=1,
    max_size=8,
)
"""How long somebody pauses, how much each of their batches takes, and how many they send, each as soon as it may go."""


@given(asks)
def test_no_more_than_the_burst_and_the_rate_in_any_stretch_of_time(asks: list[tuple[float, int, int]]) -> None:
    now = 0.0
    ramp = Ramp(lambda: now)
    made = 0.0  # what the rate has made by now: its integral over time
    taken = 0
    least = 0.0  # the least of (taken - made) that there was before a batch
    for pause_s, count, batches in asks:
        wait_s = pause_s
        for _ in range(batches):
            while True:
                until = now + wait_s
                while now < until:  # step to the ends of periods, where the rate changes
                    end = min(until, (now // PERIOD_S + 1) * PERIOD_S)
                    made += (end - now) * ramp.rate
                    now = end
                    ramp.take(0)
                assert ramp.rate >= BASE_RATE
                wait_s = ramp.take(count)
                if not wait_s:
                    break
            least = min(least, taken - made)
            taken += count
            # For every earlier moment: what was taken since is no more than the burst and what was made since.
            assert taken - made - least <= BURST + 1e-6 * taken + 1e-3
