"""Deep links into Datadog. They die when Datadog forgets the span, 15 days after it began.

Source: https://docs.datadoghq.com/getting_started/site/ for the hosts.
"""

from __future__ import annotations

from urllib.parse import quote

from evalforge.core.span import TraceIdKind

LINK_LIFETIME_DAYS = 15
"""How long Datadog keeps LLM-Observability spans. Source: https://docs.datadoghq.com/data_security/data_retention_periods/"""

_SITES_WITH_APP_PREFIX = frozenset({"datadoghq.com", "datadoghq.eu", "ddog-gov.com"})


def ui_host(site: str) -> str:
    """The host of Datadog's web pages for `site`: `app.datadoghq.com`, but `us5.datadoghq.com` as it is."""
    return f"app.{site}" if site in _SITES_WITH_APP_PREFIX else site


def trace_url(site: str, trace_id: str, kind: TraceIdKind) -> str:
    """The page of one trace; `trace_id` is hexadecimal or decimal and is quoted all the same."""
    if kind == "apm":
        return f"https://{ui_host(site)}/apm/trace/{quote(trace_id, safe='')}"
    return f"https://{ui_host(site)}/llm/traces?query=trace_id:{quote(trace_id, safe='')}"


def span_url(site: str, trace_id: str, kind: TraceIdKind, span_id: str) -> str:
    """The page of one span of that trace."""
    if kind == "apm":
        return f"{trace_url(site, trace_id, kind)}?spanID={quote(span_id, safe='')}"
    return f"https://{ui_host(site)}/llm/traces?query=@span_id%3A{quote(span_id, safe='')}"
