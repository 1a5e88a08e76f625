"""Sanitizing alone: failing spans of 4 kB that were judged before, beside `orjson.loads` of the same bytes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import orjson

from bench.cases.case import Case
from bench.spans import Workload, failing_items
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.garbage import collect_seldom
from evalforge.sources.datadog.spans import parse_llm_obs

_SPANS = 1_000
_ROUNDS = 5


def prepared(case: Case) -> Callable[[], dict[str, Any]]:
    """MB/s of both, in turns, each span new in each round: medians."""
    load = Workload(_SPANS * 20 * _ROUNDS, 20, 4_000, int(time.time()), int(time.time() * 1000))
    lines = [orjson.dumps(item) for item in failing_items(load)]
    collect_seldom()  # as the command line and the service begin: else the collector is most of what decoding takes
    sanitizer = Sanitizer(KeyRing((b"bench-0nly-kZ8vQ2mX7pL4wR9tB6nJ3hG5yT",)))

    def measure() -> dict[str, Any]:
        decoding, judging, sanitizing = [], [], []
        for number in range(_ROUNDS):
            some = lines[number * _SPANS : (number + 1) * _SPANS]
            size = sum(map(len, some)) / 1e6
            began = time.process_time()
            items = [orjson.loads(line) for line in some]
            decoded = time.process_time()
            spans = [span for span in map(parse_llm_obs, items) if isinstance(span, Span)]
            found = [find_signals(span, Thresholds()) for span in spans]
            judged = time.process_time()
            for span, signals in zip(spans, found, strict=True):
                sanitizer.sanitize(span, signals)
            sanitized = time.process_time()
            decoding.append(size / (decoded - began))
            judging.append(size / (judged - decoded))
            sanitizing.append(size / (sanitized - judged))
        return {
            "decode_mb_s": statistics.median(decoding),
            "judge_mb_s": statistics.median(judging),
            "sanitize_mb_s": statistics.median(sanitizing),
        }

    return measure
