"""Makes a capture fit for any store: what is too big or too deep is cut and marked, the payload's largest parts first.

Every store fits before it merges, so that a fingerprint is always that of what can be stored, and reading the same window
again finds nothing to write. Cutting is therefore a function of the payload alone, and cutting twice is cutting once. The
bounds are Firestore's with room to spare; SQLite keeps them too, so that a capture is the same in either.

Source: https://firebase.google.com/docs/firestore/quotas (1 MiB per document, 40,000 index entries, 20 levels).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from evalforge.core.capture import FailureCapture, Occurrence
from evalforge.core.error_details import ErrorDetail
from evalforge.core.signals import Signal
from evalforge.stores.lossless import text_to_bytes

PAYLOAD_WEIGHT = 600_000
"""How heavy a payload may be. With `NODE_WEIGHT`, it is below 600,000 bytes and below 30,000 index entries."""
NODE_WEIGHT = 80
"""What a value weighs beside its own bytes: framing, and up to four index entries (two in each direction, escaped)."""
DEEPEST_LEVEL = 100
"""Levels of nesting that are kept. Beyond Firestore's 20 they are stored as text."""
TEXT_LEVEL = 10
"""From this level on, a value may be stored as JSON text, which doubles quotes and spells control characters out."""
LONGEST_HEAD_BYTES = 2_000
"""How much of a cut string is kept."""
LONGEST_INTEGER_BITS = 8_192
OTHER_TEXT_BYTES = 350_000
"""How many bytes of text the rest of a document may hold before each of its strings is cut to `SHORT_TEXT_BYTES`."""
SHORT_TEXT_BYTES = 160

CUT = "cut"
"""The kind under which `redactions` counts what was cut."""

_MARK_BYTES = 40
_SMALLEST_SHARE = 2 * (NODE_WEIGHT + 2 * _MARK_BYTES)

_Part = Signal | Occurrence | ErrorDetail
_PartT = TypeVar("_PartT", Signal, Occurrence, ErrorDetail)


def fit(capture: FailureCapture) -> FailureCapture:
    """The same capture where it fits; else one whose payload (and overlong names) is cut, marked and counted."""
    payload, cut_count = cut(capture.payload, PAYLOAD_WEIGHT)
    if cut_count:
        payload = payload if isinstance(payload, Mapping) else {CUT: payload}
        counts = {**capture.redactions, CUT: capture.redactions.get(CUT, 0) + cut_count}
        capture = dataclasses.replace(capture, payload=payload, redactions=counts)
    if _other_text_bytes(capture) > OTHER_TEXT_BYTES:
        capture = dataclasses.replace(
            capture,
            signals=tuple(_shortened(signal) for signal in capture.signals),
            occurrences=tuple(_shortened(occurrence) for occurrence in capture.occurrences),
            error_details=tuple(_shortened(detail) for detail in capture.error_details),
        )
    return capture


def cut(value: Any, allowance: int) -> tuple[Any, int]:
    """`value` at no more than `allowance` weight, and how many marks stand in it for what was cut.

    Each mark is a string such as `[cut: object of 120 entries]`. What no store holds (a type of Python's own, an integer of
    thousands of digits, a key that is no string) is cut too.
    """
    marks: list[str] = []
    fitted = _cut(value, allowance, 1, marks)
    return fitted, len(marks)


def _cut(value: Any, allowance: float, level: int, marks: list[str]) -> Any:
    if weight(value, level) <= allowance:
        return value
    if level <= DEEPEST_LEVEL:
        if isinstance(value, str):
            return _cut_text(value, allowance, level, marks)
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            keys = [_text_weight(key, level) for key in value]
            share = _share(
                [key + weight(inner, level + 1) for key, inner in zip(keys, value.values(), strict=True)], allowance
            )
            if share >= _SMALLEST_SHARE and max(keys) <= share / 2:
                return {
                    name: _cut(inner, share - key, level + 1, marks)
                    for key, (name, inner) in zip(keys, value.items(), strict=True)
                }
        elif isinstance(value, (list, tuple)):
            share = _share([weight(inner, level + 1) for inner in value], allowance)
            if share >= _SMALLEST_SHARE:
                return [_cut(inner, share, level + 1, marks) for inner in value]
    return _mark(value, marks)


def _share(weights: list[float], allowance: float) -> float:
    """The most that each may weigh so that all fit: only the heaviest have to give."""
    rest = allowance - NODE_WEIGHT
    for position, wanted in enumerate(sorted(weights)):
        fair = rest / (len(weights) - position)
        if wanted > fair:
            return fair
        rest -= wanted
    return math.inf


def _cut_text(text: str, allowance: float, level: int, marks: list[str]) -> str:
    room = int((allowance - NODE_WEIGHT) / (6 if level >= TEXT_LEVEL else 1)) - _MARK_BYTES
    marks.append("string")
    return _head(text, max(0, min(LONGEST_HEAD_BYTES, room)))


def _head(text: str, byte_count: int) -> str:
    size = len(text_to_bytes(text))
    # A lone surrogate at the seam or anywhere in the head is dropped with the rest of what was cut.
    head = text_to_bytes(text[:byte_count])[:byte_count].decode("utf-8", "ignore")
    return f"{head}[cut: string of {size} bytes]"


def _mark(value: Any, marks: list[str]) -> str:
    match value:
        case Mapping():
            what = f"object of {len(value)} entries"
        case list() | tuple():
            what = f"array of {len(value)} elements"
        case str() | bytes():
            what = f"{'string' if isinstance(value, str) else 'bytes'} of {len(value)}"
        case int():
            what = f"integer of {value.bit_length()} bits"
        case _:
            what = "value that no store holds"
    marks.append(what)
    return f"[cut: {what}]"


def weight(value: Any, level: int = 1) -> float:
    """How heavy `value` is at that level of nesting; infinite where no store holds it."""
    # The commonest first, each by its very type before its kind: every payload is weighed.
    kind = type(value)
    if kind is str or isinstance(value, str):
        return NODE_WEIGHT + _text_weight(value, level)
    if value is None or kind is bool or isinstance(value, float):
        return NODE_WEIGHT
    if isinstance(value, int):
        bits = value.bit_length()
        return NODE_WEIGHT + bits // 3 if bits <= LONGEST_INTEGER_BITS else math.inf
    if isinstance(value, bytes):
        return NODE_WEIGHT + 2 * len(value)
    if isinstance(value, datetime):
        return NODE_WEIGHT if value.tzinfo is not None else math.inf
    if level > DEEPEST_LEVEL:
        return math.inf
    total: float = NODE_WEIGHT
    if kind is dict or isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                return math.inf
            total += _text_weight(key, level) + weight(inner, level + 1)
        return total
    if isinstance(value, (list, tuple)):
        for inner in value:
            total += weight(inner, level + 1)
        return total
    return math.inf


def _text_weight(text: str, level: int) -> int:
    if text.isascii() and text.isprintable():
        return len(text) * (2 if level >= TEXT_LEVEL else 1)
    return len(text_to_bytes(text)) * (6 if level >= TEXT_LEVEL else 1)


def _other_text_bytes(capture: FailureCapture) -> int:
    parts: tuple[_Part, ...] = (*capture.signals, *capture.occurrences, *capture.error_details)
    return sum([len(text) if text.isascii() else len(text_to_bytes(text)) for part in parts for _, text in _texts(part)])


def _texts(part: _Part) -> list[tuple[str, str]]:
    return [(name, value) for name in type(part).__slots__ if type(value := getattr(part, name)) is str]


def _shortened(part: _PartT) -> _PartT:
    changes: dict[str, Any] = {
        name: _head(text, SHORT_TEXT_BYTES - _MARK_BYTES)
        for name, text in _texts(part)
        if len(text_to_bytes(text)) > SHORT_TEXT_BYTES
    }
    return dataclasses.replace(part, **changes) if changes else part
