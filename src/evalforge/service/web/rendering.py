"""HTML pages from templates. Everything that they show is untrusted: escaped, and what hides or turns it is spelled out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from evalforge.core.callers import Role
from evalforge.core.inert import inert_text
from evalforge.errors import EvalForgeError
from evalforge.exports import json_bytes
from evalforge.service.auth import Callers, caller_of
from evalforge.service.web import charts

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # A form of a page without a referrer has no origin either, and the service takes none of those.
    "Referrer-Policy": "same-origin",
}

LONG = 1_500
"""Texts of more characters are folded, with all of them inside."""

_REMOVED = re.compile(r"\[redacted(?::[a-z]+(?: [0-9]{1,9})?)?\]|\[[A-Z]{2,8}_[1-9][0-9]{0,4}\]")


def shown(text: Any) -> Markup:
    """A text as it can be looked at: escaped, line breaks kept, and what was removed from it marked."""
    plain = "\n".join(map(inert_text, str(text).replace("\r\n", "\n").split("\n")))
    parts, at = [], 0
    for found in _REMOVED.finditer(plain):
        parts.append(escape(plain[at : found.start()]))
        parts.append(Markup('<span class="removed" title="removed by the sanitizer">{}</span>').format(found[0]))
        at = found.end()
    return Markup("").join([*parts, escape(plain[at:])])


def line(text: Any, limit: int = 200) -> str:
    """A text on one line, cut with an ellipsis where it is longer; the template escapes it."""
    plain = inert_text(str(text)[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def pretty(value: Any) -> Markup:
    """A value as indented JSON; a text that is JSON itself is read first."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return shown(value)
    return shown(json_bytes(value, indent=True).decode())


def moment(instant: datetime) -> Markup:
    """A time to the minute, for people and for programs."""
    utc = instant.astimezone(UTC)
    told = utc.strftime("%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M:%S"), told
    )


def day(instant: datetime) -> Markup:
    """A time to the day."""
    return Markup('<time datetime="{0}">{0}</time>').format(instant.astimezone(UTC).strftime("%Y-%m-%d"))


def words(name: str) -> str:
    """A name of ours as words: `prompt_injection` is `prompt injection`."""
    return name.replace("_", " ")


def duration(ns: float) -> str:
    """Nanoseconds as people say it."""
    return f"{ns / 1e9:,.2f} s" if ns >= 1e9 else f"{ns / 1e6:,.0f} ms"


def number(value: Any) -> str:
    """A number as people read it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else line(value, 80)


def counts(named: Mapping[str, int]) -> str:
    """Counts by name in one line."""
    return " · ".join(f"{line(name, 60)} {count:,}" for name, count in named.items())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("evalforge.service.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for tool in (shown, line, pretty, moment, day, words, duration, number, counts):
        environment.filters[tool.__name__] = tool
    environment.globals.update(charts=charts, LONG=LONG)
    return environment


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page as an answer."""
    caller = caller_of(request)
    callers: Callers = request.app.state.callers
    common = {
        "path": request.url.path,
        "who": caller.name if caller is not None and callers.are_declared else None,
        "may_review": caller is not None and Role.REVIEW in caller.roles,
    }
    body = _environment().get_template(template).render(common | values)
    return Response(body, status, PAGE_HEADERS, "text/html")


def problem_page(request: Request, error: EvalForgeError) -> Response:
    """A page that says what is wrong and what to do."""
    return page(
        request, "problem.html", error.http_status, title="This did not work", message=error.message, code=error.code
    )


@cache
def style() -> bytes:
    """The one style sheet."""
    return files("evalforge.service.web").joinpath("static", "style.css").read_bytes()


Rows = Sequence[tuple[str, Any]]
