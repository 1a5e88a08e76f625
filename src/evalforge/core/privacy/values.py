"""Value rules for names, ids and words: each takes a raw value and gives back what may be stored of it, or None.

All are full matches on bounded lengths, and linear in time. What a rule refuses becomes a placeholder that tells the JSON
type and the size of what was there: `[redacted:text 23]` (characters), `[redacted:number]`, `[redacted:object 3]` (keys),
`[redacted:list 2]` (items).
"""

from __future__ import annotations

import re

from evalforge.core.privacy.keys import RECORD_NUMBER, is_plain_chunk
from evalforge.core.privacy.marks import MASK, remembering
from evalforge.core.privacy.measures import NUMBER_TEXT, small_number
from evalforge.core.privacy.vocabulary import is_known_words, is_name, is_word, listed, pieces, technical_words
from evalforge.core.signals import RULES, normal_label
from evalforge.core.span import Json

MAX_NAME_LENGTH = 200

# -- identifiers that developers write ------------------------------------------------------------------------------------

_NAME_SHAPE = re.compile(r"[A-Za-z0-9 _.\-/:{}()\[\]<>*+,|#]{1,200}")
_MODEL_SHAPE = re.compile(r"[A-Za-z\[](?:[A-Za-z0-9 _.\-/:\[\]+]|@(?=[0-9]|latest|default|stable)){0,199}")
_ERROR_TYPE_SHAPE = re.compile(r"[*&]?[A-Za-z_][A-Za-z0-9_]*(?:(?:\.|::|/)[A-Za-z_][A-Za-z0-9_]*)*")
CHUNK = re.compile(r"\[redacted\]|[A-Za-z0-9]+")
_DIGIT_OR_COLON = re.compile("[0-9:]")
LONG_DIGITS = re.compile(r"[0-9](?:[ .()\-/]{0,2}[0-9]){6}")
DATE_IN_NAME = re.compile(r"20[0-9]{2}-?[01][0-9]-?[0-3][0-9](?![0-9])")
_MODEL_PARTS = listed(
    "ada babbage curie davinci dall bert ernie gemma julia intfloat bge baai thudm tii nomic snowflake jina marco lora qlora"
)
_ADDRESS = re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])|(?:[0-9A-Fa-f]{1,4}:{1,2}){2,}[0-9A-Fa-f]{1,4}")
_STREET = re.compile(r"(?i)[a-z0-9] +(?:street|avenue|road|lane|boulevard|st|ave|rd|blvd)(?![a-z])")
_SECRET = re.compile(
    r"(?:sk|pk|rk)[-_](?:live|test|proj|ant|or)[-_]|gh[pousr]_|xox[abprs]-|AKIA|AIza|eyJ[A-Za-z0-9]|glpat-|hf_[A-Za-z]"
)
IP = re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])")


@remembering
def name(value: Json) -> str | None:
    """A name that a developer gave: a span, service, environment, tool, route. At most 200 characters.

    Words of the vocabulary and plain identifiers stay; people's names, codes and long numbers in it become `[redacted]`.
    A name with spaces or a path must be words of the vocabulary. E-mail addresses, query strings, telephone numbers and
    what is mostly redacted are refused as a whole.
    """
    return _masked(value, _NAME_SHAPE)


@remembering
def model(value: Json) -> str | None:
    """A model or provider name such as `gpt-4o-mini-2024-07-18` or `claude-sonnet-4@20250514`; customers' parts masked."""
    return _masked(value, _MODEL_SHAPE, _MODEL_PARTS)


@remembering
def error_type(value: Json) -> str | None:
    """A class name, dotted or not, such as `openai.RateLimitError`."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_LENGTH or not _ERROR_TYPE_SHAPE.fullmatch(value):
        return None
    is_plain = all(is_plain_chunk(chunk) for chunk in CHUNK.findall(value))
    return value if is_plain and not RECORD_NUMBER.search(value) else None


@remembering
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

    masked = CHUNK.sub(judged, value)
    if counts[False] > counts[True] or counts[True] == 0:
        return None
    return None if _is_personal(masked) else masked


def _is_personal(text: str) -> bool:
    """Whether chunks that are harmless alone make a number, an address or a secret together."""
    if _SECRET.search(text) or (" " in text and _STREET.search(text)):
        return True
    if _DIGIT_OR_COLON.search(text) is None:
        return False
    rest = DATE_IN_NAME.sub("", text)
    chunks = CHUNK.findall(rest)
    if sum(map(str.isdigit, chunks)) >= _NUMBERS_OF_ADDRESS or _single_letters(chunks) >= _SPELLED_OUT:
        return True
    return any(pattern.search(rest) for pattern in (LONG_DIGITS, _ADDRESS, RECORD_NUMBER))


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
HEX_CODE = re.compile(r"(?=.*[a-f])(?=.*[0-9])[0-9a-f]{7,64}|[0-9]{20,39}")
_PREFIXED = re.compile(
    r"(?:(?:chatcmpl|cmpl|resp|req|request|call|msg|message|run|step|gen|toolu|tool|tooluse|fc|batch|fp|id|trace|span|evt|event|task|job|asst|"
    r"dataset|prompt|rs|ws|mcp|eval|ft|ftjob|file|cohere|functions|dpl|deploy|"
    r"pmpt|exp|wf|ckpt)[_\-.:]){1,2}([A-Za-z0-9_\-]{1,64})(?::[0-9]{1,4})?"
)
_TRACE_CODE = re.compile(r"(?=.*[a-fA-F])(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{32})|[0-9]{17,39}|" + _UUID.pattern)
_DIGITS_7 = re.compile(r"[0-9]{7}")


@remembering
def version(value: Json) -> str | None:
    """A version such as `4.16.0`, `2026.1`, `v2-rc1` or `1.0.0.dev3`; four bare numbers could be an address and are none."""
    if isinstance(value, (int, float)):
        return small_number(value)  # type: ignore[return-value]  # a version written as a number stays one
    if not isinstance(value, str) or len(value) > 40 or _VERSION.fullmatch(value) is None:
        return None
    return None if IP.search(value) else value


def code(value: Json) -> str | None:
    """A commit or digest in hexadecimal digits, 7 to 64 of them with both letters and digits, or a UUID."""
    if not isinstance(value, str) or len(value) > 72:
        return None
    digest = _DIGEST.fullmatch(value)
    return value if (digest and HEX_CODE.fullmatch(digest[1])) or _UUID.fullmatch(value) else None


def machine_id(value: Json) -> str | None:
    """An id that a machine made: a UUID, hexadecimal digits, a small number, or a known prefix and a code (`call_1`)."""
    if isinstance(value, str) and len(value) <= 80:
        if _UUID.fullmatch(value) or HEX_CODE.fullmatch(value) or NUMBER_TEXT.fullmatch(value):
            return value
        prefixed = _PREFIXED.fullmatch(value)
        if prefixed and _is_code(prefixed[1]):
            return value
    return None


def _is_code(text: str) -> bool:
    if text.isdigit():
        return len(text) <= 6
    if _DIGITS_7.search(text) and not HEX_CODE.fullmatch(text.lower()) and not _UUID.fullmatch(text):
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


@remembering
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


@remembering
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


@remembering
def locale(value: Json) -> str | None:
    """A language, country or currency code."""
    return value if isinstance(value, str) and (_LOCALE.fullmatch(value) or _CODE_LETTERS.fullmatch(value)) else None
