"""The spans that the bench server gives: each made from its offset and a seed, whenever it is asked for. Nothing is kept.

The text of a span is one of a few hundred templates, which are the sandbox's samples, padded; ids, times, session, score and
reasoning are put in at its head. So a page of 2,000 spans costs some milliseconds, and a million spans need no memory.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.sandbox.samples import generate
from evalforge.sources.datadog.spans import parse_llm_obs

MS_NS = 1_000_000
SPREAD_MS = 23 * 3_600_000
"""The spans lie in 23 hours, so that a lookback of 24 still finds all of them when the bench has run for a while."""

GROUP = 5
"""So many spans in a row are of one trace."""

EVALUATORS = ("policy_compliance", "rubric", "csat")
"""The evaluators of the samples beyond the signal table's and Datadog's own; settings name them."""

_KNOWN = frozenset(
    {
        *EVALUATORS,
        *("hallucination", "quality_score", "topic_relevancy", "prompt_injection", "toxicity", "input_toxicity"),
        *("output_toxicity", "failure_to_answer", "tool_selection", "language_mismatch", "goal_completeness"),
    }
)
_SAMPLE_TRACES = 800
_HEALTHY, _FAILING = 300, 200
_PAGE_BYTES = 50_000_000
"""Source: the Export API caps its answers there."""

_PLACED = frozenset({"span_id", "trace_id", "parent_id", "start_ns", "tags", "evaluation"})
_ODD = 0x9E3779B97F4A7C15
_WORDS = (
    "the order was shipped late and our agent told a customer that refunds take some days after approval by support "
    "please check the policy excerpt for returns before you answer since nobody mentioned a second parcel or carrier"
).split()
_REASONS = (
    b"Order A-%d of session %d: the answer promises a refund of $%d that no excerpt mentions.",
    b"The user (customer%d@mail.example.net, ticket %d) asked about %d parcels; the answer talks about one.",
    b"Claim A-%d is not supported: excerpt %d says that returns take %d days, the answer says the opposite.",
    b"Agent %d wrote another address into order %d than the user gave; %d tool results contradict the answer.",
)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is in the window: how many spans, one failing in `every` of them, how big one is, and when the last began."""

    spans: int
    every: int
    span_bytes: int
    seed: int
    end_ms: int

    @property
    def failing(self) -> int:
        """How many of them fail."""
        return self.spans // self.every

    @property
    def begin_ns(self) -> int:
        """When the first span began."""
        return (self.end_ms - SPREAD_MS) * MS_NS

    @property
    def step_ns(self) -> int:
        """The time between two spans."""
        return SPREAD_MS * MS_NS // self.spans

    def failing_offset(self, block: int) -> int:
        """Which span of a block fails: the place within it is drawn by seed."""
        return block * self.every + _drawn(block, self.seed) % self.every

    def offsets(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """The first offset that began at `from_ms` or later, and the first at `to_ms` or later."""
        first, last = (-((self.begin_ns - ms * MS_NS) // self.step_ns) for ms in (from_ms, to_ms))
        return min(max(first, 0), self.spans), min(max(last, 0), self.spans)


@dataclass(frozen=True, slots=True)
class Page:
    """The JSON of some spans, in pieces, how many spans they are, and the offset to go on from, None at the end."""

    parts: list[bytes]
    count: int
    after: int | None


class Spans:
    """The spans of a workload. `changed` is the share of the failing ones that have another score than before."""

    def __init__(self, load: Workload) -> None:
        self.load = load
        self.changed = 0.0
        self._healthy, self._failing = _templates(load)
        self._first_id = 10**18 * (1 + load.seed % 8) + _drawn(load.seed, 1) % 10**17

    def page(self, first: int, last: int, limit: int, *, only_failing: bool) -> Page:
        """The spans at the offsets from `first` on and before `last`, at most `limit` and 50 MB of them."""
        limit = max(1, min(limit, _PAGE_BYTES // self.load.span_bytes))
        page = self._failing_page(first, last, limit) if only_failing else self._whole_page(first, last, limit)
        if page.parts:
            page.parts[0] = page.parts[0][1:]  # the first comma
        return page

    def span(self, offset: int) -> bytes:
        """One span, the same at each call."""
        return b"".join(self.page(offset, offset + 1, 1, only_failing=False).parts)

    def _failing_page(self, first: int, last: int, limit: int) -> Page:
        parts: list[bytes] = []
        count = 0
        for offset in self._failing_offsets(first, last):
            if count == limit:
                return Page(parts, count, offset)
            parts.append(b",")
            self._put_failing(parts, offset)
            count += 1
        return Page(parts, count, None)

    def _failing_offsets(self, first: int, last: int) -> Iterator[int]:
        load = self.load
        for block in range(first // load.every, min(-(-last // load.every), load.failing)):
            if first <= (offset := load.failing_offset(block)) < last:
                yield offset

    def _whole_page(self, first: int, last: int, limit: int) -> Page:
        end = min(last, first + limit)
        load, begin_ns, step_ns, first_id = self.load, self.load.begin_ns, self.load.step_ns, self._first_id
        healthy, healthy_count = self._healthy, len(self._healthy)
        parts: list[bytes] = []
        block, failing, group, trace, root = -1, -1, -1, b"", b""
        for offset in range(first, end):
            if offset // load.every != block:
                block = offset // load.every
                failing = load.failing_offset(block) if block < load.failing else -1
            if offset == failing:
                parts.append(b",")
                self._put_failing(parts, offset)
                continue
            if offset // GROUP != group:
                group = offset // GROUP
                trace = self._trace_id(group)
                root = b"%d" % (first_id + group * GROUP)
            span_id = b"%d" % (first_id + offset)
            parent = root if offset % GROUP else b"undefined"
            start = b"%d" % (begin_ns + offset * step_ns)
            template = healthy[(offset * 2654435761 >> 9) % healthy_count]
            parts += (
                b',{"id":"',
                span_id,
                b'","type":"span","attributes":{"span_id":"',
                span_id,
                b'","trace_id":"',
                trace,
                b'","parent_id":"',
                parent,
                b'","start_ns":',
                start,
                b',"tags":["session_id:s-',
                root,
                template,
            )
        return Page(parts, max(0, end - first), end if end < last else None)

    def _put_failing(self, parts: list[bytes], offset: int) -> None:
        load = self.load
        block = offset // load.every
        drawn = _drawn(offset, load.seed)
        template = self._failing[drawn % len(self._failing)]
        group = offset // GROUP
        score = 10 + drawn // 1000 % 40
        if self.changed and drawn // 7 % 10_000 < self.changed * 10_000:
            score -= 9
        reason = _REASONS[drawn // 11 % len(_REASONS)] % (drawn % 99_991, block, drawn % 887)
        parts.append(
            b'{"id":"%d","type":"span","attributes":{"span_id":"%d","trace_id":"%b","parent_id":"%b","start_ns":%d,'
            b'"evaluation":{"quality_score":{"eval_metric_type":"score","value":0.%02d,"assessment":"fail","status":"OK",'
            b'"reasoning":"%b"}%b,"tags":["session_id:s-%d'
            % (
                self._first_id + offset,
                self._first_id + offset,
                self._trace_id(self._failing_group(block, group)),
                b"%d" % (self._first_id + group * GROUP) if offset % GROUP else b"undefined",
                load.begin_ns + offset * load.step_ns,
                score,
                reason,
                template[0],
                self._first_id + group * GROUP,
            )
        )
        parts.append(template[1])

    def _failing_group(self, block: int, group: int) -> int:
        """The trace of a block's failing span: its neighbours', or in some blocks that of the failing one before it."""
        if block % 4 == 3:
            return self.load.failing_offset(block - 1) // GROUP
        return group

    def _trace_id(self, group: int) -> bytes:
        start_s = (self.load.begin_ns + group * GROUP * self.load.step_ns) // 10**9
        return b"%08x00000000%016x" % (start_s, _drawn(group, self.load.seed + 1))


def failing_items(load: Workload) -> list[Any]:
    """Every failing span of a workload, decoded."""
    page = Spans(load).page(0, load.spans, load.failing, only_failing=True)
    items: list[Any] = orjson.loads(b"".join([b"[", *page.parts, b"]"]))
    return items


def _drawn(number: int, seed: int) -> int:
    """63 bits that look random, the same for the same two numbers."""
    mixed = (number + 1) * _ODD + seed * 0xD1B54A32D192ED03 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 31) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ mixed >> 29) >> 1


def _templates(load: Workload) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """What follows the head of a healthy span; what follows the score and the head of a failing one."""
    rng = random.Random(load.seed)
    end = datetime.fromtimestamp(load.end_ms / 1000, UTC)
    # Large spans: fewer templates, since these are all that the server holds.
    share = min(1.0, 20_000 / load.span_bytes)
    healthy: list[bytes] = []
    failing: list[tuple[bytes, bytes]] = []
    for item in generate(load.seed, end, _SAMPLE_TRACES).llm_obs:
        span = parse_llm_obs(item)
        if not isinstance(span, Span) or span.kind == "experiment" or any(e.name not in _KNOWN for e in span.evaluations):
            continue
        attributes = item["attributes"]
        if find_signals(span, Thresholds()):
            if len(failing) < _FAILING * share:
                failing.append((_evaluations(attributes), _rest(attributes, load.span_bytes - 700, rng, ())))
        elif len(healthy) < _HEALTHY * share:
            healthy.append(_rest(attributes, load.span_bytes - 300, rng, ("evaluation",)))
    return healthy, failing


def _evaluations(attributes: Mapping[str, Any]) -> bytes:
    others = {name: one for name, one in attributes.get("evaluation", {}).items() if name != "quality_score"}
    return b"," + orjson.dumps(others)[1:] if others else b"}"


def _rest(attributes: Mapping[str, Any], size: int, rng: random.Random, also: tuple[str, ...]) -> bytes:
    """The tags after the first and all that is not put in, with some more output, so that it has about `size` bytes."""
    tags = [tag for tag in attributes["tags"] if not tag.startswith("session_id:")]
    kept = {name: value for name, value in attributes.items() if name not in _PLACED or name in also}
    output = dict(kept.get("output") or {})
    lacking = size - len(orjson.dumps(kept)) - len(orjson.dumps(tags))
    text = " ".join(rng.choices(_WORDS, k=max(0, lacking // 5)))[: max(0, lacking)]
    kept["output"] = output | {"value": f"{output.get('value', '')} {text}"}
    return b'",' + orjson.dumps(tags)[1:] + b"," + orjson.dumps(kept)[1:] + b"}"
