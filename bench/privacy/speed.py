"""How fast: MB/s beside `orjson.loads` on the same bytes, p99 per span, and how time grows with the length of a text."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from bench.privacy.case import Case
from bench.privacy.corpus.drafts import Draft, texts
from bench.privacy.scorer import judges_for
from evalforge.core.privacy import Sanitizer
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.sources.datadog.spans import PARSERS

ROUNDS = 5
MODES = {
    "closed: explanations too": {"PII_EXPLANATIONS": "closed"},
    "default: explanations scrubbed": {},
    "input and output allow-listed": {"PII_TEXT_ALLOWLIST": "input,output,prompt,response"},
}


@dataclass(frozen=True, slots=True)
class Speed:
    """One measurement: bytes of JSON per second, as a multiple of decoding them, and the 99th percentile in milliseconds."""

    mb_s: float
    ratio: float
    p99_ms: float


def sanitizing(cases: Sequence[Case]) -> dict[str, Speed]:
    """Sanitizing the spans of these cases under each mode; medians of five rounds, taken in turn with the decoding."""
    lines = [orjson.dumps(case.item) for case in cases]
    parsed = [_parsed(case, line) for case, line in zip(cases, lines, strict=True)]
    sanitizers = {mode: judge.sanitizer for mode, judge in judges_for(MODES).items()}
    found = {}
    for mode, sanitizer in sanitizers.items():
        found[mode] = timed(lines, parsed, partial(_sanitized, sanitizer))
    return found


def timed(lines: Sequence[bytes], inputs: Sequence[Any], run: Callable[[Any], object]) -> Speed:
    """`run` over every input, which were decoded from `lines`; a span's time is the best of its rounds."""
    decoding, running = [], []
    best = [math.inf] * len(inputs)
    for _ in range(ROUNDS):
        gc.collect()
        began = time.perf_counter()
        for line in lines:
            orjson.loads(line)
        decoding.append(time.perf_counter() - began)
        total = 0.0
        for at, one in enumerate(inputs):
            began = time.perf_counter()
            run(one)
            spent = time.perf_counter() - began
            total += spent
            best[at] = min(best[at], spent)
        running.append(total)
    size = sum(map(len, lines)) / 1e6
    decode_s, run_s = statistics.median(decoding), statistics.median(running)
    return Speed(size / run_s, decode_s / run_s, 1000 * statistics.quantiles(best, n=100)[98])


def once(lines: Sequence[bytes], inputs: Sequence[Any], run: Callable[[Any], object]) -> Speed:
    """The same in a single round, for tools that take minutes."""
    began = time.perf_counter()
    for line in lines:
        orjson.loads(line)
    decode_s = time.perf_counter() - began
    spent = []
    for one in inputs:
        began = time.perf_counter()
        run(one)
        spent.append(time.perf_counter() - began)
    size = sum(map(len, lines)) / 1e6
    return Speed(size / sum(spent), decode_s / sum(spent), 1000 * statistics.quantiles(spent, n=100)[98])


def _parsed(case: Case, line: bytes) -> tuple[Span, Any]:
    span = PARSERS[case.source](orjson.loads(line))
    assert isinstance(span, Span)
    return span, find_signals(span, Thresholds())


def _sanitized(sanitizer: Sanitizer, judged: tuple[Span, Any]) -> object:
    return sanitizer.sanitize(*judged)


# -- linearity ------------------------------------------------------------------------------------------------------------

SIZES = (1_000, 4_000, 16_000, 64_000, 250_000)
"""Characters; above 256 KiB a text is closed whole, which costs nothing."""
SHAPES: dict[str, Callable[[int], str]] = {
    "evaluators' prose": lambda size: _prose(size),
    "names and mail addresses": lambda size: _repeated(
        "Ngozi Okonkwo <ngozi.okonkwo@example.com> called +234 803 123 4567. ", size
    ),
    "digits and dots": lambda size: _repeated("1.", size),
    "a@a.a.": lambda size: _repeated("a@a.a.", size),
    "eyJ": lambda size: _repeated("eyJ", size),
    "base64 letters": lambda size: _repeated("QWxhZGRpbjpvcGVu", size),
    "percent signs": lambda size: _repeated("%25", size),
    "brackets": lambda size: _repeated('{"a":[', size),
}


def growth() -> dict[str, tuple[float, float]]:
    """For each shape of text: the fitted exponent of time over length, and MB/s at the greatest length.

    The text is an evaluator's reasoning; 1 is linear.
    """
    sanitizer = judges_for({"default": {}})["default"].sanitizer
    found = {}
    for shape, make in SHAPES.items():
        points = []
        for size in SIZES:
            draft = Draft(random.Random(1), "speed")
            draft.reasoning(make(size))
            case = draft.case()
            judged = _parsed(case, orjson.dumps(case.item))
            seconds = min(_seconds(lambda: _sanitized(sanitizer, judged)) for _ in range(3))  # noqa: B023 - called at once
            points.append((size, seconds))
        tail = points[1:]  # the shortest is all fixed cost
        found[shape] = (slope(tail), SIZES[-1] / 1e6 / points[-1][1])
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent of a power law through these points, by least squares."""
    fitted = statistics.linear_regression([math.log(x) for x, _ in points], [math.log(y) for _, y in points])
    return fitted.slope


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _repeated(text: str, size: int) -> str:
    return (text * (size // len(text) + 1))[:size]


def _prose(size: int) -> str:
    lines = texts("reasoning")
    found: list[str] = []
    at = 0
    while at < size:
        line = lines[len(found) * 7 % len(lines)]
        found.append(line)
        at += len(line) + 1
    return " ".join(found)[:size]
