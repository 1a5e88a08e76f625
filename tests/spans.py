"""Spans for tests: every required field has a plain value, any field may be replaced."""

from __future__ import annotations

from typing import Any

from evalforge.core.span import Span

_PLAIN: dict[str, Any] = {
    "source": "llm_obs",
    "trace_id": "6b03dc78000000003d53c950006270ff",
    "trace_id_kind": "llm_obs",
    "span_id": "2622305684663452078",
    "parent_id": None,
    "name": "handle_ticket",
    "kind": "workflow",
    "status": "ok",
    "start_ns": 1795415160838728626,
    "duration_ns": 5951845,
}


def span(**fields: Any) -> Span:
    """A span with these fields; what is not given is plain and healthy."""
    return Span(**(_PLAIN | fields))
