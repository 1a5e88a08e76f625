"""A plain page that shows what the sandbox holds."""

from __future__ import annotations

from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from evalforge.sandbox.spans import Source, Span
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.times import iso_ms

LATEST = 50

_COLUMNS: dict[Source, tuple[str, ...]] = {
    "llm_obs": ("ml_app", "span_kind", "name", "status", "trace_id", "span_id"),
    "apm": ("service", "type", "resource_name", "status", "trace_id", "span_id"),
}
_TITLES: dict[Source, str] = {"llm_obs": "LLM Observability", "apm": "APM"}
_FOREVER_NS = 10**19
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:80rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#eee}th,td{border-color:#333}}"
)


async def overview(request: Request) -> HTMLResponse:
    """Show the counts and the latest spans of both sources."""
    sandbox: Sandbox = request.app.state.sandbox
    tables = "".join(_table(sandbox, source) for source in _TITLES)
    html = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>EvalForge sandbox</title>"
        f"<style>{_STYLE}</style><h1>EvalForge sandbox</h1>"
        f"<p>A local Datadog. It only stores and searches spans; everything is in memory.</p>{tables}"
    )
    headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return HTMLResponse(html, headers=headers)


def _table(sandbox: Sandbox, source: Source) -> str:
    latest = sandbox.store.between(source, 0, _FOREVER_NS, newest_first=True)[:LATEST]
    columns = _COLUMNS[source]
    head = "".join(f"<th>{column}</th>" for column in ("start", *columns, "evaluations"))
    rows = "".join(_row(span, columns) for span in latest)
    count = sandbox.store.count(source)
    return f"<h2>{_TITLES[source]}: {count:,} spans</h2><table><tr>{head}</tr>{rows}</table>"


def _row(span: Span, columns: tuple[str, ...]) -> str:
    evaluations = span.attributes.get("evaluation")
    cells: list[Any] = [iso_ms(span.start_ns), *(span.attributes.get(column, "") for column in columns)]
    cells.append(", ".join(evaluations) if isinstance(evaluations, dict) else "")
    return "<tr>" + "".join(f"<td>{escape(str(cell)[:120])}</td>" for cell in cells) + "</tr>"
