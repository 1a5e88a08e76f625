"""What Datadog answered, read tolerantly: bytes and headers in, items, cursor and limits out. No I/O.

Source: https://docs.datadoghq.com/llm_observability/evaluations/export_api/,
https://docs.datadoghq.com/api/latest/spans/ and https://docs.datadoghq.com/api/latest/rate-limits/
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from evalforge.core.span import Json

Bytes = bytes | bytearray

_NO_INDEX = b"No valid indexes specified"
_LIMIT_HEADERS = {"limit": "x-ratelimit-limit", "remaining": "x-ratelimit-remaining", "period_s": "x-ratelimit-period"}
_RESET_HEADERS = ("x-ratelimit-reset", "retry-after")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,60}")
_MAX_WAIT_S = 86_400.0
_MAX_DIGITS = 4000
_MAX_DEPTH = 200
_STRING_OR_BRACKET = re.compile(rb'"(?>[^"\\]+|\\.)*+"|[\[\]{}]', re.DOTALL)


class NonsenseError(ValueError):
    """The body is no search answer; the message says what it is instead, without its text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One page as received. `cursor` leads to the next page, None when there is none; `size_bytes` is the decoded body's.

    `is_partial` says that Datadog gave up before it had looked at everything that this page should hold. `warnings` are
    the codes of Datadog's own warnings.
    """

    items: list[Json]
    cursor: str | None = None
    is_partial: bool = False
    size_bytes: int = 0
    warnings: tuple[str, ...] = ()


def decode_answer(body: Bytes) -> Answer:
    """The page that `body` spells.

    `meta` and everything below it may be null or absent, and so may `data` be null; no cursor means no further page.

    Raises:
        NonsenseError: no JSON, or JSON of another shape (a proxy's web page, an error with status 200).
    """
    items, meta = _apart(body) or _of_document(decode_json(body))
    cursor = _mapping(meta.get("page")).get("after")
    if cursor is not None and not isinstance(cursor, str):
        raise NonsenseError(f"the cursor is {_kind(cursor)} and no text")
    return Answer(
        items=items,
        cursor=cursor or None,
        is_partial=meta.get("status") == "timeout",
        size_bytes=len(body),
        warnings=tuple(_warning_codes(meta.get("warnings"))),
    )


class _Envelope(msgspec.Struct):
    """A page whose items are still bytes."""

    data: list[msgspec.Raw]
    meta: Any = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def _apart(body: Bytes) -> tuple[list[Json], Mapping[str, Json]] | None:
    """The items and the `meta` of a page that is as it should be, else None.

    Item by item: to decode a page whole takes half as much memory again as what comes of it, all at once.
    """
    try:
        envelope = _ENVELOPE.decode(body)
    except (ValueError, RecursionError):
        return None
    return [decode_json(memoryview(item)) for item in envelope.data], _mapping(envelope.meta)


def _of_document(document: Json) -> tuple[list[Json], Mapping[str, Json]]:
    if not isinstance(document, dict):
        raise NonsenseError(f"JSON, but {_kind(document)} and no object")
    if "data" not in document:
        raise NonsenseError("a JSON object without data")
    items = document["data"]
    if items is None:
        items = []
    if not isinstance(items, list):
        raise NonsenseError(f"data is {_kind(items)} and no list")
    return items, _mapping(document.get("meta"))


def says_no_data_yet(status: int, body: Bytes) -> bool:
    """Whether this error is Datadog's way to say that the organisation has sent no spans yet.

    Source: observed by third parties against the live API: 500 `{"errors":[{"detail":"No valid indexes specified"}]}`.
    """
    return status == 500 and _NO_INDEX in body


def says_keys_are_valid(body: Bytes) -> bool:
    """Whether the key check's body with status 200 is Datadog's own, and not some proxy's."""
    try:
        answer = _mapping(decode_json(body))
    except NonsenseError:
        return False
    return answer.get("status") == "ok" or answer.get("valid") is True


def rate_limit(headers: Mapping[str, str]) -> dict[str, float | str]:
    """What the headers tell of the rate limit: limit, remaining, period_s, reset_s and name, those that make sense."""
    told: dict[str, float | str] = {}
    for key, header in _LIMIT_HEADERS.items():
        number = _number(headers.get(header))
        if number is not None:
            told[key] = number
    reset_s = _wait_s(headers.get("x-ratelimit-reset"))
    if reset_s is not None:
        told["reset_s"] = reset_s
    name = headers.get("x-ratelimit-name", "")
    if _PLAIN_NAME.fullmatch(name):
        told["name"] = name
    return told


def wait_s(headers: Mapping[str, str]) -> float | None:
    """How many seconds the headers ask to wait, None when they do not say."""
    return next((seconds for header in _RESET_HEADERS if (seconds := _wait_s(headers.get(header))) is not None), None)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How many seconds the server itself asks to wait, None when it does not say.

    When the rate limit resets is not asked: that comes with every answer, and says nothing about when an outage ends.
    """
    return _wait_s(headers.get("retry-after"))


def _wait_s(text: str | None) -> float | None:
    """So many seconds; more than a day is no wait, but some other unit or a moment."""
    seconds = _number(text)
    return seconds if seconds is not None and seconds <= _MAX_WAIT_S else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def decode_json(body: Bytes | memoryview) -> Json:
    """JSON read tolerantly: a number that is none, half of a surrogate pair or deep nesting costs that value only.

    Raises:
        NonsenseError: no JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # orjson is strict where Python is not: NaN, half of a surrogate pair, bytes that are no UTF-8. One such value in one
    # span must not cost the page.
    body = bytes(body)
    try:
        return json.loads(body.decode("utf-8", "replace"), parse_int=_whole_number)
    except ValueError as error:
        raise NonsenseError(f"no JSON ({len(body)} bytes)") from error
    except RecursionError:
        return decode_json(_cut_below(body, _MAX_DEPTH))


def _cut_below(body: Bytes, max_depth: int) -> bytes:
    """The same JSON with null for what nests deeper: one such value in one span must not cost the page either."""
    kept: list[Bytes] = []
    depth, begin = 0, 0
    for token in _STRING_OR_BRACKET.finditer(body):
        if body[token.start()] in b"[{":
            depth += 1
            if depth == max_depth + 1:
                kept += (body[begin : token.start()], b"null")
        elif body[token.start()] in b"]}":
            if depth == max_depth + 1:
                begin = token.end()
            depth -= 1
    if depth <= max_depth:
        kept.append(body[begin:])
    return b"".join(kept)


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else math.inf


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _warning_codes(warnings: Json) -> list[str]:
    codes = []
    for warning in warnings if isinstance(warnings, list) else ():
        code = _mapping(warning).get("code")
        codes.append(code if isinstance(code, str) and _PLAIN_NAME.fullmatch(code) else "unnamed")
    return codes


def _kind(value: Json) -> str:
    return type(value).__name__
