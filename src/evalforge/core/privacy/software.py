"""Value rules for what software says of itself: quantities, releases, pods, images, packages, codes of errors."""

from __future__ import annotations

import re

from evalforge.core.privacy.keys import RECORD_NUMBER, is_plain_chunk
from evalforge.core.privacy.marks import remembering
from evalforge.core.privacy.values import (
    CHUNK,
    DATE_IN_NAME,
    HEX_CODE,
    IP,
    LONG_DIGITS,
    MAX_NAME_LENGTH,
    name,
    version,
    words,
)
from evalforge.core.privacy.vocabulary import is_known_words, is_word, pieces, time_zones
from evalforge.core.span import Json

_QUANTITY = re.compile(
    r"[<>~]?=?[$\u20ac\u00a3]?-?[0-9]{1,5}(?:\.[0-9]{1,6})?"
    r"(?: ?(?:ns|us|\u00b5s|ms|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?|%|x|b|bytes?|[kmgt]i?b|[km]|"
    r"tok|tokens?|tps|rps|qps|req/s|tok/s|tokens/s|it/s|fps|[kmg]?hz|px|usd|eur|gbp))"
    r"|[$\u20ac\u00a3]-?[0-9]{1,5}(?:\.[0-9]{1,6})?",
    re.IGNORECASE,
)
_PERIOD = re.compile(r"[Pp](?:[0-9]{1,3}[DdWwMmYy]){0,3}(?:[Tt](?:[0-9]{1,4}(?:\.[0-9]{1,6})?[HhMmSs]){1,3})?(?<![Pp])")
_CLOCK = re.compile(r"[0-9]{1,2}:[0-5][0-9]:[0-5][0-9](?:[.,][0-9]{1,6})?")
_QUARTER = re.compile(r"20[1-4][0-9][-_ ]?(?:[Qq][1-4]|[Hh][12]|[Ww][0-5][0-9])")
_CRON = re.compile(r"(?=.*\*)(?:[0-9*/,\-]{1,10} ){4}[0-9*/,\-]{1,10}")
_QUANTIZED = re.compile(
    r"(?:i?q[2-8](?:_[k0-9])?(?:_(?:xs|s|m|l))?|(?:u?int|fp|bf|nf|w|b?float)[0-9]{1,2}(?:a[0-9]{1,2})?)", re.IGNORECASE
)
_PUNCTUATION = re.compile(r"[^\w]{1,8}|</?s>|<\|[a-z_]{1,20}\|>", re.ASCII)
_EXTENSION = re.compile(r"\.([A-Za-z][A-Za-z0-9]{0,4})")
_LANGUAGES = re.compile(r"[cC]\+\+|[cCfF]#|\.NET", re.IGNORECASE)


@remembering
def technical(value: Json) -> str | None:
    """What software says of itself in signs and digits: `350ms`, `87%`, `2.4MB`, `$0.0021`, `PT1M30S`, `00:00:12`, `2026Q4`,
    `*/5 * * * *`, `q4_k_m`, `c++`, `.docx`, `###`.
    """
    if not isinstance(value, str) or not 0 < len(value) <= 40:
        return None
    if _QUANTITY.fullmatch(value) or _CLOCK.fullmatch(value) or _QUARTER.fullmatch(value) or _CRON.fullmatch(value):
        return value
    if _QUANTIZED.fullmatch(value) or _LANGUAGES.fullmatch(value) or (len(value) > 2 and _PERIOD.fullmatch(value)):
        return value
    extension = _EXTENSION.fullmatch(value)
    if extension is not None:
        return value if is_word(extension[1].lower()) else None
    return value if value.isascii() and value.isprintable() and _PUNCTUATION.fullmatch(value) else None


_RELEASE_WORDS = (
    "main|master|trunk|develop|dev|release|rel|build|nightly|canary|hotfix|stable|prod|production|staging|preview|sha|commit|git|"
    "snapshot|rev|deploy|r|v|b|rc"
)
_RELEASE = re.compile(
    rf"(?:(?:{_RELEASE_WORDS})[-_./]?)*"
    r"(?:20[1-4][0-9][01][0-9][0-3][0-9](?:[-._][0-9]{1,6})?|[0-9]{1,5}(?:[-._][0-9]{1,5}){0,2}|(?=[0-9a-f]*[a-f])[0-9a-f]{7,40})"
)
_DIGITS_OF_BUILD = 6


def release(value: Json) -> str | None:
    """A build or release that is no plain version: `20261123.4`, `main-cad9c1d2`, `r-1042`, `build-7`."""
    if not isinstance(value, str) or len(value) > 60 or _RELEASE.fullmatch(value) is None:
        return None
    rest = DATE_IN_NAME.sub("", value)
    digits = sum(map(str.isdigit, rest))
    has_letter = any(map(str.isalpha, rest))
    is_hash = HEX_CODE.search(rest) is not None
    return (
        None
        if IP.search(value) or (digits > _DIGITS_OF_BUILD and not is_hash) or not (has_letter or rest != value)
        else value
    )


_SAFE = "bcdf-hj-np-tv-z2456789"
_POD = re.compile(
    rf"([a-z][a-z0-9.\-]{{0,60}}?)(?:(?:-(?:[{_SAFE}]{{8,10}}|[0-9a-f]{{8,10}}))?-[{_SAFE}]{{5}}|-[0-9]{{1,4}})"
)
"""What Kubernetes adds to a workload's name: no vowels, and no digits that look like letters.

Source: `k8s.io/apimachinery/pkg/util/rand`, whose alphabet this is.
"""


@remembering
def pod(value: Json) -> str | None:
    """A pod's name: a workload's name and Kubernetes' hash and suffix."""
    if not isinstance(value, str) or len(value) > 120:
        return None
    workload = _POD.fullmatch(value)
    if value[-1:].isdigit() and RECORD_NUMBER.search(value):
        return None
    return value if workload is not None and name(workload[1]) == workload[1] else None


_IMAGE = re.compile(
    r"((?:[a-z0-9][a-z0-9.\-]{0,60}/){0,4}[a-z0-9][a-z0-9._\-]{0,60})(?::([A-Za-z0-9._\-]{1,60}))?(?:@(sha256:[0-9a-f]{8,64}))?"
)


@remembering
def image(value: Json) -> str | None:
    """A container image: registry, path, tag and digest."""
    if not isinstance(value, str) or len(value) > MAX_NAME_LENGTH or "@" in value.partition("@sha256:")[0]:
        return None
    found = _IMAGE.fullmatch(value)
    if found is None or LONG_DIGITS.search(found[1]) or IP.search(found[1]) or RECORD_NUMBER.search(found[1]):
        return None
    if not all(is_plain_chunk(chunk) for chunk in CHUNK.findall(found[1])):
        return None
    is_reference = "/" in found[1] or found[2] is not None or found[3] is not None or is_known_words(found[1], 5)
    tag = found[2]
    is_tag = tag is None or version(tag) is not None or release(tag) is not None or words(tag) is not None
    return value if is_reference and is_tag else None


_PACKAGE = re.compile(
    r"@?([A-Za-z][A-Za-z0-9_.\-]{0,50}(?:/[A-Za-z][A-Za-z0-9_.\-]{0,50})?)"
    r"(?:(?:==|[@/: ]|~=|>=)([vV]?[0-9][A-Za-z0-9.+\-]{0,20}))?"
)


@remembering
def package(value: Json) -> str | None:
    """A library of words of the vocabulary, with its scope and version: `openai-python/1.51.0`, `@anthropic-ai/sdk`."""
    found = _PACKAGE.fullmatch(value) if isinstance(value, str) and len(value) <= 120 else None
    if found is None or not all(is_word(part) or (part.isdigit() and len(part) < 3) for part in pieces(found[1])):
        return None
    return value if found[2] is None or version(found[2]) is not None else None


_ERROR_CODE = re.compile(r"(?:E|ERR|ERROR|EC|HTTP|SQLSTATE|SQL|ORA|PG|W|WARN|EXC|SEV)[-_]?[0-9]{1,5}", re.IGNORECASE)


@remembering
def error_code(value: Json) -> str | None:
    """A code of an error: `E1001`, `ERR-1042`, `E_TIMEOUT`, `ECONNRESET`."""
    if not isinstance(value, str) or not 0 < len(value) <= 60:
        return None
    if _ERROR_CODE.fullmatch(value):
        return value
    head, _, rest = value.partition("_")
    return value if head.lower() in ("e", "err") and is_known_words(rest, 5) else None


@remembering
def identifier(value: Json) -> str | None:
    """One identifier of words of the vocabulary, without a space: `support_v12`, `rag-answer`, `summarize.v2`."""
    return value if isinstance(value, str) and " " not in value and is_known_words(value, 6) else None


def zone(value: Json) -> str | None:
    """A time zone of the IANA database."""
    return value if isinstance(value, str) and value.lower() in time_zones() else None
