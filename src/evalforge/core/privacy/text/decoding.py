"""Brings a text into plain form: what is disguised, escaped or encoded is read as a person would read it.

All patterns here are fixed classes and bounded repeats, so that `re` stays linear.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

from evalforge.core.privacy.text.homoglyphs import without_disguise
from evalforge.core.privacy.vocabulary import is_word

MAX_LENGTH = 256 * 1024
"""Characters. A longer text has no plain form."""

MAX_ROUNDS = 8
_MAX_VIEWS = 32
_MAX_VIEW_DEPTH = 4
_MAX_INFLATED = 64 * 1024

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TERMINAL = re.compile(r"\x1b(?:\[[0-9;?]{0,40}[@-~]|\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\))")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_PERCENT_U = re.compile(r"%u([0-9A-Fa-f]{4})")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7};?|#[xX][0-9A-Fa-f]{1,6};?|[A-Za-z][A-Za-z0-9]{1,30};)")
_QUOTED_RUN = re.compile(r"(?:=[0-9A-F]{2}){2,}")
_QUOTED_AT = re.compile(r"(?<=[A-Za-z0-9._+\-])=40(?=[A-Za-z0-9\-]{1,60}\.[A-Za-z])")
_SOFT_BREAK = re.compile(r"=\r?\n")
_QUOTED_ONE = re.compile(r"=[0-9A-F]{2}")
_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9\-]{1,30})\?([bBqQ])\?([^?\s]{1,2000})\?=")
_HEX_ESCAPES = re.compile(r"(?:\\{1,16}x[0-9A-Fa-f]{2})+")
_U_ESCAPE = re.compile(r"\\{1,16}(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|u\{([0-9A-Fa-f]{1,6})\})")
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_WINDOWS_PATH = r"""(?<![A-Za-z0-9])(?:[A-Za-z]:|\\\\[A-Za-z0-9._\-]{1,80})\\[^/:*?"'<>|\r\n]{1,500}"""
_LATEX = (
    "abla|eq|ewline|eg|otin|ot|u|ode|ewcommand|ormalsize|oindent|sube|leq|earrow|"  # n
    "imes|extbf|extit|exttt|ext|heta|au|anh?|op|riangle|ilde|frac|o|"  # t
    "ho|ightarrow|ight|angle|m|ef|enewcommand"  # r
)
_ESCAPE = re.compile(
    rf"""(?P<path>{_WINDOWS_PATH})|\\(?P<slashes>\\)|\\(?P<quoted>["'/`])|\\(?P<break>[ntr])(?!(?:{_LATEX})(?![a-z]))"""
    r"|(?P<octal>(?:\\[0-3][0-7]{2})+)"
)
_BREAKS = {"n": "\n", "t": "\t", "r": "\r"}
_INLINE = "a|abbr|b|bdi|big|code|em|font|i|ins|mark|s|small|span|strong|sub|sup|tt|u|var|wbr"
_IN_TOKEN, _GOES_ON = r"(?<=[\w.@+\-:/ >])", r"(?=[\w.@+\-:/ <])"
_EMPTY_TAG = re.compile(
    rf"{_IN_TOKEN}(?:<({_INLINE})(?: [^<>\n]{{0,200}})?></\1>|<(?:{_INLINE}) ?/>|<wbr>|<!--[^<>\n]{{0,200}}-->){_GOES_ON}",
    re.IGNORECASE,
)
_TAG_IN_NUMBER = re.compile(rf"(?<=[0-9@])</?(?:{_INLINE})>(?=[0-9@.])|(?<=[.])</?(?:{_INLINE})>(?=[0-9])", re.IGNORECASE)
_STARS_IN_TOKEN = re.compile(r"(?<![\w*])([0-9A-Z]{1,12})\*\*([0-9A-Z]{3,24})\*\*(?![\w*])")
_DATA = re.compile(
    r"(?i)\b(data:[a-z]{1,20}/[a-z0-9.+\-]{1,60}(?:;[a-z0-9=\-]{1,40}){0,3},)((?:%[0-9a-f]{2}|[^\s\"'<>%]){1,65536})"
)
_ENDS_DATA = re.compile(r"[\s\"'<>]+")


def plain_form(text: str) -> str | None:
    """The text normalised and decoded, or None when it cannot be brought into plain form and must be closed whole.

    NFKC; invisible characters removed; look-alike letters folded inside Latin words; percent, HTML, backslash and MIME
    escapes read. Ordinary text keeps its look. `plain_form(plain_form(text)) == plain_form(text)`. None above `MAX_LENGTH`
    characters, and when `MAX_ROUNDS` rounds of decoding do not reach the end.
    """
    if len(text) > MAX_LENGTH:
        return None
    for _ in range(MAX_ROUNDS + 1):
        decoded = _decoded_once(text)
        if decoded == text:
            return text
        if len(decoded) > MAX_LENGTH:
            return None
        text = decoded
    return None


def _decoded_once(text: str) -> str:
    if not text.isascii():
        text = without_disguise(text)
    if not text.isprintable() and _CONTROL.search(text):
        text = _CONTROL.sub(_seen, _TERMINAL.sub("", text))
    if "\\" in text:
        text = _without_escapes(text)
    if "<" in text:
        text = _TAG_IN_NUMBER.sub("", _EMPTY_TAG.sub("", text))
    if "**" in text:
        text = _STARS_IN_TOKEN.sub(_without_stars, text)
    if "%" in text:
        if "data:" in text or "DATA:" in text:
            text = _DATA.sub(_of_data, text)
        text = _PERCENT_U.sub(_of_code_point, _PERCENT.sub(_of_percent, text))
    if "&" in text:
        text = _ENTITY.sub(_of_entity, text)
    if "=" in text:
        text = _without_mime(text)
    return text


def _seen(match: re.Match[str]) -> str:
    return " " if match[0] in "\x0b\x0c" else ""


def _without_escapes(text: str) -> str:
    text = _U_ESCAPE.sub(_of_code_point, _HEX_ESCAPES.sub(_of_hex_escapes, text))
    text = _SURROGATE_PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    return _ESCAPE.sub(_of_escape, text)


def _of_escape(match: re.Match[str]) -> str:
    if match["path"]:
        return match["path"][:2] + match["path"][2:].replace("\\\\", "\\")
    if match["slashes"]:
        return "\\"
    if match["quoted"]:
        return match["quoted"]
    if match["break"]:
        return _BREAKS[match["break"]]
    return _readable(bytes(int(octal, 8) for octal in match["octal"].split("\\")[1:]), match[0])


def _of_hex_escapes(match: re.Match[str]) -> str:
    raw = bytes.fromhex(re.sub(r"\\+x", "", match[0]))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _of_code_point(match: re.Match[str]) -> str:
    code = int(next(group for group in match.groups() if group), 16)
    return chr(code) if code <= 0x10FFFF else match[0]


def _without_stars(match: re.Match[str]) -> str:
    """`CE62**8841D**` is one code that a part of is set in bold; `2**10**3` a power."""
    return match[1] + match[2] if len(match[0]) > 10 else match[0]


def _of_data(match: re.Match[str]) -> str:
    """A value in a URL stays in one piece when it is decoded: what would end the URL becomes `_`."""
    value = match[2]
    for _ in range(MAX_ROUNDS):
        decoded = _PERCENT.sub(_of_percent, value)
        if decoded == value:
            break
        value = decoded
    return match[1] + _ENDS_DATA.sub("_", value)


def _of_percent(match: re.Match[str]) -> str:
    return _readable(bytes.fromhex(match[0].replace("%", "")), match[0])


def _readable(raw: bytes, otherwise: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    # "5%20%de": what decodes by itself does, the rest stays as it was written
    if otherwise.startswith("%") and any(byte < 128 for byte in raw):
        return "".join(chr(byte) if byte < 128 else f"%{byte:02X}" for byte in raw)
    return otherwise


def _of_entity(match: re.Match[str]) -> str:
    return html.unescape(match[0])


def _without_mime(text: str) -> str:
    if "=?" in text:
        text = _ENCODED_WORD.sub(_of_encoded_word, text)
    is_mime = "quoted-printable" in text or (_SOFT_BREAK.search(text) is not None and _QUOTED_ONE.search(text) is not None)
    if is_mime:
        text = _SOFT_BREAK.sub("", text)
        return _QUOTED_ONE.sub(_of_quoted, text)
    return _QUOTED_AT.sub("@", _QUOTED_RUN.sub(_of_quoted, text))


def _of_quoted(match: re.Match[str]) -> str:
    return _readable(bytes.fromhex(match[0].replace("=", "")), match[0])


def _of_encoded_word(match: re.Match[str]) -> str:
    charset, encoding, body = match.groups()
    try:
        raw = base64.b64decode(body + "===") if encoding in "bB" else binascii.a2b_qp(body.replace("_", " "))
        return raw.decode(charset)
    except (ValueError, LookupError):
        return match[0]


# -- encoded runs ---------------------------------------------------------------------------------------------------------

_RUNS = (
    re.compile(r"[A-Za-z0-9+/\-_]{7,}(?:\r?\n[A-Za-z0-9+/\-_]{1,76}){0,4000}={0,2}"),
    re.compile(r"(?:0[xX])?[0-9A-Fa-f]{8,}|(?:[0-9A-Fa-f]{2}[ :\-]){3,2000}[0-9A-Fa-f]{2}"),
)
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_READABLE = re.compile(r"[\w\s!-/:-@\[-`{-~\u00a0-\uffff]+")


def decoded_views(text: str) -> list[str]:
    """Every reading of a text, itself in plain form first: what base64, base32, hexadecimal and compressed runs in it hold.

    Nested up to 4 levels, at most 32 readings of at most 64 KiB each. A text without a plain form is read as it is, cut to
    `MAX_LENGTH` characters.
    """
    plain = plain_form(text)
    views = [plain if plain is not None else text[:MAX_LENGTH]]
    level = views[:]
    for _ in range(_MAX_VIEW_DEPTH):
        below: list[str] = []
        for view in level:
            for run in _encoded_runs(view):
                reading = decoded_run(run)
                if reading is not None and reading not in views:
                    below.append(reading)
                    views.append(reading)
                    if len(views) >= _MAX_VIEWS:
                        return views
        level = below
    return views


def _encoded_runs(text: str) -> Iterator[str]:
    for pattern in _RUNS:
        for match in pattern.finditer(text):
            yield match[0]


def decoded_run(run: str) -> str | None:
    """What one run of base64, base64url, base32 or hexadecimal digits says, in plain form; None when it is not readable."""
    return _decoded_word(run) if is_word(run.lower()) else _decoded_code(run)


def _decoded_code(run: str) -> str | None:
    for raw in _decodings(run):
        reading = readable_text(raw)
        if reading is not None:
            return plain_form(reading) or reading
    return None


_decoded_word = lru_cache(maxsize=16_384)(_decoded_code)
"""The same, remembered: only of words of the vocabulary, which say nothing of anybody."""


def _decodings(run: str) -> Iterator[bytes]:
    run = "".join(run.split())[:MAX_LENGTH]
    digits = re.sub(r"^0[xX]|[:\-]", "", run)
    if len(digits) >= 6 and len(digits) % 2 == 0:
        with suppress(ValueError):
            yield bytes.fromhex(digits)
    body = run.rstrip("=")
    if len(body) >= 7:
        alphabet = body.replace("-", "+").replace("_", "/")
        if len(alphabet) % 4 != 1 and not _NOT_BASE64.search(alphabet):
            yield base64.b64decode(alphabet + "===")
    if len(body) >= 8 and body.isalnum() and (body.isupper() or body.islower()):
        with suppress(ValueError):
            yield base64.b32decode(body.upper() + "=" * (-len(body) % 8))


def readable_text(raw: bytes) -> str | None:
    """Bytes as text, inflated first where they are gzip or zlib (64 KiB at most); None when that gives no readable text."""
    if raw[:2] == b"\x1f\x8b" or (raw[:1] == b"\x78" and raw[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda")):
        try:
            raw = zlib.decompressobj(wbits=47).decompress(raw, _MAX_INFLATED)
        except zlib.error:
            return None
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        if encoding != "utf-8" and (len(raw) % 2 or raw.count(0) * 3 < len(raw)):
            continue
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if len(text) >= 3 and _READABLE.fullmatch(text) is not None and sum(map(str.isalnum, text)) * 2 > len(text):
            return text[:_MAX_INFLATED]
    return None
