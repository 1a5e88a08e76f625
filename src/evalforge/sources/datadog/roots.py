"""Where a trace names its user when no failing span does: which spans to ask for, by trace id, many traces in one query.

In LLM Observability a trace's user stands on its root. In APM it stands on the entry spans that carry the trace's
`llmobs_trace_id`; for a trace that APM alone knows, on whichever span carries a user id.

Source: https://docs.datadoghq.com/llm_observability/monitoring/querying/ (`@trace_id`, `@parent_id:undefined`) and
https://docs.datadoghq.com/tracing/trace_explorer/query_syntax/ (`trace_id`, `@attribute:*`)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from evalforge.core.span import TraceIdKind

BATCH_TRACES = 50
"""How many traces one query asks for: at most some 4,000 characters of ids. Datadog does not say how long a query may be."""

_ASKABLE = re.compile(r"[0-9a-f]{1,32}|[0-9]{1,39}")
_IS_ROOT = "@parent_id:(undefined OR 0)"
_NAMES_A_USER = " OR ".join(
    f"@{path}:*"
    for path in ("usr.id", "user.id", "enduser.id", "user_id", "usr_id", "userId", "enduser_id", "end_user_id", "user.uuid")
)

Trace = tuple[str, TraceIdKind]
"""A stored trace id and its kind."""


def batches(source: str, traces: Mapping[str, TraceIdKind]) -> Iterator[list[Trace]]:
    """The traces that `source` can be asked for, at most `BATCH_TRACES` at a time.

    Left out are ids that stand for ones that nobody may store (`t_` and a digest), and, where LLM Observability is asked,
    the traces that only APM knows.
    """
    askable = [
        (trace_id, kind)
        for trace_id, kind in traces.items()
        if _ASKABLE.fullmatch(trace_id) and (source == "apm" or kind == "llm_obs")
    ]
    for at in range(0, len(askable), BATCH_TRACES):
        yield askable[at : at + BATCH_TRACES]


def roots_query(source: str, traces: Sequence[Trace]) -> str:
    """The query for the spans of these traces, at least one, that may name their users."""
    if source == "llm_obs":
        return f"@trace_id:({_any_of(trace_id for trace_id, _ in traces)}) {_IS_ROOT}"
    entries = [spelling for trace_id, kind in traces if kind == "llm_obs" for spelling in _propagated(trace_id)]
    own = [trace_id for trace_id, kind in traces if kind == "apm"]
    clauses = []
    if entries:
        clauses.append(f"@llmobs_trace_id:({_any_of(entries)})")
    if own:
        clauses.append(f"(trace_id:({_any_of(own)}) ({_NAMES_A_USER}))")
    return " OR ".join(clauses)


def _propagated(trace_id: str) -> Iterator[str]:
    """The id as it was filed, and as ddtrace propagates it between services: the same 128 bits as a decimal number."""
    yield trace_id
    if len(trace_id) == 32:
        yield str(int(trace_id, 16))


def _any_of(trace_ids: Iterator[str] | Sequence[str]) -> str:
    return " OR ".join(trace_ids)
