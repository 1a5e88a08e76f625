"""Value rules: each takes a raw value and gives back what may be stored of it, or None.

All are full matches on bounded lengths, and linear in time. What a rule refuses becomes a placeholder that tells the JSON
type and the size of what was there: `[redacted:text 23]` (characters), `[redacted:number]`, `[redacted:object 3]` (keys),
`[redacted:list 2]` (items).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum

from evalforge.core.privacy.keys import RECORD_NUMBER, is_plain_chunk
from evalforge.core.privacy.vocabulary import is_known_words, is_name, is_word, listed, pieces, technical_words, time_zones
from evalforge.core.signals import RULES, normal_label
from evalforge.core.span import Json

MAX_NAME_LENGTH = 200
SMALL_NUMBER = 100_000
SCORE_LIMIT = 1_000_000
SETTING_LIMIT = 10_000_000
MAX_UNSIGNED_64 = (1 << 64) - 1
MIN_SIGNED_64 = -(1 << 63)
MASK = "[redacted]"

_MARK = re.compile(r"\[redacted(?::(?:number|value|error|(?:text|object|list) [0-9]{1,9}))?\]")


def placeholder(value: Json) -> str:
    """The mark that stands for a removed value; a mark stands for itself."""
    if isinstance(value, str):
        return value if is_mark(value) else f"[redacted:text {len(value)}]"
    if isinstance(value, (int, float)):
        return "[redacted:number]"
    if isinstance(value, Mapping):
        return f"[redacted:object {len(value)}]"
    if isinstance(value, (list, tuple)):
        return f"[redacted:list {len(value)}]"
    return "[redacted:value]"


def is_mark(text: str) -> bool:
    """Whether a text is a placeholder already."""
    return len(text) <= 30 and _MARK.fullmatch(text) is not None


TextRule = Callable[[Json], str | None]
_MAX_REMEMBERED = 4096


def _remembering(rule: TextRule) -> TextRule:
    """The rule, with a bounded memory of texts that it kept as they are: telemetry repeats itself.

    What a rule refused or masked may be personal and is not remembered.
    """
    passed: set[str] = set()

    def remembered(value: Json) -> str | None:
        if type(value) is str and value in passed:
            return value
        found = rule(value)
        if found == value and type(value) is str:
            if len(passed) >= _MAX_REMEMBERED:
                passed.clear()
            passed.add(value)
        return found

    remembered.__doc__ = rule.__doc__
    return remembered


# -- numbers and times ----------------------------------------------------------------------------------------------------

_NUMBER_TEXT = re.compile(r"-?(?:0|[1-9][0-9]{0,4})(?:\.[0-9]{1,6})?(?:[eE]-[0-9]{1,2})?")
_DATE_DIGITS = r"20[0-9]{2}-[01][0-9]-[0-3][0-9]"
_CLOCK_DIGITS = r"[0-2][0-9]:[0-5][0-9](?::[0-6][0-9](?:[.,][0-9]{1,9})?)?"
_TIME = re.compile(rf"{_DATE_DIGITS}[Tt ]{_CLOCK_DIGITS}(?: ?(?:[Zz]|UTC|[+-][0-2][0-9]:?[0-5][0-9]))?")
_EPOCH_DIGITS = re.compile(r"1[0-9]{12}(?:[0-9]{3}(?:[0-9]{3})?)?")
_FIRST_SECOND, _LAST_SECOND = 1_420_070_400, 2_208_988_800  # 2015 and 2040
_DAY = re.compile(r"20(?:1[5-9]|[2-9][0-9])-[01][0-9]-[0-3][0-9]")


def number(value: Json) -> int | float | None:
    """Any finite number that fits 64 bits; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if MIN_SIGNED_64 <= value <= MAX_UNSIGNED_64 else None


def number_below(limit: int) -> Callable[[Json], int | float | str | None]:
    """A rule for numbers between -limit and limit, exclusive, and for texts that spell one of at most 5 digits."""

    def rule(value: Json) -> int | float | str | None:
        kind = type(value)
        if kind is int or kind is float:
            return value if -limit < value < limit else None
        if isinstance(value, str):
            return value if len(value) <= 20 and _NUMBER_TEXT.fullmatch(value) else None
        found = number(value)
        return found if found is not None and -limit < found < limit else None

    return rule


small_number = number_below(SMALL_NUMBER)
score = number_below(SCORE_LIMIT)
setting = number_below(SETTING_LIMIT)


def any_number(value: Json) -> int | float | str | None:
    """Any number that fits 64 bits, or a text that spells a small one."""
    return small_number(value) if isinstance(value, str) else number(value)


def epoch(value: Json) -> int | float | str | None:
    """A time or a duration as a number, or an epoch time of this century spelled in digits: milliseconds to nanoseconds."""
    if isinstance(value, str):
        return value if len(value) <= 19 and _EPOCH_DIGITS.fullmatch(value) else None
    return number(value)


def epoch_of_this_time(value: Json) -> int | float | str | None:
    """An epoch time from 2015 to 2040 in seconds, or thousandths to billionths of one; a small number, as of an offset."""
    if isinstance(value, str):
        return epoch(value)
    found = number(value)
    if found is None or -SMALL_NUMBER < found < SMALL_NUMBER:
        return found
    return found if any(_FIRST_SECOND <= found / unit < _LAST_SECOND for unit in (1, 1e3, 1e6, 1e9)) else None


def boolean(value: Json) -> bool | str | None:
    """True, false, or the words for them."""
    if isinstance(value, bool):
        return value
    return value if isinstance(value, str) and value.strip().lower() in ("true", "false") else None


def time(value: Json) -> str | None:
    """An ISO 8601 time of this century, or a day from 2015 on: an older day without a time may be a date of birth."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    return value if _TIME.fullmatch(value) or _DAY.fullmatch(value) else None


# -- identifiers that developers write ------------------------------------------------------------------------------------

_NAME_SHAPE = re.compile(r"[A-Za-z0-9 _.\-/:{}()\[\]<>*+,|#]{1,200}")
_MODEL_SHAPE = re.compile(r"[A-Za-z\[](?:[A-Za-z0-9 _.\-/:\[\]+]|@(?=[0-9]|latest|default|stable)){0,199}")
_ERROR_TYPE_SHAPE = re.compile(r"[*&]?[A-Za-z_][A-Za-z0-9_]*(?:(?:\.|::|/)[A-Za-z_][A-Za-z0-9_]*)*")
_CHUNK = re.compile(r"\[redacted\]|[A-Za-z0-9]+")
_DIGIT_OR_COLON = re.compile("[0-9:]")
_LONG_DIGITS = re.compile(r"[0-9](?:[ .()\-/]{0,2}[0-9]){6}")
_DATE_IN_NAME = re.compile(r"20[0-9]{2}-?[01][0-9]-?[0-3][0-9](?![0-9])")
_MODEL_PARTS = listed(
    "ada babbage curie davinci dall bert ernie gemma julia intfloat bge baai thudm tii nomic snowflake jina marco lora qlora"
)
_ADDRESS = re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])|(?:[0-9A-Fa-f]{1,4}:{1,2}){2,}[0-9A-Fa-f]{1,4}")
_STREET = re.compile(r"(?i)[a-z0-9] +(?:street|avenue|road|lane|boulevard|st|ave|rd|blvd)(?![a-z])")
_SECRET = re.compile(
    r"(?:sk|pk|rk)[-_](?:live|test|proj|ant|or)[-_]|gh[pousr]_|xox[abprs]-|AKIA|AIza|eyJ[A-Za-z0-9]|glpat-|hf_[A-Za-z]"
)
_IP = re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])")


@_remembering
def name(value: Json) -> str | None:
    """A name that a developer gave: a span, service, environment, tool, route. At most 200 characters.

    Words of the vocabulary and plain identifiers stay; people's names, codes and long numbers in it become `[redacted]`.
    A name with spaces or a path must be words of the vocabulary. E-mail addresses, query strings, telephone numbers and
    what is mostly redacted are refused as a whole.
    """
    return _masked(value, _NAME_SHAPE)


@_remembering
def model(value: Json) -> str | None:
    """A model or provider name such as `gpt-4o-mini-2024-07-18` or `claude-sonnet-4@20250514`; customers' parts masked."""
    return _masked(value, _MODEL_SHAPE, _MODEL_PARTS)


@_remembering
def error_type(value: Json) -> str | None:
    """A class name, dotted or not, such as `openai.RateLimitError`."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_LENGTH or not _ERROR_TYPE_SHAPE.fullmatch(value):
        return None
    is_plain = all(is_plain_chunk(chunk) for chunk in _CHUNK.findall(value))
    return value if is_plain and not RECORD_NUMBER.search(value) else None


@_remembering
def evaluator_name(value: Json) -> str | None:
    """An evaluator's name, whole or not at all: letters, digits, `_ - .` and spaces."""
    if not isinstance(value, str) or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_ .\-]{0,199}", value) is None:
        return None
    return value if _masked(value, _NAME_SHAPE) == value else None


def _masked(value: Json, shape: re.Pattern[str], also: frozenset[str] = frozenset()) -> str | None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_LENGTH or shape.fullmatch(value) is None:
        return None
    is_prose = " " in value or "/" in value
    counts = [0, 0]

    def judged(match: re.Match[str]) -> str:
        chunk = match[0]
        if chunk == MASK:
            return chunk
        plain = chunk.lower() in also or (is_plain_chunk(chunk) and not (is_prose and _has_unknown_word(chunk)))
        counts[plain] += 1
        return chunk if plain else MASK

    masked = _CHUNK.sub(judged, value)
    if counts[False] > counts[True] or counts[True] == 0:
        return None
    return None if _is_personal(masked) else masked


def _is_personal(text: str) -> bool:
    """Whether chunks that are harmless alone make a number, an address or a secret together."""
    if _SECRET.search(text) or (" " in text and _STREET.search(text)):
        return True
    if _DIGIT_OR_COLON.search(text) is None:
        return False
    rest = _DATE_IN_NAME.sub("", text)
    chunks = _CHUNK.findall(rest)
    if sum(map(str.isdigit, chunks)) >= _NUMBERS_OF_ADDRESS or _single_letters(chunks) >= _SPELLED_OUT:
        return True
    return any(pattern.search(rest) for pattern in (_LONG_DIGITS, _ADDRESS, RECORD_NUMBER))


_NUMBERS_OF_ADDRESS = 4
_SPELLED_OUT = 6


def _single_letters(chunks: list[str]) -> int:
    """How many letters and digits stand alone: `2-0-0-1-d-b-8` spells an address out."""
    return sum(len(chunk) == 1 for chunk in chunks)


def _has_unknown_word(chunk: str) -> bool:
    if is_word(chunk.lower()):
        return False
    return any(
        len(part) > 2
        and not part.isdigit()
        and not is_word(part)
        and part not in _DOMAINS
        and not is_word(part.removesuffix("s"))
        for part in pieces(chunk)
    )


_DOMAINS = frozenset({"com", "org", "net", "dev"})


# -- versions, ids, words -------------------------------------------------------------------------------------------------

_VERSION = re.compile(
    r"[vV]?(?:20[0-9]{2}(?:-[01][0-9])?|[0-9]{1,2})(?:\.[0-9]{1,4}){0,2}(?:\.(?:dev|post)?[0-9]{1,4})?"
    r"(?:[-.+_]?(?:alpha|beta|rc|dev|post|preview|final|snapshot|a|b)[-.]?[0-9]{0,4})?(?:[-+](?=[0-9a-f]*[a-f])[0-9a-f]{7,12})?"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_DIGEST = re.compile(r"(?:(?:sha1|sha256|sha512|md5|blake3)[:\-])?([0-9a-f]{7,64}|[0-9]{20,39})")
_HEX_CODE = re.compile(r"(?=.*[a-f])(?=.*[0-9])[0-9a-f]{7,64}|[0-9]{20,39}")
_PREFIXED = re.compile(
    r"(?:(?:chatcmpl|cmpl|resp|req|request|call|msg|message|run|step|gen|toolu|tool|tooluse|fc|batch|fp|id|trace|span|evt|event|task|job|asst|"
    r"dataset|prompt|rs|ws|mcp|eval|ft|ftjob|file|cohere|functions|dpl|deploy|"
    r"pmpt|exp|wf|ckpt)[_\-.:]){1,2}([A-Za-z0-9_\-]{1,64})(?::[0-9]{1,4})?"
)
_TRACE_CODE = re.compile(r"(?=.*[a-fA-F])(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{32})|[0-9]{17,39}|" + _UUID.pattern)
_DIGITS_7 = re.compile(r"[0-9]{7}")


@_remembering
def version(value: Json) -> str | None:
    """A version such as `4.16.0`, `2026.1`, `v2-rc1` or `1.0.0.dev3`; four bare numbers could be an address and are none."""
    if isinstance(value, (int, float)):
        return small_number(value)  # type: ignore[return-value]  # a version written as a number stays one
    if not isinstance(value, str) or len(value) > 40 or _VERSION.fullmatch(value) is None:
        return None
    return None if _IP.search(value) else value


def code(value: Json) -> str | None:
    """A commit or digest in hexadecimal digits, 7 to 64 of them with both letters and digits, or a UUID."""
    if not isinstance(value, str) or len(value) > 72:
        return None
    digest = _DIGEST.fullmatch(value)
    return value if (digest and _HEX_CODE.fullmatch(digest[1])) or _UUID.fullmatch(value) else None


def machine_id(value: Json) -> str | None:
    """An id that a machine made: a UUID, hexadecimal digits, a small number, or a known prefix and a code (`call_1`)."""
    if isinstance(value, str) and len(value) <= 80:
        if _UUID.fullmatch(value) or _HEX_CODE.fullmatch(value) or _NUMBER_TEXT.fullmatch(value):
            return value
        prefixed = _PREFIXED.fullmatch(value)
        if prefixed and _is_code(prefixed[1]):
            return value
    return None


def _is_code(text: str) -> bool:
    if text.isdigit():
        return len(text) <= 6
    if _DIGITS_7.search(text) and not _HEX_CODE.fullmatch(text.lower()) and not _UUID.fullmatch(text):
        return False
    if len(text) >= 5 and re.search("[0-9]", text) and re.search("[A-Za-z]", text) and "-" not in text[1:-1]:
        return all(chunk.isdigit() or not _is_person(chunk) for chunk in re.split("[_]", text))
    return bool(_UUID.fullmatch(text)) or all(is_plain_chunk(chunk) for chunk in re.split(r"[_\-]+", text))


def _is_person(chunk: str) -> bool:
    """Whether a code is a name of a person with digits before or behind."""
    letters = chunk.strip("0123456789")
    return is_name(letters.lower())


def trace_code(value: Json) -> str | None:
    """A trace or span id of 64 bits or more: 16 or 32 hexadecimal digits with a letter, 17 to 39 decimal ones, or a UUID."""
    return value if isinstance(value, str) and len(value) <= 39 and _TRACE_CODE.fullmatch(value) else None


_KNOWN_LABELS = frozenset(label for rule in RULES for label in rule.labels) | {
    "no hallucination",
    "not found",
    "not toxic",
    "answered",
    "matched",
    "relevant",
}


def documented_label(value: Json) -> str | None:
    """An evaluation's label that the table of signals, or Datadog, documents."""
    return value if isinstance(value, str) and len(value) <= 128 and normal_label(value) in _KNOWN_LABELS else None


@_remembering
def label(value: Json) -> str | None:
    """An evaluation's label: a documented one, or at most 4 words of the vocabulary."""
    if not isinstance(value, str) or len(value) > 128:
        return None
    if normal_label(value) in _KNOWN_LABELS or _GRADE.fullmatch(value) or _LOCALE.fullmatch(value):
        return value
    return value if is_known_words(value.strip(), 4) and not _STREET.search(value) else None


_GRADE = re.compile(r"[A-Fa-f][+-]?|[Nn]/?[Aa]|[0-9]{1,3}(?:\.[0-9])?(?:/[0-9]{1,3}|%| stars?| points?| percent)")
_LOCALE = re.compile(r"[a-z]{2}(?:[-_](?:[A-Z]{2}|[a-z]{2}|[A-Z][a-z]{3}|hans|hant|latn|cyrl|arab))?")
_LEVEL = re.compile(r"[pvPV][0-9]{1,2}|A/B|[lLtTqQhH][0-9]|[sS][eE][vV][-_ ]?[0-9]")
_LETTER_BEFORE = re.compile("^[A-Za-z]-(?=[A-Za-z]{3})")
_CODE_LETTERS = re.compile(r"[A-Z]{2,3}")


@_remembering
def words(value: Json) -> str | None:
    """An enum-like value: at most 3 words of the vocabulary, 5 where no space parts them.

    Not in title case (`Elm Street`), no street address; `p2`, `v3` and language codes count too.
    """
    if not isinstance(value, str) or len(value) > 96:
        return None
    if _LOCALE.fullmatch(value) or _LEVEL.fullmatch(value):
        return value
    plain = _LETTER_BEFORE.sub("", value.strip("_").replace(" & ", " "), count=1)
    if not is_known_words(plain, 3 if " " in value else 5) and not _is_run_together(value):
        return None
    chunks = plain.split()
    if len(chunks) > 1 and (all(chunk[0].isupper() for chunk in chunks) and not value.isupper()):
        return None
    return None if _STREET.search(value) else value


def _is_run_together(text: str) -> bool:
    """Whether a word is several words run together, as Datadog lower-cases `VectorStoreRetriever` in tags."""
    return 12 <= len(text) <= _MAX_RUN and text.isalpha() and text.isascii() and _is_run(text.lower(), 1, is_technical=False)


_MAX_RUN = 40


def _is_run(text: str, count: int, *, is_technical: bool) -> bool:
    """Whether a text is the words from the `count`-th on: at most four; two or more with one of the trade, else three."""
    for n in range(min(len(text), _MAX_RUN_WORD), 2, -1):
        part = text[:n]
        if is_word(part) and not is_name(part):
            known = is_technical or part in technical_words()
            if n == len(text):
                return count > 2 or (known and count > 1)
            if count < _MAX_RUN_WORDS and _is_run(text[n:], count + 1, is_technical=known):
                return True
    return False


_MAX_RUN_WORD, _MAX_RUN_WORDS = 16, 4


@_remembering
def locale(value: Json) -> str | None:
    """A language, country or currency code."""
    return value if isinstance(value, str) and (_LOCALE.fullmatch(value) or _CODE_LETTERS.fullmatch(value)) else None


# -- what software says of itself -----------------------------------------------------------------------------------------

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


@_remembering
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
    rest = _DATE_IN_NAME.sub("", value)
    digits = sum(map(str.isdigit, rest))
    has_letter = any(map(str.isalpha, rest))
    is_hash = _HEX_CODE.search(rest) is not None
    return (
        None
        if _IP.search(value) or (digits > _DIGITS_OF_BUILD and not is_hash) or not (has_letter or rest != value)
        else value
    )


_SAFE = "bcdf-hj-np-tv-z2456789"
_POD = re.compile(
    rf"([a-z][a-z0-9.\-]{{0,60}}?)(?:(?:-(?:[{_SAFE}]{{8,10}}|[0-9a-f]{{8,10}}))?-[{_SAFE}]{{5}}|-[0-9]{{1,4}})"
)
"""What Kubernetes adds to a workload's name: no vowels, and no digits that look like letters.

Source: `k8s.io/apimachinery/pkg/util/rand`, whose alphabet this is.
"""


@_remembering
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


@_remembering
def image(value: Json) -> str | None:
    """A container image: registry, path, tag and digest."""
    if not isinstance(value, str) or len(value) > MAX_NAME_LENGTH or "@" in value.partition("@sha256:")[0]:
        return None
    found = _IMAGE.fullmatch(value)
    if found is None or _LONG_DIGITS.search(found[1]) or _IP.search(found[1]) or RECORD_NUMBER.search(found[1]):
        return None
    if not all(is_plain_chunk(chunk) for chunk in _CHUNK.findall(found[1])):
        return None
    is_reference = "/" in found[1] or found[2] is not None or found[3] is not None or is_known_words(found[1], 5)
    tag = found[2]
    is_tag = tag is None or version(tag) is not None or release(tag) is not None or words(tag) is not None
    return value if is_reference and is_tag else None


_PACKAGE = re.compile(
    r"@?([A-Za-z][A-Za-z0-9_.\-]{0,50}(?:/[A-Za-z][A-Za-z0-9_.\-]{0,50})?)"
    r"(?:(?:==|[@/: ]|~=|>=)([vV]?[0-9][A-Za-z0-9.+\-]{0,20}))?"
)


@_remembering
def package(value: Json) -> str | None:
    """A library of words of the vocabulary, with its scope and version: `openai-python/1.51.0`, `@anthropic-ai/sdk`."""
    found = _PACKAGE.fullmatch(value) if isinstance(value, str) and len(value) <= 120 else None
    if found is None or not all(is_word(part) or (part.isdigit() and len(part) < 3) for part in pieces(found[1])):
        return None
    return value if found[2] is None or version(found[2]) is not None else None


_ERROR_CODE = re.compile(r"(?:E|ERR|ERROR|EC|HTTP|SQLSTATE|SQL|ORA|PG|W|WARN|EXC|SEV)[-_]?[0-9]{1,5}", re.IGNORECASE)


@_remembering
def error_code(value: Json) -> str | None:
    """A code of an error: `E1001`, `ERR-1042`, `E_TIMEOUT`, `ECONNRESET`."""
    if not isinstance(value, str) or not 0 < len(value) <= 60:
        return None
    if _ERROR_CODE.fullmatch(value):
        return value
    head, _, rest = value.partition("_")
    return value if head.lower() in ("e", "err") and is_known_words(rest, 5) else None


@_remembering
def identifier(value: Json) -> str | None:
    """One identifier of words of the vocabulary, without a space: `support_v12`, `rag-answer`, `summarize.v2`."""
    return value if isinstance(value, str) and " " not in value and is_known_words(value, 6) else None


def zone(value: Json) -> str | None:
    """A time zone of the IANA database."""
    return value if isinstance(value, str) and value.lower() in time_zones() else None


class Kind(StrEnum):
    """The value rules by name, as the tables of fields use them."""

    NUMBER = "number"
    AMOUNT = "amount"
    BOOLEAN = "boolean"
    NAME = "name"
    MODEL = "model"
    ERROR_TYPE = "error_type"
    LABEL = "label"
    WORDS = "words"
    VERSION = "version"
    CODE = "code"
    MACHINE_ID = "machine_id"
    TRACE_CODE = "trace_code"
    TIME = "time"
    LOCALE = "locale"
    EPOCH = "epoch"
    SCORE = "score"
    RELEASE = "release"
    POD = "pod"
    IMAGE = "image"
    PACKAGE = "package"
    ERROR_CODE = "error_code"
    IDENTIFIER = "identifier"
    ZONE = "zone"


RULE_OF: dict[Kind, Callable[[Json], Json]] = {
    Kind.NUMBER: setting,
    Kind.AMOUNT: any_number,
    Kind.BOOLEAN: boolean,
    Kind.NAME: name,
    Kind.MODEL: model,
    Kind.ERROR_TYPE: error_type,
    Kind.LABEL: label,
    Kind.WORDS: words,
    Kind.VERSION: version,
    Kind.CODE: code,
    Kind.MACHINE_ID: machine_id,
    Kind.TRACE_CODE: trace_code,
    Kind.TIME: time,
    Kind.LOCALE: locale,
    Kind.EPOCH: epoch_of_this_time,
    Kind.SCORE: score,
    Kind.RELEASE: release,
    Kind.POD: pod,
    Kind.IMAGE: image,
    Kind.PACKAGE: package,
    Kind.ERROR_CODE: error_code,
    Kind.IDENTIFIER: identifier,
    Kind.ZONE: zone,
}


def kept(value: Json, kinds: tuple[Kind, ...]) -> Json:
    """What the first rule that accepts the value keeps of it, or None."""
    for kind in kinds:
        found = RULE_OF[kind](value)
        if found is not None:
            return found
    return None
