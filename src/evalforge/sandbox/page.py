"""A live page that shows what arrived, with its evaluations: made here as HTML, kept fresh by a small script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib.resources import files
from string import Template

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from evalforge.sandbox.replies import Reply, to_response
from evalforge.sandbox.spans import Json, Source, Span
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.times import iso_ms

LATEST = 100
"""How many spans of a source the page shows, the newest first."""

_LONGEST_TEXT = 120
_FOREVER_NS = 10**19

_WEB = files("evalforge.sandbox") / "web"
_PAGE, _STYLE, _SCRIPT = ((_WEB / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))

_COLUMNS: dict[Source, tuple[tuple[str, str], ...]] = {
    # heading, attribute
    "llm_obs": (("application", "ml_app"), ("kind", "span_kind"), ("name", "name"), ("trace", "trace_id")),
    "apm": (("service", "service"), ("type", "type"), ("name", "resource_name"), ("trace", "trace_id")),
}
_EMPTY = """<p>Nothing yet. An application with <code>ddtrace</code> sends to it with</p>
<pre>export DD_TRACE_AGENT_URL={url}
export DD_LLMOBS_ENABLED=1 DD_LLMOBS_ML_APP=my-app</pre>"""


def _allowed(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY = (
    f"default-src 'none'; style-src {_allowed(_STYLE)}; script-src {_allowed(_SCRIPT)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page runs its own script and style and nothing else, and talks to its own origin only."""


def routes() -> list[Route]:
    """Return the page's routes: the page, and the parts of it that change, as JSON."""
    return [Route("/", _overview), Route("/sandbox/page", _parts)]


async def _overview(request: Request) -> HTMLResponse:
    page = Template(_PAGE).substitute(parts(request.app.state.sandbox, _url(request)), style=_STYLE, script=_SCRIPT)
    headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "cache-control": "no-store"}
    return HTMLResponse(page, headers=headers)


async def _parts(request: Request) -> Response:
    return to_response(Reply(200, orjson.dumps(parts(request.app.state.sandbox, _url(request)))))


def _url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def parts(sandbox: Sandbox, url: str) -> dict[str, str]:
    """Return the HTML of the page's living parts by their element's id; everything that was sent is escaped."""
    return {
        "counts": _counts(sandbox),
        "llm_obs": _table(sandbox, "llm_obs") or _EMPTY.format(url=escape(url)),
        "apm": _table(sandbox, "apm") or "<p>Nothing yet.</p>",
        "datasets": _datasets(sandbox) or "<p>Nothing yet.</p>",
        "arrivals": _arrivals(sandbox) or "<p>Nothing yet.</p>",
    }


def _counts(sandbox: Sandbox) -> str:
    counts = {
        "LLM spans": sandbox.store.count("llm_obs"),
        "APM spans": sandbox.store.count("apm"),
        "evaluations without their span yet": sandbox.store.waiting(),
        "searches": len(sandbox.requests),
    }
    if sandbox.shelf.datasets or sandbox.shelf.queues:
        counts["dataset records"] = sum(len(one.records) for one in sandbox.shelf.datasets.values())
        counts["traces to annotate"] = sum(len(one.interactions) for one in sandbox.shelf.queues.values())
    if sandbox.trouble.faults:
        counts["faults in force"] = len(sandbox.trouble.faults)
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{count:,}</dd></div>" for name, count in counts.items()) + "</dl>"


def _table(sandbox: Sandbox, source: Source) -> str:
    latest = sandbox.store.between(source, 0, _FOREVER_NS, newest_first=True)
    if not latest:
        return ""
    columns = _COLUMNS[source]
    headings = [
        "started (UTC)",
        *(heading for heading, _ in columns),
        "status",
        *(["evaluations"] if source == "llm_obs" else []),
    ]
    rows = "".join(_row(source, span) for span in latest[:LATEST])
    more = f'<p class="more">and {len(latest) - LATEST:,} older ones</p>' if len(latest) > LATEST else ""
    return _tabled(headings, rows) + more


def _tabled(headings: Iterable[str], rows: str) -> str:
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(source: Source, span: Span) -> str:
    cells = [f'<td class="time">{_time(span)}</td>']
    for heading, attribute in _COLUMNS[source]:
        style = {"trace": ' class="id"', "name": ' class="name"'}.get(heading, ' class="word"')
        cells.append(f"<td{style}>{_shown(span.attributes.get(attribute))}</td>")
    status = span.attributes.get("status") or "ok"
    cells.append(f"<td>{_chip(status, 'error' if status == 'error' else 'ok')}</td>")
    if source == "llm_obs":
        cells.append(f"<td>{''.join(_chips(span))}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _time(span: Span) -> str:
    # A time beyond what a date can be written for is possible: anything may be loaded.
    return _clock(span.start_ns) if span.start_ns < 253_402_300_800 * 10**9 else "?"


def _clock(ns: int) -> str:
    """Return a time in UTC without its year, as `11-23 14:01:27.602`."""
    return iso_ms(ns)[5:-1].replace("T", " ")


def _chips(span: Span) -> Iterator[str]:
    """Yield what was said of a span: its evaluations, then its feedback."""
    for mark, verdicts in (("", span.attributes.get("evaluation")), ("feedback ", span.unexported.get("feedback"))):
        for name, verdict in verdicts.items() if isinstance(verdicts, dict) else ():
            said: Mapping[str, Json] = verdict if isinstance(verdict, dict) else {}
            assessment = said.get("assessment")
            judged = f" · {assessment}" if assessment else ""
            style = assessment if assessment in ("pass", "fail") else ""
            yield _chip(f"{mark}{name}: {_brief(said.get('value'))}{judged}", style)


def _chip(text: Json, style: str) -> str:
    return f'<span class="chip {style}">{_shown(text)}</span>'


def _brief(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _shown(value: Json) -> str:
    """Return a value as escaped text, cut where it would fill the page; a lone surrogate becomes a question mark."""
    text = "" if value is None else str(value)
    cut = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
    return escape(cut.encode(errors="replace").decode())


def _datasets(sandbox: Sandbox) -> str:
    """Return the datasets and the annotation queues, the newest first."""
    shelf = sandbox.shelf
    kept = [("dataset", one.project_id, one.name, one.created_at, len(one.records)) for one in shelf.datasets.values()]
    kept += [("queue", one.project_id, one.name, one.created_at, len(one.interactions)) for one in shelf.queues.values()]
    rows = "".join(
        f'<tr><td class="time">{_clock(int(at * 1e9))}</td><td>{kind}</td>'
        f'<td class="word">{_shown(shelf.projects[project].name)}</td><td class="name">{_shown(name)}</td>'
        f"<td>{held:,}</td></tr>"
        for kind, project, name, at, held in sorted(kept, key=lambda one: -one[3])[:LATEST]
    )
    return _tabled(("made (UTC)", "what", "project", "name", "holds"), rows) if rows else ""


def _arrivals(sandbox: Sandbox) -> str:
    latest = list(sandbox.arrivals)[: -LATEST - 1 : -1]
    rows = "".join(
        f'<tr><td class="time">{_clock(int(one.at * 1e9))}</td><td class="id">{_shown(one.method)} '
        f"{_shown(one.path)}</td><td>{one.spans:,}</td><td>{one.evaluations:,}</td><td>{one.dropped:,}</td></tr>"
        for one in latest
    )
    return _tabled(("at (UTC)", "request", "spans", "evaluations", "dropped"), rows) if rows else ""
