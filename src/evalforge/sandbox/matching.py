"""From a syntax tree to a test for one span, given what the fields of a source are."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Sequence
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

MANY = 8
"""From so many alternatives on, looking at a span's shape first is faster than trying them."""

MAX_SHAPES = 100_000
"""How many shapes are remembered at once; real applications have some dozens."""

Record = TypeVar("Record")
Record_contra = TypeVar("Record_contra", contravariant=True)
Getter = Callable[[Record], Collection[Any]]
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

    def key(self, node: Field) -> str | None:
        """What a span's shape must contain for the field to match; None if its shape does not tell."""

    def shape(self, record: Record_contra) -> frozenset[str]:
        """The keys of everything that the span has."""


def compile_query(text: str, fields: Fields[Record]) -> Predicate[Record]:
    """Return a test that tells whether a span satisfies the query.

    Raises: QueryError when the text is no query, or compares with something that is no number.
    """
    return _compile(parse(text), fields)


def _compile(node: Node, fields: Fields[Record]) -> Predicate[Record]:
    if (field := _only_field(node)) is not None:
        get, holds = _getter(field, fields), _of_values(node, fields)
        return lambda record: holds(get(record))
    match node:
        case And(parts):
            return _all([_compile(part, fields) for part in parts])
        case Or(parts):
            tests = [_compile(part, fields) for part in parts]
            if len(tests) < MANY:
                return _any(tests)
            return _any_by_shape(tests, [_needs(part, fields) for part in parts], fields)
        case Not(part):
            inner = _compile(part, fields)
            return lambda record: not inner(record)
        case Text(match):
            found = _words(match).search
            return lambda record: found(fields.text(record)) is not None
        case Field():
            raise AssertionError("a field is the only field that it asks")


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


def _needs(node: Node, fields: Fields[Record]) -> frozenset[str] | None:
    """Return keys of which a span has at least one if it satisfies the node; None if nothing is known."""
    match node:
        case Field():
            key = fields.key(node)
            return None if key is None else frozenset((key,))
        case And(parts):
            known = [needed for part in parts if (needed := _needs(part, fields)) is not None]
            return min(known, key=len, default=None)
        case Or(parts):
            all_needed = [_needs(part, fields) for part in parts]
            return (
                None if None in all_needed else frozenset().union(*(needed for needed in all_needed if needed is not None))
            )
        case _:
            return None


def _any_by_shape(
    tests: Sequence[Predicate[Record]], needs: Sequence[frozenset[str] | None], fields: Fields[Record]
) -> Predicate[Record]:
    """Test only the alternatives that a span of this shape could satisfy: of hundreds it is seldom more than five."""
    possible: dict[frozenset[str], tuple[Predicate[Record], ...]] = {}
    shape_of = fields.shape

    def holds(record: Record) -> bool:
        shape = shape_of(record)
        tried = possible.get(shape)
        if tried is None:
            if len(possible) >= MAX_SHAPES:
                possible.clear()
            tried = tuple(
                test for test, needed in zip(tests, needs, strict=True) if needed is None or not needed.isdisjoint(shape)
            )
            possible[shape] = tried
        for test in tried:  # noqa: SIM110 - as above
            if test(record):
                return True
        return False

    return holds


def _only_field(node: Node) -> Field | None:
    """Return a field of the node if all that it asks is of that one field, as `(@f:* -@f:<5 -@f:(a OR b))`."""
    match node:
        case Field():
            return node
        case Not(part):
            return _only_field(part)
        case And(parts) | Or(parts):
            asked = [_only_field(part) for part in parts]
            first = asked[0] if asked else None
            same = first is not None and all(
                one is not None and (one.name, one.is_attribute) == (first.name, first.is_attribute) for one in asked
            )
            return first if same else None
        case _:
            return None


def _getter(node: Field, fields: Fields[Record]) -> Getter[Record]:
    if node.is_attribute:
        return fields.attribute(node.name)
    reserved = fields.bare(node.name)
    return reserved if reserved is not None else fields.tag(node.name)


def _of_values(node: Node, fields: Fields[Record]) -> Predicate[Collection[Any]]:
    """Return the test of a node of one field, given the values that a span has for it."""
    match node:
        case And(parts):
            return _all([_of_values(part, fields) for part in parts])
        case Or(parts):
            single = [_test_of(part, fields) for part in parts if isinstance(part, Field)]
            if len(single) == len(parts):
                return _has(_any(single))
            return _any([_of_values(part, fields) for part in parts])
        case Not(part):
            inner = _of_values(part, fields)
            return lambda values: not inner(values)
        case Field():
            return _has(_test_of(node, fields))
        case Text():
            raise AssertionError("free text has no field")


def _has(test: ValueTest) -> Predicate[Collection[Any]]:
    def holds(values: Collection[Any]) -> bool:
        for value in values:  # noqa: SIM110 - as above
            if test(value):
                return True
        return False

    return holds


def _test_of(node: Field, fields: Fields[Record]) -> ValueTest:
    if not node.is_attribute and fields.bare(node.name) is None:
        # Tags are text without case, and Datadog never orders them: a range over a tag finds nothing.
        return _tag_test(node.match)
    return _value_test(node.match, lambda value: fields.number(node.name, value), node.name)


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
_DURATION_NS = {
    "ns": 1,
    "us": 1e3,
    "µs": 1e3,
    "μs": 1e3,
    "ms": 1e6,
    "s": 1e9,
    "m": 60e9,
    "min": 60e9,
    "h": 3600e9,
    "d": 86400e9,
}


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
