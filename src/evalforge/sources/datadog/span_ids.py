"""Spans by their ids: LLM Observability's span and APM's of one piece of work have the same id, in traces of two ids.

Source: https://docs.datadoghq.com/tracing/trace_explorer/query_syntax/ (`span_id` is a reserved word and needs no `@`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence

from evalforge.core.window import MS_PER_HOUR, Window

BATCH_SPANS = 150
"""How many spans one query asks for: at most some 3,600 characters of ids. Datadog does not say how long a query may be."""

LEEWAY_MS = MS_PER_HOUR
_NS_PER_MS = 1_000_000
_ASKABLE = re.compile("[1-9][0-9]{0,19}")


def is_askable(span_id: str) -> bool:
    """Whether Datadog can know a span of this id: its ids are 64-bit numbers, written in decimal."""
    return _ASKABLE.fullmatch(span_id) is not None and int(span_id) < 1 << 64


def batches(
    starts_ns: Mapping[str, int], rng: random.Random, *, before_ms: int = LEEWAY_MS
) -> Iterator[tuple[list[str], Window]]:
    """At most `BATCH_SPANS` askable ids at a time that began close to each other, with the window to look in.

    A span may have begun so much as `before_ms` before its start that is given, and an hour after.

    In any order: a quota that ends at the same place in each run must not leave the same spans out each time.
    """
    askable = sorted((start_ns, span_id) for span_id, start_ns in starts_ns.items() if is_askable(span_id))
    parts = [askable[at : at + BATCH_SPANS] for at in range(0, len(askable), BATCH_SPANS)]
    for part in rng.sample(parts, len(parts)):
        (first_ns, _), (last_ns, _) = part[0], part[-1]
        window = Window(max(0, first_ns // _NS_PER_MS - before_ms), last_ns // _NS_PER_MS + LEEWAY_MS)
        yield [span_id for _, span_id in part], window


def span_ids_query(source: str, span_ids: Sequence[str]) -> str:
    """The query for the spans with these ids, at least one."""
    field = "@span_id" if source == "llm_obs" else "span_id"
    return f"{field}:({' OR '.join(span_ids)})"
