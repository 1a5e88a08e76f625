"""Finding a planted value in a stored document: in every decoded form, whole or by an informative part of it.

The search is deliberately generous to the adversary. A document is unfolded into views (decoded, normalised, digits only,
letters and digits only), and a value into needles: what would tell a reader something even if the rest were gone.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import html
import re
import unicodedata
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

MAX_ROUNDS = 4
_WORD = re.compile(r"[^\W_]+")
_DIGIT_RUN = re.compile(r"\d(?:[\s.\-()/+_,:]{0,3}\d)*")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){6,}")
_SPACED_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[ :]){5,}[0-9a-fA-F]{2}")
_ESCAPE = re.compile(r"\\u\{?([0-9a-fA-F]{4,6})\}?|\\x([0-9a-fA-F]{2})|\\U([0-9a-fA-F]{8})")
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?:[0-9a-f]{8}|[0-9a-f]{32})?(?![0-9a-f])")
_AT = re.compile(r"\s*[\[({<]\s*(?:at|@)\s*[\])}>]\s*|\s+at\s+(?=[\w-]+\s*[\[({<]\s*(?:dot|\.))", re.IGNORECASE)
_DOT = re.compile(r"\s*[\[({<]\s*(?:dot|\.)\s*[\])}>]\s*|(?<=\w)\s+dot\s+(?=\w)", re.IGNORECASE)
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u043a\u043c\u043d\u0442\u0432\u0501\u051b\u051d"
    "\u03b1\u03bf\u03b5\u03b9\u03ba\u03bd\u03c1\u03c4\u03c5\u0131\u0261",
    "aeopcyxijskmhtbdqwaoeiknptuig",
)
_TINY = 2


@dataclass(frozen=True, slots=True)
class Views:
    """A document unfolded: one text, its words, its runs of digits, and everything but letters and digits taken out."""

    text: str
    words: frozenset[str]
    digits: str
    compact: str


@dataclass(frozen=True, slots=True)
class Needle:
    """One thing to look for: `in_view` says where ("text", "word", "digits", "compact")."""

    in_view: str
    text: str

    def is_in(self, views: Views) -> bool:
        """Whether the view holds it."""
        if self.in_view == "word":
            return self.text in views.words
        if self.in_view == "number":
            return re.search(rf"(?<!\d){re.escape(self.text)}(?!\d)", views.text) is not None
        return self.text in getattr(views, self.in_view)


# -- documents ------------------------------------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[str]:
    """Every key and every scalar of a document, as text."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key)
            yield from leaves(part)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield repr(value)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, datetime):
        return


def views_of(texts: Iterable[str], own_ids: frozenset[str] = frozenset()) -> Views:
    """The views of these texts; `own_ids` and digests are ours to keep, and are cut out first."""
    unfolded: list[str] = []
    for text in texts:
        for own in own_ids:
            text = text.replace(own, " ")
        unfolded.extend(decoded(_DIGEST.sub(" ", text)))
    folded = [folded_text(text) for text in unfolded]
    return Views(
        text="\n".join(folded),
        words=frozenset(word for text in folded for word in _WORD.findall(text)),
        digits="\n".join(re.sub(r"\D", "", run) for text in folded for run in _DIGIT_RUN.findall(text)),
        compact="\n".join(re.sub(r"[\W_]+", "", text) for text in folded),
    )


def decoded(text: str) -> list[str]:
    """The text and everything that it decodes to, a few rounds deep."""
    found = {text: None}
    front = [text]
    for _ in range(MAX_ROUNDS):
        front = [new for one in front for new in _unwrapped(one) if new not in found]
        if not front:
            break
        found.update(dict.fromkeys(front))
    return list(found)


def _unwrapped(text: str) -> Iterator[str]:
    if "%" in text or "+" in text:
        yield urllib.parse.unquote_plus(text)
        yield urllib.parse.unquote(text)
    if "&" in text:
        yield html.unescape(text)
    if "=" in text and re.search("=[0-9A-F]{2}", text):
        yield re.sub("=([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)
    if "\\" in text:
        yield _ESCAPE.sub(_unescaped, text).replace("\\n", "\n").replace('\\"', '"')
    if "[" in text or "(" in text or "{" in text or " dot " in text.lower():
        yield _DOT.sub(".", _AT.sub("@", text))
    for match in _BASE64.finditer(text):
        yield from _from_bytes(_unbase64(match[0]))
    for match in _HEX.finditer(text):
        yield from _from_bytes(binascii.unhexlify(match[0]))
    for match in _SPACED_HEX.finditer(text):
        yield from _from_bytes(binascii.unhexlify(re.sub("[ :]", "", match[0])))


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1] or found[2] or found[3], 16)
    return chr(code) if code < 0x110000 else found[0]


def _unbase64(token: str) -> bytes | None:
    bare = token.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4))
    except (binascii.Error, ValueError):
        return None


def _from_bytes(raw: bytes | None) -> Iterator[str]:
    if not raw:
        return
    for unpack in (_plain, gzip.decompress, zlib.decompress):
        try:
            text = unpack(raw).decode("utf-8")
        except (UnicodeDecodeError, OSError, EOFError, zlib.error):
            continue
        if text.isprintable() or "\n" in text:
            yield text


def _plain(raw: bytes) -> bytes:
    return raw


def folded_text(text: str) -> str:
    """The text with compatibility forms, invisible characters, lookalikes, accents and case folded away."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Mn", "Cs"))
        if any("a" <= char <= "z" or "A" <= char <= "Z" for char in text):  # mixed scripts: lookalikes
            text = text.casefold().translate(_LOOKALIKES)
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if unicodedata.category(char) != "Mn")
    return text.casefold()


# -- values ---------------------------------------------------------------------------------------------------------------

_GENERIC = frozenset(
    "the and from for mail info admin hello contact street road avenue lane drive apartment suite city strasse rue via "
    "calle platz weg san santa saint new north south east west upper lower van von der den del dos las los bin ben "
    "abu ibn http "
    "https www com org net example user users home flat floor unit block house building near village post office box "
    "square court park plaza place boulevard highway estate track bridge studio interior depto edificio largo praca "
    "avenida "
    "diagonal transversal carrera circuit circunvalacion calzada andador condominiums villas extension stairs station "
    "token bearer basic key sig test prod live".split()
)
NAMES = frozenset({"name", "first_name", "name_native", "handle"})
SECRETS = frozenset({"secret", "jwt", "private_key", "password", "cookie", "session_id", "bearer"})
NUMBERS = frozenset({"phone", "card", "national_id", "iban", "account", "device_id"})


@lru_cache(maxsize=100_000)
def needles_of(kind: str, value: str) -> tuple[Needle, ...]:
    """What of this value would tell a reader something: the whole, and the parts that a person would recognise."""
    folded = folded_text(value)
    compact = re.sub(r"[\W_]+", "", folded)
    found: dict[Needle, None] = {}
    if len(folded) > _TINY:
        found[Needle("text" if len(folded) > 5 or not folded.isalnum() else "word", folded)] = None
    if len(compact) >= 8:
        found[Needle("compact", compact)] = None
    for needle in _parts(kind, folded, compact):
        found[needle] = None
    return tuple(found)


def _parts(kind: str, folded: str, compact: str) -> Iterator[Needle]:
    digits = re.sub(r"\D", "", folded)
    if kind in NAMES:
        if not re.search(r"[a-z]", folded):
            yield Needle("text", folded.replace(" ", ""))
        yield from _words(folded, least=3)
    elif kind == "email":
        local = folded.partition("@")[0]
        if len(local) >= 5:
            yield Needle("text", local)
        yield from _words(local, least=4)
    elif kind == "address":
        street = folded.partition(",")[0]
        if len(street) > 7:
            yield Needle("text", street)
        yield from _words(street, least=5)
        yield from (Needle("number", group) for group in re.findall(r"\d{4,}", folded))
    elif kind in ("ip", "mac"):
        cut = re.split(r"[.:\-]", folded)
        separator = "." if "." in folded else ":"
        if len(cut) >= 4:
            yield Needle("text", separator.join(cut[: 3 if len(cut) == 4 else 4]))
    elif kind in SECRETS:
        yield from (
            Needle("text", folded[at : at + 8]) for at in range(4, len(folded) - 8, 4) if folded[at : at + 8].isalnum()
        )
    elif kind == "coordinates":
        yield from (Needle("text", part) for part in re.findall(r"\d+\.\d{3,}", folded))
    elif kind in ("url", "home_path", "wallet"):
        yield from (Needle("text", part) for part in re.findall(r"[^\W_]{8,}", folded) if part not in _GENERIC)
    elif kind == "birth_date":
        yield from (Needle("number", year) for year in re.findall(r"(?<!\d)(?:19|20)\d\d(?!\d)", folded))
    if kind in NUMBERS or kind == "birth_date":
        if len(digits) >= 6:
            yield from (Needle("digits", digits[at : at + 6]) for at in range(len(digits) - 5))
        if kind in NUMBERS:
            yield from (Needle("number", group) for group in re.findall(r"\d{4,}", folded))


def _words(folded: str, least: int) -> Iterator[Needle]:
    for word in _WORD.findall(folded):
        if len(word) >= least and word not in _GENERIC and not word.isdigit():
            yield Needle("word", word)


@dataclass(slots=True)
class Search:
    """Looks for planted values in one stored document.

    `harmless` are the words that stand in the span beside what was planted: a part that is one of them tells nothing.
    """

    views: Views
    harmless: Views
    hits: list[str] = field(default_factory=list)

    def hit(self, kind: str, value: str) -> str | None:
        """The first needle of the value that the document holds, or None."""
        for needle in needles_of(kind, value):
            if needle.is_in(self.views) and not needle.is_in(self.harmless):
                return needle.text
        return None
