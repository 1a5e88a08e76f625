"""Codes: opaque tokens, and runs that encode something. Nobody can tell whose they are, so they go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from string import digits

from evalforge.core.privacy.keys import is_plain_chunk
from evalforge.core.privacy.text.catalogues import CATALOGUES
from evalforge.core.privacy.text.decoding import decoded_run
from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View, whole
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.vocabulary import is_known_words, is_word, listed, pieces

MIN_OPAQUE = 8
"""Letters and digits that a token needs to be judged as a code."""

_MODEL_HEADS = listed(
    "gpt chatgpt claude gemini llama mistral mixtral ministral codestral pixtral magistral devstral qwen qwen2 "
    "qwen3 deepseek command text "
    "embed o1 o3 o4 phi gemma falcon nova titan dall tts whisper davinci babbage ada bge e5 gte minilm rerank "
    "voyage jina grok sonar "
    "yi glm kimi granite nemotron solar dbrx mpt bert roberta distilbert t5 flan stable sdxl flux imagen veo "
    "palm bison gecko "
    "multilingual nomic mxbai snowflake claude2 computer anthropic amazon meta cohere us eu apac global models "
    "openai azure google"
)
_DATED = re.compile(r"20[12][0-9][01][0-9](?:[0-3][0-9])?|[01][0-9][0-3][0-9]")
_MODEL_PART = re.compile(
    r"(?i)v?[0-9]{1,3}[a-z]{0,2}[0-9]?|[0-9]{1,4}[bmk]|[a-z]{1,3}[0-9]{1,2}[a-z]?|[0-9]{1,2}x[0-9]{1,3}[bm]?|[0-9]{4}|q[0-9]_[0-9a-z]{1,3}"
)
_HASH = re.compile("[0-9a-f]{7,40}")
_COMMIT = re.compile(
    r"(?:commits?|hash|sha|revision|rev|git|checkout|head|merge|build|digest|checksum|etag)[\"'(:@ =]{1,4}$"
)
_AT_COMMIT = re.compile(r"(?:\b(?:at|since)[ (`'\"]{1,3})$")
_COMMIT_LENGTHS = frozenset({7, 8, 9, 10, 11, 12, 40})
_ADDRESS = re.compile(r"0x(?:0000)?[0-9a-f]{6,12}")
_RUN = re.compile("[0-9]+|[a-z]+|[A-Z]+")
_SEPARATORS = re.compile(r"[_.\-/+=:~]+")


def _token(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    token = view.plain[start:end]
    stripped = token.strip("-_.")
    start += token.find(stripped) if stripped else 0
    end = start + len(stripped)
    if len(stripped) < 6 or "@" in (view.plain[end : end + 1], view.plain[start - 1 : start]) or is_harmless_token(stripped):
        return ()
    if _ADDRESS.fullmatch(stripped.lower()) and view.before(start, 5).endswith("at "):
        return ()  # where an object lies in memory
    if is_commit(stripped, view.before(start, 16)):
        return ()
    kind = TextKind.ENCODED if decoded_run(stripped) is not None else TextKind.CODE
    return (view.found(start, end, kind, view.text[start:end]),)


def is_commit(token: str, before: str) -> bool:
    """Whether a token is the hash of a commit, short or whole, by the words in lower case that stand before it."""
    if _HASH.fullmatch(token) is None:
        return False
    return _COMMIT.search(before) is not None or (_AT_COMMIT.search(before) is not None and len(token) in _COMMIT_LENGTHS)


@lru_cache(maxsize=4096)
def is_harmless_token(token: str) -> bool:
    """Whether a token of letters, digits, `_ . - /` reads like what developers or vendors name: `gpt-4o`, `sha256`."""
    parts = [part for part in _SEPARATORS.split(token) if part]
    letters_and_digits = sum(map(len, parts))
    if letters_and_digits < MIN_OPAQUE:
        return not _is_shuffled(token)
    if not any(map(str.isdigit, token)):
        return True  # letters only: for the prose to judge
    head = parts[0].lower()
    if (head in _MODEL_HEADS or is_word(head)) and all(map(_is_model_part, parts)):
        return True
    if sum(map(_is_odd, parts)) > 1 or (len(parts) > 2 and all(map(_is_mixed, parts))):
        return False
    if len(parts) > 1 and all(part.isdigit() for part in parts):
        return True  # numbers have a detector of their own
    if parts[0] in CATALOGUES and all(part.isdigit() for part in parts[1:]):
        return True
    if len(parts) > 1 and all(re.fullmatch("[0-9]+[A-Za-z]{0,2}|[A-Za-z][0-9]{0,2}", part) for part in parts):
        return letters_and_digits < 12
    return all(is_plain_chunk(part) for part in parts) and not (letters_and_digits >= 16 and _is_shuffled(token))


def _is_odd(part: str) -> bool:
    """Whether a part mixes digits, small and capital letters: `0yQo`, `VV3n`."""
    return len(part) > 2 and any(map(str.isdigit, part)) and any(map(str.islower, part)) and any(map(str.isupper, part[1:]))


def _is_mixed(part: str) -> bool:
    return len(part) > 2 and not part.isalpha() and not part.isdigit()


def _is_model_part(part: str) -> bool:
    low = part.lower()
    if low in _MODEL_HEADS or is_word(low) or _DATED.fullmatch(part) or _MODEL_PART.fullmatch(part):
        return True
    return (
        len(part) <= 14
        and is_plain_chunk(part)
        and all(piece.isdigit() or is_word(piece) or len(piece) <= 2 for piece in pieces(part))
    )


def _is_shuffled(token: str) -> bool:
    """Whether letters and digits change places so often that nobody would remember the token."""
    for part in _SEPARATORS.split(token):
        runs = _RUN.findall(part) if len(part) >= 5 else ()
        if len(runs) >= 5 and len(runs) * 2 >= len(part) - 1 and re.search("[0-9]", part):
            return True
    return False


def _letters(view: View, match: Match) -> Iterable[Finding]:
    """Letters that decode to readable text although no digit gives them away: `bWFyaWE`."""
    start, end = match.span(1)
    token = view.plain[start:end]
    if (token.islower() and len(token) < 16) or token.istitle() or is_known_words(token, 8):
        return ()
    if len(pieces(token)) > 1 and all(is_word(piece) for piece in pieces(token)):
        return ()
    if decoded_run(token) is not None:
        return (view.found(start, end, TextKind.ENCODED, view.text[start:end]),)
    if len(token) >= 32 and not token.islower() and not all(len(piece) > 2 for piece in pieces(token)):
        return (view.found(start, end, TextKind.CODE, view.text[start:end]),)
    return ()


def _padded(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    token = view.plain[start:end]
    if is_known_words(token.rstrip("="), 4) and decoded_run(token) is None:
        return ()
    return (view.found(start, end, TextKind.ENCODED, view.text[start:end]),)


def _base64(view: View, match: Match) -> Iterable[Finding]:
    """Base64 with `+` and `/` in it, which part it like a path or words."""
    start, end = match.span(1)
    token = view.plain[start:end]
    if "+" not in token and "/" not in token:
        return ()
    has_all = any(map(str.islower, token)) and any(map(str.isupper, token)) and any(map(str.isdigit, token))
    if not has_all or all(is_plain_chunk(part) for part in re.split("[+/=]+", token) if part):
        return ()
    return (view.found(start, end, TextKind.CODE, view.text[start:end]),)


def _hex_bytes(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    if decoded_run(view.plain[start:end]) is None:
        return ()
    return (view.found(start, end, TextKind.ENCODED, view.text[start:end].lower()),)


def _block(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    return (view.found(start, end, TextKind.ENCODED, view.text[start:end]),)


_UUID = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_EDGE, _END = rf"(?:^|[^0-9{LETTER}_])", rf"(?:$|[^0-9{LETTER}_])"


def _marked(view: View, match: Match) -> Iterable[Finding]:
    """Passwords as people make them: `Monkey3065#`, `ZdCr?*kNixx7`."""
    start, end = match.span(1)
    token = view.plain[start:end].rstrip(".,;:)")
    if len(token) < 8 or not re.search("[A-Za-z]", token) or not re.search("[0-9]", token):
        return ()
    inner = re.search(r"[0-9A-Za-z][#$%^&*!?~]+[0-9A-Za-z]", token)
    tail = re.search(r"[A-Za-z](?:[0-9]{2,}[#$^&*~]|[0-9]{3,}[!?])+$", token)
    if tail is None and inner is None:
        return ()
    if tail is None and not (any(map(str.isupper, token)) and any(map(str.islower, token))):
        return ()
    return (view.found(start, start + len(token), TextKind.SECRET, view.text[start : start + len(token)]),)


SURE: tuple[Detector, ...] = (
    Detector(
        "uuid",
        rf"(?:^|[^0-9A-Fa-f])({_UUID})(?:$|[^0-9A-Fa-f])",
        whole(TextKind.CODE, 1),
    ),
)
"""Codes that are told by their shape alone."""

DETECTORS: tuple[Detector, ...] = (
    Detector(
        "password",
        r"(?:^|[\s\"'(=:,])([0-9A-Za-z#$%^&*!?~@_\-.]{8,40})(?:$|[\s\"'),;])",
        _marked,
        gate=r"[0-9A-Za-z][#$%^&*~!?]+[0-9A-Za-z]|[0-9][#$^&*~!?]",
    ),
    Detector(
        "base64_block",
        r"((?:[0-9A-Za-z+/_\-]{40,100}\r?\n)+[0-9A-Za-z+/_\-]{2,100}={0,2})",
        _block,
        gate=r"[0-9A-Za-z+/_\-]{40}\r?\n[0-9A-Za-z+/]",
    ),
    Detector(
        "base64_padded",
        r"(?:^|[^0-9A-Za-z+/_\-])([0-9A-Za-z+/_\-]{6,}={1,2})(?:$|[^0-9A-Za-z+/=])",
        _padded,
        gate=r"[0-9A-Za-z+/_\-]{6}=(?:$|[^0-9A-Za-z\"'\[{(])",
    ),
    Detector("base64_long", r"(?:^|[^0-9A-Za-z+/_\-])([0-9A-Za-z+/]{20,}={0,2})", _base64, gate=r"[0-9A-Za-z+/]{20}"),
    Detector(
        "hex_bytes", rf"{_EDGE}((?:(?:0x)?[0-9A-Fa-f]{{2}}[ :,\-]{{1,2}}){{3,}}(?:0x)?[0-9A-Fa-f]{{2}}){_END}", _hex_bytes
    ),
    Detector(
        "token",
        r"(?:^|[^0-9A-Za-z_\-.~])([0-9A-Za-z_\-.~]*(?:[A-Za-z_][0-9A-Za-z_\-.~]*[0-9]|[0-9][0-9_\-.~]*[A-Za-z])[0-9A-Za-z_\-.~]*)",
        _token,
        gate=r"[0-9A-Za-z_\-]{5}[0-9A-Za-z_\-.]*(?:[A-Za-z_][\-.]?[0-9]|[0-9][\-.]?[A-Za-z])|(?:[A-Za-z_][\-.]?[0-9]|[0-9][\-.]?[A-Za-z])[0-9A-Za-z_\-.]{4}",
        needs=digits,
    ),
    Detector(
        "letters",
        r"(?:^|[^0-9A-Za-z+/_\-])([A-Za-z]*[a-z][A-Z]+[a-z]*[A-Z][A-Za-z]*|[a-z]{16,}|[A-Z]{16,})(?:$|[^0-9A-Za-z])",
        _letters,
        gate=r"[a-z][A-Z]+[a-z]*[A-Z]|[a-z]{16}|[A-Z]{16}",
    ),
)
