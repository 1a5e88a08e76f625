"""The rules of pacing, one by one."""

from __future__ import annotations

import pytest

from evalforge.datadog_http.pacing import MAX_SPREAD_S, OutOfQuotaError, Pacing, Told, Turn


class Bench:
    """A pacing with a clock to set, and requests that are sent and answered when the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pacing = Pacing(lambda: self.now)

    def send(self, source: str = "llm_obs", patience_s: float = 60.0) -> Turn:
        turn = self.pacing.ask(source, patience_s)
        assert turn.kind == "send"
        self.now += turn.wait_s
        assert self.pacing.begin(turn)
        return turn

    def answer(self, turn: Turn, remaining: float, reset_s: float = 30.0, *, is_refusal: bool = False) -> Told:
        told = {"limit": 100.0, "period_s": 60.0, "remaining": remaining, "reset_s": reset_s}
        return self.pacing.answered(turn, told, is_refusal=is_refusal)

    def exchange(self, remaining: float, reset_s: float = 30.0, source: str = "llm_obs", **told: float | str) -> None:
        defaults = {"limit": 100.0, "period_s": 60.0, "remaining": remaining, "reset_s": reset_s}
        self.pacing.answered(self.send(source), {**defaults, **told})


def test_an_old_answer_that_comes_late_does_not_raise_what_is_left() -> None:
    bench = Bench()
    bench.exchange(10)
    first, second = bench.send(), bench.send()
    assert bench.answer(second, 8, 30)["remaining"] == 8
    assert bench.answer(first, 9, 30)["remaining"] == 8
    assert first.pace.left == 8


def test_a_newer_answer_may_raise_it() -> None:
    bench = Bench()
    bench.exchange(1)
    bench.exchange(90)
    assert bench.send().pace.left == 90


def test_an_answer_of_the_period_before_does_not_close_the_new_one() -> None:
    bench = Bench()
    bench.exchange(50, reset_s=2.0)
    slow = bench.send()
    bench.now = 4.0
    bench.exchange(99, reset_s=58.0)
    assert bench.answer(slow, 0, 2) == {}
    assert bench.send().wait_s == 0


def test_an_answer_that_may_be_of_the_period_before_does_not_close_the_new_one() -> None:
    bench = Bench()
    bench.exchange(50, reset_s=2.0, period_s=4.0)
    slow = bench.send()
    bench.now = 3.5
    assert bench.send().pace.left == 100
    told = {"limit": 100.0, "remaining": 0.0, "reset_s": 2.0, "period_s": 4.0}
    assert bench.pacing.answered(slow, told) == {}
    assert slow.pace.left == 99


def test_whoever_gave_up_after_a_request_was_sent_is_not_in_what_it_was_told() -> None:
    bench = Bench()
    bench.exchange(50)
    answered, lost = bench.send(), bench.send()
    bench.now = 1.0
    bench.pacing.unanswered(lost)
    assert bench.answer(answered, 49)["remaining"] == 48
    bench.now = 2.0
    assert bench.answer(bench.send(), 47)["remaining"] == 47, "this one was sent afterwards"


def test_whoever_gave_up_about_the_end_of_a_period_may_count_for_the_next() -> None:
    bench = Bench()
    bench.exchange(50, reset_s=5.0)
    early, late = bench.send(), bench.send()
    bench.now = 3.0
    bench.pacing.unanswered(early)
    bench.now = 5.5
    bench.pacing.unanswered(late)
    bench.now = 6.5
    assert bench.send().pace.left == 99


def test_what_is_scarce_is_spread_evenly_over_the_rest() -> None:
    bench = Bench()
    bench.exchange(10, reset_s=21.0)
    waits = [bench.pacing.ask("llm_obs", 60).wait_s for _ in range(10)]
    assert waits == pytest.approx([2 * n for n in range(1, 11)]), "the last one before the earliest possible reset"
    assert bench.pacing.ask("llm_obs", 60).kind == "poll", "all places are taken, and nobody was answered yet"


def test_gaps_are_bounded_and_who_was_idle_does_not_wait() -> None:
    bench = Bench()
    bench.exchange(2, reset_s=50.0)
    assert bench.pacing.ask("llm_obs", 60).wait_s == MAX_SPREAD_S
    bench.now = 30.0
    assert bench.pacing.ask("llm_obs", 60).wait_s == 0


def test_nothing_is_spread_that_would_wait_longer_than_allowed() -> None:
    bench = Bench()
    bench.exchange(2, reset_s=50.0)
    assert bench.pacing.ask("llm_obs", 10).wait_s == 0


def test_what_is_out_waits_for_the_reset_or_is_told() -> None:
    bench = Bench()
    bench.exchange(0, reset_s=30.0)
    turn = bench.pacing.ask("llm_obs", 60)
    assert (turn.kind, turn.wait_s) == ("reset", 31)
    with pytest.raises(OutOfQuotaError) as raised:
        bench.pacing.ask("llm_obs", 30.5)
    assert raised.value.wait_s == 31
    bench.now += 31
    assert not bench.pacing.begin(turn), "it has to ask again"
    assert bench.send().wait_s == 0


def test_a_place_is_lost_when_others_used_the_rest_up_meanwhile() -> None:
    bench = Bench()
    bench.exchange(2, reset_s=50.0)
    turn = bench.pacing.ask("llm_obs", 60)
    assert turn.wait_s > 0
    bench.now += turn.wait_s
    other = bench.send()
    bench.answer(other, 0, 40)
    assert not bench.pacing.begin(turn)
    assert bench.pacing.ask("llm_obs", 60).kind == "reset"


def test_the_first_request_goes_alone_until_it_is_answered() -> None:
    bench = Bench()
    first = bench.send()
    assert bench.pacing.ask("llm_obs", 0).kind == "poll"
    bench.pacing.answered(first, {})
    assert [bench.send().wait_s for _ in range(50)] == [0] * 50, "no header tells of a quota"


def test_a_first_request_without_an_answer_holds_nobody() -> None:
    bench = Bench()
    bench.pacing.unanswered(bench.send())
    bench.send()
    bench.send()


def test_a_place_that_is_not_used_is_free_again() -> None:
    bench = Bench()
    bench.exchange(1, reset_s=10.0)
    bench.pacing.cancel(bench.pacing.ask("llm_obs", 60))
    bench.send()


@pytest.mark.parametrize("is_refusal", [True, False])
def test_a_refusal_overrules_what_the_headers_say_is_left(is_refusal: bool) -> None:
    bench = Bench()
    told = bench.answer(bench.send(), 9, is_refusal=is_refusal)
    assert told["remaining"] == (0 if is_refusal else 9)
    assert bench.pacing.ask("llm_obs", 60).kind == ("reset" if is_refusal else "send")


@pytest.mark.parametrize(
    "told",
    [
        {"remaining": 0.0},
        {"remaining": 0.0, "limit": 10.0},
        {"remaining": 0.0, "reset_s": 3000.0, "period_s": 0.0},
        {"limit": 10.0, "reset_s": 30.0, "period_s": 60.0},
    ],
)
def test_what_cannot_be_paced_by_holds_nobody_for_long(told: dict[str, float]) -> None:
    bench = Bench()
    bench.pacing.answered(bench.send(), told)
    if told.get("reset_s") == 3000:
        with pytest.raises(OutOfQuotaError):
            bench.send()
    else:
        assert bench.send().wait_s == 0


def test_a_reset_later_than_the_period_is_not_believed() -> None:
    bench = Bench()
    bench.exchange(0, reset_s=3000.0, period_s=10.0)
    assert bench.pacing.ask("llm_obs", 60).wait_s == 11


def test_searches_share_the_quota_that_both_are_told_of() -> None:
    bench = Bench()
    bench.exchange(50, source="llm_obs", name="public_search")
    bench.exchange(1, source="apm", name="public_search")
    assert bench.send("llm_obs").pace is bench.pacing.ask("apm", 60).pace
    assert bench.pacing.ask("llm_obs", 60).kind == "poll"


def test_searches_without_a_name_have_a_quota_each() -> None:
    bench = Bench()
    bench.exchange(0, source="apm")
    bench.exchange(50, source="llm_obs")
    assert bench.pacing.ask("apm", 60).kind == "reset"
    bench.exchange(50, source="llm_obs", name="q")
    assert bench.pacing.ask("apm", 60).kind == "reset", "the other one keeps what it knows"


def test_a_new_period_begins_with_the_whole_limit() -> None:
    bench = Bench()
    bench.exchange(0, limit=5.0, reset_s=10.0)
    bench.now = 200.0
    assert [bench.pacing.ask("llm_obs", 60).kind for _ in range(6)] == ["send"] * 5 + ["poll"]
