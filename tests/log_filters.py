"""Enough of Cloud Logging's query language to hold our filters against our log lines.

`AND`, `OR`, `NOT`, parentheses, `=` and `>`, and a list of alternatives after `=`; anything else is an error. A comparison
with a field that is a list holds when it holds for one element; one with a field that is missing does not hold.
Source: https://cloud.google.com/logging/docs/view/logging-query-language
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r'\s*(?:(?P<word>AND|OR|NOT)\b|(?P<sign>[()=>])|(?P<text>"(?:[^"\\]|\\.)*")|(?P<bare>[A-Za-z0-9_.]+))')


@dataclass(frozen=True, slots=True)
class Comparison:
    """`FIELD SIGN one of VALUES`."""

    field: str
    sign: str
    values: tuple[Any, ...]

    def holds(self, entry: Mapping[str, Any]) -> bool:
        """Whether it holds for a log entry."""
        found: Any = entry
        for part in self.field.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return False
            found = found[part]
        elements = found if isinstance(found, list) else [found]
        if self.sign == "=":
            return any(element == value for element in elements for value in self.values)
        return any(element > value for element in elements for value in self.values)


@dataclass(frozen=True, slots=True)
class Filter:
    """A query: what it says of an entry, and the ways in which it can hold, each as comparisons that hold or do not."""

    holds: Callable[[Mapping[str, Any]], bool]
    ways: tuple[tuple[tuple[Comparison, bool], ...], ...]


def parsed(text: str) -> Filter:
    """The filter that `text` is.

    Raises:
        ValueError: it is none, or uses what is not understood here.
    """
    tokens = list(_tokens(text))
    found = _either(tokens)
    if tokens:
        raise ValueError(f"{tokens[0][1]!r} is left over in {text!r}")
    return found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text.rstrip()):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"{text[place:]!r} is not understood")
        yield str(match.lastgroup), match[str(match.lastgroup)]
        place = match.end()


def _either(tokens: list[tuple[str, str]]) -> Filter:
    # In this language OR binds more tightly than AND, so a mixture without parentheses is refused here.
    parts, words = [_negated(tokens)], set()
    while tokens and tokens[0][0] == "word":
        words.add(tokens.pop(0)[1])
        parts.append(_negated(tokens))
    if len(words) > 1 or words - {"AND", "OR"}:
        raise ValueError("put parentheses around what belongs together")
    if words == {"AND"}:
        ways: tuple[tuple[tuple[Comparison, bool], ...], ...] = ((),)
        for part in parts:
            ways = tuple(way + other for way in ways for other in part.ways)
        return Filter(lambda entry: all(part.holds(entry) for part in parts), ways)
    return Filter(lambda entry: any(part.holds(entry) for part in parts), tuple(way for part in parts for way in part.ways))


def _negated(tokens: list[tuple[str, str]]) -> Filter:
    if tokens and tokens[0] == ("word", "NOT"):
        tokens.pop(0)
        found = _one(tokens)
        [[(comparison, _)]] = found.ways  # only single comparisons are negated
        return Filter(lambda entry: not found.holds(entry), (((comparison, False),),))
    return _one(tokens)


def _one(tokens: list[tuple[str, str]]) -> Filter:
    if tokens[0] == ("sign", "("):
        tokens.pop(0)
        found = _either(tokens)
        _take(tokens, ")")
        return found
    kind, field = tokens.pop(0)
    if kind != "bare" or not tokens:
        raise ValueError(f"{field!r} is no field")
    sign = tokens.pop(0)[1]
    if sign not in ("=", ">"):
        raise ValueError(f"{sign!r} is no comparison")
    comparison = Comparison(field, sign, tuple(_values(tokens)))
    return Filter(comparison.holds, (((comparison, True),),))


def _values(tokens: list[tuple[str, str]]) -> Iterator[Any]:
    if tokens[0] != ("sign", "("):
        yield json.loads(tokens.pop(0)[1])
        return
    tokens.pop(0)
    yield json.loads(tokens.pop(0)[1])
    while tokens[0] == ("word", "OR"):
        tokens.pop(0)
        yield json.loads(tokens.pop(0)[1])
    _take(tokens, ")")


def _take(tokens: list[tuple[str, str]], sign: str) -> None:
    if not tokens or tokens.pop(0) != ("sign", sign):
        raise ValueError(f"{sign!r} is missing")
