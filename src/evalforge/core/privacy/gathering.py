"""Gathers the values that stand under sensitive keys of a span, in whatever shape they were sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
import re2

from evalforge.core.privacy.fields import FIELDS
from evalforge.core.privacy.keys import MAX_KEY_LENGTH, KeyClass, KeyVerdict, verdict_on
from evalforge.core.privacy.marks import is_mark
from evalforge.core.privacy.pairs import VALUE_KEYS, after_names, named_verdict, pair_name
from evalforge.core.privacy.sensitive import SHAPED_KINDS, kind_under
from evalforge.core.privacy.text.findings import is_text_mark
from evalforge.core.privacy.text.network import is_public_host
from evalforge.core.privacy.vocabulary import is_word
from evalforge.core.span import Json, Span

MAX_VALUES = 2_000
MAX_VALUE_LENGTH = 600
MAX_NODES = 20_000
MAX_DEPTH = 40
MAX_JSON_LENGTH = 256 * 1024

Values = dict[tuple[str, KeyVerdict], None]
"""Values as texts with the verdicts on their keys, each pair once, in the order in which they were met."""

_ECHOING = frozenset(KeyClass) - {KeyClass.TEXT, KeyClass.HARMLESS}


def _options() -> Any:
    options = re2.Options()
    options.max_mem = 64 << 20
    options.log_errors = False  # where memory runs out RE2 takes a slower way to the same answer
    return options


_PAIRS = re2.compile(r'([A-Za-z][\w.\-]{1,40})=(?:"([^"\n]{1,200})"|([^\s&;,"]{1,200}))', _options())
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,30}(?: [A-Za-z0-9_.\-]{1,30}){0,3}")
_FIELD_BORDERS = re.compile(r"[,;|][ \t]")


def sensitive_values(span: Span) -> Values:
    """The values under sensitive keys of a span: tags, metadata, attributes, inputs, outputs, evaluations; in JSON inside
    strings, `key=value` pairs, `Key: value` lines and name-value pairs. Bounded; whatever breaks adds nothing.
    """
    found: Values = {}
    _Gathering(found).span(span)
    return found


@lru_cache(maxsize=8192)
def _says(above: str, key: str) -> tuple[KeyVerdict | None, str]:
    """The verdict on a sensitive key, else None; and what stands above the keys below it."""
    verdict = verdict_on(f"{above}.{key}") if above else verdict_on(key)
    if verdict.key_class not in _ECHOING or verdict.is_measure or verdict.is_text or verdict.normal in FIELDS:
        return None, key if len(key) <= MAX_KEY_LENGTH // 2 else ""
    return verdict, above or key[: MAX_KEY_LENGTH // 2]


def _verdict(above: str, key: Any, named: tuple[str, KeyVerdict] | None) -> KeyVerdict | None:
    """The verdict on a sensitive key; in a pair that on what it names."""
    if type(key) is not str or len(key) > MAX_KEY_LENGTH:
        return None
    return named[1] if named is not None and key in VALUE_KEYS else _says(above, key)[0]


@lru_cache(maxsize=4096)
def _sensitive_among(above: str, keys: tuple[Any, ...]) -> dict[str, KeyVerdict]:
    """The sensitive ones of a mapping's keys: telemetry has few shapes of mappings, and sends each again and again."""
    return {key: verdict for key in keys if (verdict := _verdict(above, key, None)) is not None}


_MAX_SHAPE = 200
"""Keys of a mapping whose shape is remembered."""


class _Gathering:
    """One walk through a span's raw values."""

    __slots__ = ("found", "node_count")

    def __init__(self, found: Values) -> None:
        self.found = found
        self.node_count = 0

    def span(self, span: Span) -> None:
        for key, value in span.tags[:MAX_VALUES]:
            if len(key) <= MAX_KEY_LENGTH:
                verdict = _says("", key)[0]
                if verdict is not None:
                    self.add(value, verdict)
        for part in (span.metadata, span.attributes, span.input, span.output, span.error, span.extra, span.metrics):
            if part:
                self.guarded(part)
        for evaluation in span.evaluations[:MAX_VALUES]:
            if evaluation.body:
                self.guarded(evaluation.body)

    def guarded(self, value: Json) -> None:
        try:
            self.value(value, None, "", 0)
        except Exception:  # noqa: BLE001 - a value that breaks here is broken for the sanitizer too, which drops it
            return

    def value(self, value: Json, verdict: KeyVerdict | None, above: str, depth: int) -> None:
        kind = type(value)
        if kind is str:
            if verdict is not None:
                self.add(value, verdict)
            elif len(value) >= 5:
                self.text(value, depth)
        elif kind is dict:
            self.mapping(value, above, depth + 1)
        elif kind is int or kind is float:
            if verdict is not None:
                self.add(_digits(value), verdict)
        elif kind is list or kind is tuple:
            self.items(value, verdict, above, depth + 1)
        elif isinstance(value, Mapping):
            self.mapping(value, above, depth + 1)

    def mapping(self, values: Mapping[Any, Json], above: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            return
        self.node_count += len(values)
        if self.node_count > MAX_NODES:
            return
        sensitive = _sensitive_among(above, tuple(values)) if len(values) <= _MAX_SHAPE else None
        named = pair_name(values) if len(values) > 1 else None
        if sensitive is None or named is not None:
            sensitive = {key: verdict for key in values if (verdict := _verdict(above, key, named)) is not None}
        for key, value in values.items():
            kind = type(value)
            if kind is str:
                if sensitive and key in sensitive:
                    self.add(value, sensitive[key])
                elif ("=" in value or ":" in value) and len(value) >= 5:
                    self.text(value, depth)
            elif kind is int or kind is float:
                if sensitive and key in sensitive:
                    self.add(_digits(value), sensitive[key])
            elif kind is not bool and value is not None and type(key) is str and len(key) <= MAX_KEY_LENGTH:
                self.value(value, sensitive.get(key), _says(above, key)[1], depth)

    def items(self, values: list[Json] | tuple[Json, ...], verdict: KeyVerdict | None, above: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            return
        named = after_names(values) if verdict is None and len(values) > 1 else frozenset()
        for at, value in enumerate(values):
            self.node_count += 1
            if self.node_count > MAX_NODES:
                return
            said = named_verdict(values[at - 1]) if at in named else verdict
            self.value(value, said, above, depth)

    def text(self, text: str, depth: int) -> None:
        if len(text) > MAX_JSON_LENGTH or ("=" not in text and ":" not in text):
            return
        if text[0] in "{[" or text[:40].lstrip()[:1] in ("{", "["):
            try:
                parsed = orjson.loads(text)
            except (ValueError, RecursionError):
                pass
            else:
                self.value(parsed, None, "", depth + 1)
                return
        if "=" in text:
            for key, quoted, plain in _PAIRS.findall(text):
                self.pair(key, quoted or plain)
        if ":" in text:
            for line in text.split("\n"):
                if ":" in line:
                    self.line(line)

    def line(self, line: str) -> None:
        """`Customer name: Jane Doe`, and several of them side by side."""
        for part in _FIELD_BORDERS.split(line[:2_000]) if line.count(":") > 1 else (line,):
            label, colon, value = part.partition(":")
            if colon and 2 < len(part) <= 260:
                label = label.strip(" \t>*-\"'({[")
                if _LABEL.fullmatch(label):
                    self.said(label, value)

    def said(self, label: str, text: str) -> None:
        """What a line says of the thing that its label names, where it says more than words."""
        verdict = _says("", label)[0]
        if verdict is not None:
            value = _value_of(text, verdict)
            if kind_under(verdict) not in SHAPED_KINDS or "@" in value or any(map(str.isdigit, value)):
                self.pair(label, value)

    def pair(self, key: str, value: str) -> None:
        self.node_count += 1
        if self.node_count <= MAX_NODES:
            verdict = _says("", key)[0]
            if verdict is not None:
                self.add(value.replace("+", " ") if "%" not in value and " " not in value else value, verdict)

    def add(self, text: str, verdict: KeyVerdict) -> None:
        if (
            2 <= len(text) <= MAX_VALUE_LENGTH
            and len(self.found) < MAX_VALUES
            and not (text[0] == "[" and (is_mark(text) or is_text_mark(text)))
            and not (verdict.key_class is KeyClass.NETWORK and is_nobodys_host(text))
        ):
            self.found[text, verdict] = None


_QUOTED_VALUE = re.compile(r"""[ \t]*(?:"([^"]{0,260})"|'([^']{0,260})')""")
_SENTENCE = re.compile(r"[.!?](?=\s)|[}\])]")
_SCHEME = re.compile(r"(?i)(?:(?:bearer|basic|token|digest)[ ]{1,3})?[^\s,;]{1,260}")
_NAME_WORDS = re.compile(r"(?:[^\W\d_a-z][\w'’.\-]*[ \t]*){1,5}")
_ONE_WORD = frozenset({KeyClass.CREDENTIAL, KeyClass.SESSION, KeyClass.USER_ID, KeyClass.NETWORK})
_MAX_SAID_WORDS = 5


def _value_of(text: str, verdict: KeyVerdict) -> str:
    """What stands behind a label: what is quoted, one code, a short phrase, an address; of a sentence the name it begins
    with.
    """
    quoted = _QUOTED_VALUE.match(text)
    if quoted is not None:
        return quoted[1] or quoted[2] or ""
    value = text.strip(" \t,\"')}]")
    if verdict.key_class in _ONE_WORD:
        code = _SCHEME.match(value)
        return code[0] if code is not None else ""
    end = _SENTENCE.search(value)
    is_followed = end is not None and end[0] in ".!?" and len(value) > end.end() + 1
    if end is not None and len(value[: end.start()].split()) > 1:
        value = value[: end.start()]
    count = len(value.split())
    if (count <= _MAX_SAID_WORDS and not is_followed) or any(map(str.isdigit, value)):
        return value
    name = _NAME_WORDS.match(value)
    if name is not None:
        return name[0].strip()
    return value if count <= _MAX_SAID_WORDS else ""


def is_nobodys_host(text: str) -> bool:
    """Whether what stands under a key of the network is a word or a public service's name: `https`, `api.openai.com`."""
    return is_word(text) or is_public_host(text)


def _digits(number: float) -> str:
    if isinstance(number, int):
        return str(number) if number.bit_length() <= 128 else ""
    return repr(int(number)) if number.is_integer() and abs(number) < 1e18 else repr(number)
