"""`evalforge privacy explain`: a span before and after sanitizing, field by field, with the rule that decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import click

from evalforge.cli.options import run_async
from evalforge.cli.screen import console, counted, is_terminal, print_json, text
from evalforge.cli.span_files import NoSpan, SourceName, spans_in
from evalforge.config import Settings
from evalforge.errors import RequestError, SkippableError

if TYPE_CHECKING:
    from evalforge.core.privacy.explaining import Decision, Explanation
    from evalforge.core.span import Span
    from evalforge.ingest import Judge

DEFAULT_LIMIT = 10
WARNING = (
    "What follows shows spans as they came, personal data included, to you alone: nothing of it is stored, sent or logged. "
    "--after-only leaves it out."
)


@click.group(name="privacy", short_help="Show what sanitizing does to a span, field by field.")
def command() -> None:
    """Look at what sanitizing does."""


@command.command(short_help="Show a span before and after, with the rule that decided.")
@click.argument("file")
@click.option(
    "--source",
    type=click.Choice(["auto", "llm_obs", "apm"]),
    default="auto",
    show_default=True,
    help="Which of Datadog's searches the spans come from.",
)
@click.option("--span", "span_id", metavar="ID", help="Only the span with this id.")
@click.option(
    "--limit",
    metavar="NUMBER",
    type=click.IntRange(1),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="At most so many spans.",
)
@click.option("--after-only", is_flag=True, help="Leave out what stood there before: only what would be stored.")
@click.option("--full", is_flag=True, help="Show long texts whole.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a span, for other programs.")
def explain(file: str, source: str, span_id: str | None, limit: int, after_only: bool, full: bool, as_json: bool) -> None:
    """Show what becomes of each field of the spans in FILE, and which rule decided; - is standard input.

    FILE holds a span as Datadog's search gives it, a page of a search answer, or NDJSON of either. The settings are those
    of the environment: PII_SALT, PII_TEXT_ALLOWLIST, PII_TEXT_OPEN, PII_EXPLANATIONS and the thresholds. Nothing is stored.
    """
    settings = Settings.from_environment()
    judge = run_async(_judge(settings))
    spans, odd = _read(file, cast("SourceName", source), span_id, limit)
    if not after_only and (is_terminal() or not as_json):
        click.echo(f"evalforge: {WARNING}", err=True)
    explanations = _explained(spans, judge, odd)
    if as_json:
        for explanation in explanations:
            print_json(_document(explanation, after_only=after_only), sort_keys=False)
    else:
        _print(explanations, after_only=after_only, full=full)
    for one in odd:
        click.echo(f"evalforge: item {one.number} is no span that could be stored: {one.reason}", err=True)


async def _judge(settings: Settings) -> Judge:
    from evalforge.bootstrap import judge_of
    from evalforge.credentials import resolve_key_ring

    return judge_of(settings, await resolve_key_ring(settings))


def _read(file: str, source: SourceName, span_id: str | None, limit: int) -> tuple[list[Span], list[NoSpan]]:
    odd: list[NoSpan] = []

    def wanted() -> Iterable[Span]:
        for found in spans_in(file, source):
            if isinstance(found, NoSpan):
                odd.append(found)
            elif span_id is None or found.span_id == span_id.strip():
                yield found

    spans = list(islice(wanted(), limit))
    if not spans:
        if span_id is not None:
            raise RequestError("--span: no span of the file has this id", field="--span")
        reasons = ", ".join(sorted({one.reason for one in odd}))
        raise RequestError(f"FILE: {counted(len(odd), 'item')}, none of them a span ({reasons})", field="FILE")
    return spans, odd


def _explained(spans: Sequence[Span], judge: Judge, odd: list[NoSpan]) -> list[Explanation]:
    """Each span explained as a run would sanitize it, together with the spans of its trace."""
    from evalforge.core.privacy.explaining import explain as explain_span
    from evalforge.core.privacy.neighbours import ALONE, Neighbours
    from evalforge.core.signals import find_signals

    signals = [find_signals(span, judge.thresholds) for span in spans]
    failing = [span for span, found in zip(spans, signals, strict=True) if found]
    traces = Neighbours().contexts(spans, failing, judge.ring)
    explanations = []
    for number, (span, found) in enumerate(zip(spans, signals, strict=True), 1):
        try:
            explanations.append(explain_span(judge.sanitizer, span, found, traces.get(span.trace_id, ALONE)))
        except SkippableError as error:
            odd.append(NoSpan(number, error.code))
    return explanations


def _document(explanation: Explanation, *, after_only: bool) -> dict[str, Any]:
    sanitized = explanation.sanitized
    return {
        "trace_id": sanitized.trace_id,
        "span_id": sanitized.span_id,
        "signals": [
            {"type": one.type.value, "severity": one.severity.label, "place": one.place, "observed": one.observed}
            for one in explanation.signals
        ],
        "user_hash": sanitized.user_hash,
        "redactions": dict(sanitized.redactions),
        "totals": explanation.totals,
        "fields": [_field(decision, after_only=after_only) for decision in explanation.decisions],
    }


def _field(decision: Decision, *, after_only: bool) -> dict[str, Any]:
    from evalforge.core.privacy.explaining import NOTHING

    document: dict[str, Any] = {
        "path": decision.stored_path if after_only else decision.path,
        "outcome": decision.outcome.value,
        "rule": decision.stored_rule if after_only else decision.rule,
    }
    if not after_only:
        document["before"] = decision.before
    if decision.after is not NOTHING:
        document["after"] = decision.after
    return document


def _print(explanations: Sequence[Explanation], *, after_only: bool, full: bool) -> None:
    from evalforge.cli.decisions import print_explanation, totals_line

    out = console()
    totals: Counter[str] = Counter()
    for number, explanation in enumerate(explanations):
        if number:
            out.print()
        print_explanation(out, explanation, after_only=after_only, full=full)
        totals.update(explanation.totals)
    if len(explanations) > 1:
        out.print()
        out.print(text(f"{len(explanations)} spans", "bold"), totals_line(totals))
