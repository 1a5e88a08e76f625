"""The plan for late evaluations: samples all over the window, and each evaluator asked for once, whatever is refused."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.signals import Thresholds
from evalforge.core.window import Window
from evalforge.sources.datadog.plans import SPREAD_SLICES, Asking, EvaluatedPlan
from evalforge.sources.datadog.query import Scope, is_queryable
from evalforge.sources.datadog.steps import GAP, Learned, Step, spread_starts


@given(st.integers(1, 10**10), st.integers(1, 20), st.integers())
def test_samples_lie_in_different_parts_of_the_window(duration_ms: int, count: int, seed: int) -> None:
    window = Window(1000, 1000 + duration_ms)
    pieces = sorted(spread_starts(window, count, random.Random(seed)))
    assert len(pieces) == min(count, duration_ms)
    assert pieces[-1].to_ms == window.to_ms
    assert all(window.covers(piece) for piece in pieces)
    assert all(before.to_ms <= after.from_ms for before, after in pairwise(pieces))
    longest = -(-duration_ms // len(pieces))
    assert all(piece.duration_ms <= longest for piece in pieces)


def plan_of(learned: Learned, *names: str) -> EvaluatedPlan:
    return EvaluatedPlan(Asking("llm_obs", "auto", Scope(), Thresholds(), names), learned)


def test_one_sample_is_enough_where_nothing_is_evaluated() -> None:
    window = Window(0, 10**9)
    for known, count in (((), 1), (("tone",), SPREAD_SLICES)):
        learned = Learned((), known, Thresholds())
        assert len(list(plan_of(learned, *known).slices(window, random.Random(1)))) == count


@given(st.integers(1, 60), st.lists(st.integers(0, 8), max_size=5), st.integers(0, 20))
def test_every_evaluator_is_asked_for_once_however_short_a_query_must_be(
    longest: int, learned_in_step: list[int], known: int
) -> None:
    """`longest` is how many names Datadog takes at once; in each step some names are learned."""
    learned = Learned([f"evaluation.early{number}" for number in range(known)], (), Thresholds())
    plan = plan_of(learned, "set", "also*not")
    asked: list[int] = []
    step: Step | None = plan.asking()
    new = iter(learned_in_step)
    while step is not None:
        if step.count - step.first > longest:
            step = plan.instead_of(step)
            continue
        assert step.first == len(asked)
        asked += range(step.first, step.count)
        for number in range(next(new, 0)):
            learned.add(f"evaluation.new{len(asked)}-{number}")
        step = plan.following(step)
    gaps = [entry for entry in learned.entries if entry.startswith(GAP)]
    assert len(asked) + len(gaps) == plan.size, "what was met too late is told"
    assert plan.instead_of(Step("query", 3, 4)) is None
    assert plan.instead_of(Step("slice")) is None


def test_places_that_are_no_evaluations_are_not_asked_for() -> None:
    learned = Learned(["any:status", "any:metadata.quality_score", "gap:evaluation.x"], (), Thresholds())
    assert plan_of(learned).size == plan_of(Learned((), (), Thresholds())).size
    odd = Learned(["any:evaluation.a*", "evaluation.b?"], (), Thresholds())
    assert not is_queryable("a*")
    assert plan_of(odd).size == plan_of(Learned((), (), Thresholds())).size
