"""Datadog's search syntax: text to syntax tree, and syntax tree to a test for one span.

    query  := clause+ joined by AND (which may be left out) or OR; AND binds tighter
    clause := "-" clause | "NOT" clause | "(" query ")" | field value | name "IN" "[" words "]" | word | "quoted phrase"
            | "_exists_:" name | "_missing_:" name
    field  := "@attribute.path:" | "tag:"
    value  := word | "quoted" | [low TO high] | <n  <=n  >n  >=n | "(" values joined by AND, OR, - ")"

`*` and `?` are wildcards outside quotes only; a backslash takes the next character as it is. Operators are upper case:
a lower-case `and` is a word to look for. Where Datadog's documentation asks for quotes or a backslash, an unescaped
character is refused rather than guessed at, so that a query that works here works there.

Source: https://docs.datadoghq.com/tracing/trace_explorer/query_syntax/; existence and IN: the LLM Observability query parser
of Datadog's test agent (github.com/DataDog/dd-apm-test-agent).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MAX_DEPTH = 100
"""How deep parentheses and negations may nest, so that no query exhausts the interpreter's stack."""


class QueryError(ValueError):
    """The text is no query; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Literally:
    """The whole value, character for character."""

    text: str


@dataclass(frozen=True, slots=True)
class Glob:
    """A value with wildcards. `pattern` is in `fnmatch`'s language, `*` alone means that the value exists."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Compare:
    """A number in relation to `bound`, which is kept as text: what it means depends on the field."""

    operator: str
    bound: str


@dataclass(frozen=True, slots=True)
class Between:
    """A number from `low` to `high`, both included; `*` leaves an end open."""

    low: str
    high: str


Match = Literally | Glob | Compare | Between


@dataclass(frozen=True, slots=True)
class Field:
    """One field's value is asked for. `is_attribute` tells `@name:` from `name:`."""

    name: str
    is_attribute: bool
    match: Match


@dataclass(frozen=True, slots=True)
class Text:
    """Words are looked for in the span's text."""

    match: Literally | Glob


@dataclass(frozen=True, slots=True)
class And:
    """Every part holds. No parts hold for every span: the empty query."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node


Node = Field | Text | And | Or | Not

Kind = Literal["(", ")", "-", "AND", "OR", "IN", "field", "value", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """One word of the syntax. `at` is its offset, `name` belongs to a field, `match` to a value, `words` to IN."""

    kind: Kind
    at: int
    name: str = ""
    match: Match | None = None
    words: tuple[str, ...] = ()


_IN = re.compile(r"IN\s*\[([^\[\]]*)\]")
_RANGE = re.compile(r"\[\s*([^\s\[\]]+)\s+TO\s+([^\s\[\]]+)\s*\]")
_COMPARE = re.compile(r"(<=|>=|<|>)([^\s()\"\[\]:<>=]+)")
_OPERATORS: dict[str, Kind] = {"AND": "AND", "OR": "OR", "NOT": "-"}
_MUST_BE_QUOTED = frozenset('"[]{}<>=')


def tokenize(text: str) -> Iterator[Token]:
    """Yield the tokens of a query, ending with an `end` token.

    Raises: QueryError for an unterminated quote, a dangling backslash, a field without a value, and characters that
    must be quoted.
    """
    at = 0
    after_field = False
    while at < len(text):
        char = text[at]
        if char.isspace():
            if after_field:
                raise QueryError(f"a value must follow the field directly, at {at}")
            at += 1
            continue
        start = at
        if char in "()":
            token, at = Token("(" if char == "(" else ")", start), at + 1
        elif char == '"':
            quoted, at = _read_quoted(text, start)
            token = Token("value", start, match=Literally(quoted))
        elif found := _RANGE.match(text, at):
            token, at = Token("value", start, match=Between(found[1], found[2])), found.end()
        elif found := _COMPARE.match(text, at):
            token, at = Token("value", start, match=Compare(found[1], found[2])), found.end()
        elif not after_field and (found := _IN.match(text, at)):
            words = tuple(word.strip().strip("\"'") for word in found[1].split(",") if word.strip())
            token, at = Token("IN", start, words=words), found.end()
        elif char == "-" and not after_field:
            token, at = Token("-", start), at + 1
        else:
            token, at = _read_word(text, start)
        if token.kind == "value" and at < len(text) and not (text[at].isspace() or text[at] in "()"):
            raise QueryError(f"a space, AND or OR must follow the value, at {at}")
        after_field = token.kind == "field"
        yield token
    if after_field:
        raise QueryError("the query ends where a value should follow the field")
    yield Token("end", at)


def _read_quoted(text: str, start: int) -> tuple[str, int]:
    characters: list[str] = []
    at = start + 1
    while at < len(text):
        if text[at] == '"':
            return "".join(characters), at + 1
        if text[at] == "\\":
            at += 1
        if at < len(text):
            characters.append(text[at])
        at += 1
    raise QueryError(f"the quote opened at {start} is never closed")


def _read_word(text: str, start: int) -> tuple[Token, int]:
    """Read a bare word: an operator, a field if a colon ends it, else a value, perhaps with wildcards."""
    plain: list[str] = []
    glob: list[str] = []
    has_wildcard = False
    at = start
    while at < len(text) and not (text[at].isspace() or text[at] in "()"):
        char = text[at]
        if char == ":":
            if not plain or plain == ["@"]:
                raise QueryError(f"a field's name is missing before the colon at {at}")
            return Token("field", start, name="".join(plain)), at + 1
        if char in _MUST_BE_QUOTED:
            raise QueryError(f"{char!r} at {at} must be quoted, or escaped with a backslash")
        escaped = char == "\\"
        if escaped:
            at += 1
            if at == len(text):
                raise QueryError("the query ends with a backslash")
            char = text[at]
        plain.append(char)
        if char in "*?" and not escaped:
            has_wildcard = True
            glob.append(char)
        else:
            glob.append(f"[{char}]" if char in "*?[" else char)
        at += 1
    if text[start:at] in _OPERATORS:
        return Token(_OPERATORS[text[start:at]], start), at
    match = Glob("".join(glob)) if has_wildcard else Literally("".join(plain))
    return Token("value", start, match=match), at


def parse(text: str) -> Node:
    """Return the syntax tree of a query; an empty text gives `And(())`, which every span satisfies.

    Raises: QueryError, and nothing else, whatever the text.
    """
    tokens = list(tokenize(text))
    if tokens[0].kind == "end":
        return And(())
    parser = _Parser(tokens)
    node = parser.alternatives(field=None, depth=0)
    if parser.next.kind != "end":
        raise QueryError(f"unexpected {parser.next.kind!r} at {parser.next.at}")
    return node


class _Parser:
    """Recursive descent over the tokens. `field` is set inside `@x:( … )`, where words are values of that field."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self.next
        self._at += 1
        return token

    def alternatives(self, field: str | None, depth: int) -> Node:
        parts = [self._all_of(field, depth)]
        while self.next.kind == "OR":
            self._take()
            parts.append(self._all_of(field, depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all_of(self, field: str | None, depth: int) -> Node:
        parts = [self._clause(field, depth)]
        while self.next.kind not in ("OR", ")", "end"):
            if self.next.kind == "AND":
                self._take()
            parts.append(self._clause(field, depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _clause(self, field: str | None, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise QueryError(f"the query nests deeper than {MAX_DEPTH}")
        token = self._take()
        if token.kind == "-":
            return Not(self._clause(field, depth + 1))
        if token.kind == "(":
            return self._closed(self.alternatives(field, depth + 1))
        if token.kind == "field" and field is None and token.name in _EXISTENCE:
            return _existence(token.name, self._take())
        if token.kind == "field" and field is None:
            if self.next.kind == "(":
                self._take()
                return self._closed(self.alternatives(token.name, depth + 1))
            return self._clause(token.name, depth)
        if token.kind == "value" and isinstance(token.match, Literally) and self.next.kind == "IN" and field is None:
            return Or(tuple(_leaf(token.match.text, Literally(word), token.at) for word in self._take().words))
        if token.kind == "value" and token.match is not None:
            return _leaf(field, token.match, token.at)
        what = "the end" if token.kind == "end" else f"{token.kind!r}"
        raise QueryError(f"expected a value, found {what} at {token.at}")

    def _closed(self, node: Node) -> Node:
        if self._take().kind != ")":
            raise QueryError("a parenthesis is never closed")
        return node


_EXISTENCE = ("_exists_", "_missing_")


def _existence(asked: str, token: Token) -> Node:
    if not isinstance(token.match, Literally):
        raise QueryError(f"{asked}: wants a name at {token.at}")
    name = token.match.text
    places = (name, "@" + name.removeprefix("@")) if not name.startswith("@") else (name,)
    exists = Or(tuple(_leaf(place, Glob("*"), token.at) for place in places))
    return exists if asked == "_exists_" else Not(exists)


def _leaf(field: str | None, match: Match, at: int) -> Node:
    if field is not None:
        is_attribute = field.startswith("@")
        return Field(field.removeprefix("@"), is_attribute, match)
    if isinstance(match, Compare | Between):
        raise QueryError(f"a comparison needs a field before it, at {at}")
    if isinstance(match, Glob) and match.pattern.strip("*") == "":
        return And(())
    return Text(match)
