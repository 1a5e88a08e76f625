"""What tests want of a run: a window that was asked for, within bounds that nothing meets."""

from __future__ import annotations

from evalforge.core.plans import AskedWindow, Plan
from evalforge.core.window import Window
from evalforge.runs import Budget, Order

GENEROUS = Budget(seconds=60, max_captures=1000)


def order(plan: Plan | Window, budget: Budget = GENEROUS, *, resolve_users: bool = False, rehearsal: bool = False) -> Order:
    """The order of a run by "test"."""
    asked = AskedWindow(plan) if isinstance(plan, Window) else plan
    return Order(asked, budget, "test", "a tester", "scan", resolve_users=resolve_users, rehearsal=rehearsal)
