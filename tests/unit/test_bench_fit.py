"""The fit finds the line and the power that points were made by."""

from __future__ import annotations

import pytest

from bench.fit import fitted


@pytest.mark.parametrize(("power", "exponent"), [(1, 1.0), (2, 2.0), (0.5, 0.5)])
def test_the_exponent_is_that_of_the_power_law(power: float, exponent: float) -> None:
    fit = fitted([(size, 3 * size**power) for size in (20_000, 100_000, 1_000_000)])
    assert fit is not None
    assert fit.exponent == pytest.approx(exponent)


def test_a_line_with_a_fixed_cost_gives_both_and_an_exponent_below_one() -> None:
    fit = fitted([(size, 2.0 + 0.001 * size) for size in (1_000, 5_000, 50_000)])
    assert fit is not None
    assert fit.slope == pytest.approx(0.001)
    assert fit.fixed == pytest.approx(2.0)
    assert 0 < fit.exponent < 1


def test_one_size_gives_no_fit() -> None:
    assert fitted([(20_000, 1.0), (20_000, 1.1)]) is None
