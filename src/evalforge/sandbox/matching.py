"""From a syntax tree to a test for one span, given what the fields of a source are."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from typing import Any, Protocol, TypeVar

from evalforge.sandbox.query import (
    And,
    Between,
    Compare,
    Field,
    Glob,
    Literally,
    Match,
    Node,
    Not,
    Or,
    QueryError,
    Text,
    parse,
)

Record = TypeVar("Record")
Record_contra = TypeVar("Record_contra", contravariant=True)
Getter = Callable[[Record], Iterable[Any]]
Predicate = Callable[[Record], bool]
ValueTest = Callable[[Any], bool]


class Fields(Protocol[Record_contra]):
    """What a source lets a query ask for. Getters give every value that a span has under a name, none if it has none."""

    def attribute(self, path: str) -> Getter[Record_contra]:
        """The getter of `@path`."""

    def bare(self, name: str) -> Getter[Record_contra] | None:
        """The getter of a reserved word that needs no `@`; None means that the name is a tag's key."""

    def tag(self, key: str) -> Getter[Record_contra]:
        """The getter of a tag's values, all in lower case."""

    def text(self, record: Record_contra) -> str:
        """The text that free words are looked for in."""

    def number(self, path: str, value: Any) -> float | None:
        """The value as a number where the source indexes it as one, else None."""


def compile_query(text: str, fields: Fields[Record]) -> Predicate[Record]:
    """Return a test that tells whether a span satisfies the query.

    Raises: QueryError when the text is no query, or compares with something that is no number.
    """
    return _compile(parse(text), fields)


def _compile(node: Node, fields: Fields[Record]) -> Predicate[Record]:
    match node:
        case And(parts):
            return _all([_compile(part, fields) for part in parts])
        case Or(parts):
            return _any([_compile(part, fields) for part in parts])
        case Not(part):
            inner = _compile(part, fields)
            return lambda record: not inner(record)
        case Text(match):
            found = _words(match).search
            return lambda record: found(fields.text(record)) is not None
        case Field():
            return _field(node, fields)


def _all(tests: Sequence[Predicate[Record]]) -> Predicate[Record]:
    def holds(record: Record) -> bool:
        for test in tests:  # noqa: SIM110 - a plain loop is twice as fast as all() here, and this is the hot path
            if not test(record):
                return False
        return True

    return holds


def _any(tests: Sequence[Predicate[Record]]) -> Predicate[Record]:
    def holds(record: Record) -> bool:
        for test in tests:  # noqa: SIM110 - as above
            if test(record):
                return True
        return False

    return holds


def _field(node: Field, fields: Fields[Record]) -> Predicate[Record]:
    reserved = None if node.is_attribute else fields.bare(node.name)
    is_tag = not node.is_attribute and reserved is None
    if is_tag:
        # Tags are text without case, and Datadog never orders them: a range over a tag finds nothing.
        get, test = fields.tag(node.name), _tag_test(node.match)
    else:
        get = reserved if reserved is not None else fields.attribute(node.name)
        test = _value_test(node.match, lambda value: fields.number(node.name, value), node.name)

    def holds(record: Record) -> bool:
        for value in get(record):  # noqa: SIM110 - as above
            if test(value):
                return True
        return False

    return holds


def _tag_test(match: Match) -> ValueTest:
    match match:
        case Literally(text):
            wanted = text.lower()
            return lambda value: bool(value == wanted)
        case Glob(pattern):
            like = _glob(pattern.lower())
            return lambda value: like(value) is not None
        case _:
            return lambda value: False


def _value_test(match: Match, number: Callable[[Any], float | None], name: str) -> ValueTest:
    match match:
        case Literally(text):
            return _equals(text)
        case Glob("*"):
            return lambda value: value is not None
        case Glob(pattern):
            like = _glob(pattern)
            return lambda value: (shown := as_text(value)) is not None and like(shown) is not None
        case Compare(sign, bound):
            compares, limit = _SIGNS[sign], _bound(bound, name)
            return lambda value: (n := number(value)) is not None and compares(n, limit)
        case Between(low, high):
            least = float("-inf") if low == "*" else _bound(low, name)
            most = float("inf") if high == "*" else _bound(high, name)
            return lambda value: (n := number(value)) is not None and least <= n <= most


def _equals(wanted: str) -> ValueTest:
    try:
        wanted_number: float | None = float(wanted)
    except ValueError:
        wanted_number = None

    def holds(value: Any) -> bool:
        if isinstance(value, str):
            return value == wanted
        if isinstance(value, bool):
            return wanted == ("true" if value else "false")
        return isinstance(value, int | float) and wanted_number is not None and value == wanted_number

    return holds


def as_text(value: Any) -> str | None:
    """Return a scalar as a query sees it (`true`, `0.31`, `web`), None for null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_DURATION_NS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "min": 60e9, "h": 3600e9, "d": 86400e9}


def _bound(text: str, name: str) -> float:
    """Read the number that a field is compared with; `duration` also understands units, as in `>5s`."""
    if found := _NUMBER.match(text):
        unit = text[found.end() :]
        if not unit:
            return float(text)
        if name == "duration" and unit in _DURATION_NS:
            return float(found[0]) * _DURATION_NS[unit]
    raise QueryError(f"{name!r} cannot be compared with {text!r}: that is no number")


def _glob(pattern: str) -> Callable[[str], re.Match[str] | None]:
    # fnmatch's translation uses atomic groups, so that no pattern makes matching exponential.
    return re.compile(translate(pattern)).match


def _words(match: Literally | Glob) -> re.Pattern[str]:
    """Compile free text to whole words, without case; wildcards stay inside one word."""
    if isinstance(match, Glob):
        parts = re.split(r"(\[.\]|\*|\?)", match.pattern)
        body = "".join({"*": r"\w*", "?": r"\w"}.get(part, re.escape(_unbracketed(part))) for part in parts)
    else:
        body = r"\s+".join(re.escape(word) for word in match.text.split())
    before = r"(?<!\w)" if re.match(r"\w|\\w", body) else ""
    after = r"(?!\w)" if re.search(r"(\w|\\w\*?)$", body) else ""
    return re.compile(f"{before}{body}{after}", re.IGNORECASE)


def _unbracketed(part: str) -> str:
    return part[1] if len(part) == 3 and part[0] == "[" and part[2] == "]" else part
