"""How an explained span looks on a terminal: each field before and after, in the colour of its outcome, and the rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evalforge.cli.cards import section, signals_grid
from evalforge.cli.screen import joined_counts, safe, text
from evalforge.core.privacy.explaining import NOTHING, Decision, Explanation, Outcome
from evalforge.core.privacy.text.findings import MARK
from evalforge.exports import json_bytes

# Colours that can be read on a light and on a dark background, and a sign for those who see none.
STYLE: Mapping[str, str] = {
    Outcome.KEPT: "green",
    Outcome.HASHED: "cyan",
    Outcome.SCRUBBED: "magenta",
    Outcome.CLOSED: "blue",
    Outcome.DROPPED: "red",
}
SIGN: Mapping[str, str] = {
    Outcome.KEPT: "●",
    Outcome.HASHED: "#",
    Outcome.SCRUBBED: "◐",
    Outcome.CLOSED: "○",
    Outcome.DROPPED: "×",
}
TITLES: Mapping[str, str] = {
    "head": "The span",
    "evaluation": "Evaluations",
    "error": "Error",
    "input": "Input",
    "output": "Output",
    "tool_definitions": "Tools",
    "tags": "Tags",
    "metadata": "Metadata",
    "metrics": "Metrics",
    "attributes": "Attributes",
    "extra": "Fields that nobody named",
}
WIDE = 120
_SHORT, _LONG = 240, 20_000


def print_explanation(out: Console, explanation: Explanation, *, after_only: bool, full: bool) -> None:
    """Writes one span: what it is, why it fails, every field by section, and the totals."""
    sanitized = explanation.sanitized
    about = " · ".join(part for part in (sanitized.name or "unnamed", sanitized.span_kind, sanitized.ml_app) if part)
    out.print(Text.assemble((f" {safe(about, 200)} ", "reverse bold")))
    out.print(text(f"trace {sanitized.trace_id}  span {sanitized.span_id}", "dim"))
    if explanation.signals:
        out.print(signals_grid(explanation.signals))
    if not explanation.signals:
        out.print(text("○ no signal fires: a healthy span is not stored at all; this is what would be left of it"))
    for name, decisions in groupby(explanation.decisions, key=lambda decision: decision.section):
        out.print()
        out.print(section(TITLES.get(name, name)))
        if out.width >= WIDE:
            out.print(_table(list(decisions), name, after_only=after_only, limit=_LONG if full else _SHORT))
        else:
            _print_narrow(out, decisions, name, after_only=after_only, limit=_LONG if full else _SHORT)
    out.print()
    out.print(section("Totals"))
    out.print(totals_line(explanation.totals))
    if sanitized.redactions:
        out.print(text(f"removed: {joined_counts(sanitized.redactions)}", "dim"))
    if sanitized.user_hash:
        out.print(text(f"user: {sanitized.user_hash}", "dim"))


def totals_line(totals: Mapping[str, int]) -> Text:
    """How many fields came out in which way, each in its colour: `59 fields: ● 44 kept  # 1 hashed …`."""
    count = sum(totals.values())
    line = Text(f"{count:,} {'field' if count == 1 else 'fields'}:")
    for outcome in Outcome:
        style = STYLE[outcome] if totals.get(outcome) else "dim"
        line.append(f"  {SIGN[outcome]} {totals.get(outcome, 0):,} {outcome.value}", style)
    return line


def _table(decisions: list[Decision], name: str, *, after_only: bool, limit: int) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(width=10, no_wrap=True)
    for ratio in (3, 4, 4) if after_only else (3, 4, 3, 4):
        grid.add_column(ratio=ratio, overflow="fold")
    for decision in decisions:
        style = STYLE[decision.outcome]
        row = [text(f"{SIGN[decision.outcome]} {decision.outcome.value}", style), text(_path(decision, name, after_only))]
        if not after_only:
            row.append(text(_spelled(decision.before), limit=limit))
        same = not after_only and decision.outcome is Outcome.KEPT
        row.append(text("the same", "dim") if same else _after(decision, limit))
        row.append(text(_rule(decision, after_only), "dim"))
        grid.add_row(*row)
    return grid


def _print_narrow(out: Console, decisions: Iterable[Decision], name: str, *, after_only: bool, limit: int) -> None:
    """Fields that are kept have a line each, the others a few."""
    for is_kept, some in groupby(decisions, key=lambda decision: decision.outcome is Outcome.KEPT):
        if not is_kept:
            for decision in some:
                _print_stacked(out, decision, name, after_only=after_only, limit=limit)
            continue
        grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
        grid.add_column(width=1)
        for ratio in (3, 4, 2):
            grid.add_column(ratio=ratio, overflow="fold")
        for decision in some:
            sign = text(SIGN[Outcome.KEPT], STYLE[Outcome.KEPT])
            path, rule = text(_path(decision, name, after_only), limit=400), text(_rule(decision, after_only), "dim")
            grid.add_row(sign, path, text(_spelled(decision.after), limit=limit), rule)
        out.print(grid)


def _print_stacked(out: Console, decision: Decision, name: str, *, after_only: bool, limit: int) -> None:
    style = STYLE[decision.outcome]
    head = Table.grid(padding=(0, 2, 0, 0), expand=True)
    head.add_column(ratio=1, overflow="fold")
    head.add_column(justify="right", no_wrap=True)
    path = Text.assemble((f"{SIGN[decision.outcome]} ", style), (safe(_path(decision, name, after_only), 400), "bold"))
    head.add_row(path, text(decision.outcome.value, style))
    out.print(head)
    lines = Table.grid(padding=(0, 1, 0, 0))
    lines.add_column(no_wrap=True, style="dim")
    lines.add_column(overflow="fold")
    if not after_only:
        lines.add_row("", text(_spelled(decision.before), limit=limit))
    if after_only or decision.outcome is not Outcome.KEPT:
        lines.add_row("→", _after(decision, limit))
    lines.add_row("", text(_rule(decision, after_only), "dim"))
    out.print(Padding(lines, (0, 0, 0, 2), expand=False))


def _path(decision: Decision, name: str, after_only: bool) -> str:
    path = decision.stored_path if after_only else decision.path
    return path.removeprefix(f"{name}.") if name != "head" else path


def _rule(decision: Decision, after_only: bool) -> str:
    return decision.stored_rule if after_only else decision.rule


def _after(decision: Decision, limit: int) -> Text:
    """What is stored, with its placeholders in the outcome's colour."""
    style = STYLE[decision.outcome]
    if decision.after is NOTHING:
        return text("a keyed hash" if decision.outcome is Outcome.HASHED else "nothing", style)
    shown = _spelled(decision.after)
    if decision.outcome is not Outcome.SCRUBBED:
        return text(shown, style if decision.outcome is not Outcome.KEPT else "", limit=limit)
    made = text(shown, limit=limit)
    for mark in MARK.finditer(made.plain):
        made.stylize(f"bold {style}", *mark.span())
    return made


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        return value if value else '""'
    return json_bytes(value).decode()
