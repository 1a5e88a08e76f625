"""What a word by itself may be: plain vocabulary, a word that is also somebody's name, a name, or unknown.

The lists are package data in `core/privacy/words/`; every file there that is called `vocabulary-*.txt` or
`vocabulary-*.txt.gz` is read, so a language or a trade is added by adding one file (`words/README.md`).
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Sequence, Set
from enum import IntEnum
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from evalforge.core.privacy.text.word_tables import CUES, EVERYDAY, GIVEN_TOO
from evalforge.core.privacy.vocabulary import is_name
from evalforge.core.privacy.word_set import WordSet

MAX_WORD_LENGTH = 40
"""Letters in a word; what is longer is unknown."""
_MAX_KNOWN_FORMS = 500_000
_CAMEL_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")  # linear: each character is tried at most twice
_ORDINAL = re.compile(
    r"[0-9]{1,4}(?:st|nd|rd|th|s|x|k|m|am|pm|a|p|d|h|min|[kmgt]i?b|ms|px|mg|ml|kg|km|cm|mm|lbs?|hrs?|yo|yr)"
    r"|0x[0-9a-f]{1,4}|[0-9]{1,2}'(?:[0-9]{1,2})?",
    re.IGNORECASE,
)


_VOCABULARY = re.compile(r"vocabulary-[a-z]+\.txt(?:\.gz)?|common\.txt|technical\.txt")
_SPOKEN = frozenset({"vocabulary-en.txt.gz", "vocabulary-everyday.txt", "common.txt"})
_OF_A_TRADE = frozenset({"vocabulary-trade.txt", "vocabulary-software.txt.gz", "technical.txt"})
_SPOKEN_TOO = frozenset(
    """american african arabic asian bengali chinese czech danish dutch english european finnish german greek hebrew hindi
    hungarian indonesian italian japanese korean malay norwegian persian polish portuguese romanian russian spanish swedish
    tamil telugu thai turkish ukrainian urdu vietnamese africa america asia europe""".split()
)
"""What stands in the lists of a trade only, and before people's names all the same: `Korean Kim Min-jun`."""


class Kind(IntEnum):
    """What a word may be, whatever stands around it."""

    PLAIN = 0
    """In a vocabulary, and nobody's name that we know of."""
    SOMETIMES_NAME = 1
    """In a vocabulary, and a name beside another name or after a naming cue (`Price`, `Black`)."""
    OFTEN_NAME = 2
    """In a vocabulary, and more often a name when it is written with a capital inside a sentence (`Mark`, `Hill`)."""
    NAME = 3
    """A given name or a surname that no vocabulary has."""
    UNKNOWN = 4


class Lexicon:
    """The words of all vocabularies and the names; looks words up in any case. Immutable but for the forms it has met.

    Of `words`, which may be changed, only those stay that are neither `names_only` nor `towns`.
    """

    def __init__(
        self,
        words: set[str],
        also_names: Set[str],
        names_first: Set[str],
        names_only: Set[str] = frozenset(),
        towns: Set[str] = frozenset(),
        jargon: Set[str] = frozenset(),
    ) -> None:
        words |= CUES
        words -= names_only | towns
        self._words = WordSet(words)
        self._names_only = names_only
        self._also_names = WordSet(also_names)
        self._names_first = names_first
        self._jargon = WordSet(jargon)
        self._watched = ((names_first | GIVEN_TOO) - EVERYDAY) | CUES
        self._fine = {""}
        """Forms of words that texts held and that need no closer look whatever stands around them (`Their`, `users'`). Only
        vocabulary words ever enter, so nothing personal is remembered."""
        self.everyday_names = names_first & EVERYDAY
        """Everyday words that are names, too: `will`, `hope`."""
        self.mere_cues = frozenset(cue for cue in CUES - GIVEN_TOO if self.kind(cue) <= Kind.SOMETIMES_NAME)
        """Cues that need a closer look for the sake of the words beside them only."""

    @classmethod
    def load(cls, folder: Traversable) -> Lexicon:
        """The lexicon of a folder of word lists.

        Raises: OSError where the folder lacks `also-names.txt.gz` or `names-first.txt`.
        """
        names = {file.name for file in folder.iterdir() if _VOCABULARY.fullmatch(file.name)}
        words = _listed(*(folder / name for name in names & _SPOKEN))
        written = _listed(*(folder / name for name in names & _OF_A_TRADE))
        jargon = written - words - _SPOKEN_TOO
        words |= written
        words |= _listed(*(folder / name for name in names - _SPOKEN - _OF_A_TRADE))
        return cls(
            words,
            _listed(folder / "also-names.txt.gz"),
            _listed(folder / "names-first.txt"),
            _listed(folder / "names-only.txt"),
            _listed(folder / "towns.txt"),
            jargon,
        )

    def is_fine(self, form: str) -> bool:
        """Whether a form of a word needs no closer look whatever stands around it."""
        if form in self._fine:
            return True
        if form not in self._words or form in self._watched:
            return False
        self.remember(form)
        return True

    def odd_among(self, forms: Sequence[str]) -> list[int]:
        """The places of those forms that are not fine, in order."""
        fine = self._fine  # small, and so at hand: the vocabulary is not
        odd = [index for index, form in enumerate(forms) if form not in fine]
        return [index for index in odd if not self.is_fine(forms[index])] if odd else odd

    def remember(self, form: str) -> None:
        """Notes that a form needs no closer look again."""
        if len(self._fine) < _MAX_KNOWN_FORMS:
            self._fine.add(form)

    def kind(self, word: str) -> Kind:
        """What a word in lower case is. Possessive forms and joined pieces are the caller's to take apart."""
        if word in self._words:
            if word in self._names_first:
                return Kind.OFTEN_NAME
            return Kind.SOMETIMES_NAME if word in self._also_names else Kind.PLAIN
        if word in self._names_only or word in self._names_first:
            return Kind.NAME
        if len(word) > MAX_WORD_LENGTH:
            return Kind.UNKNOWN
        plain = _folded(word)
        if is_name(plain):
            return Kind.NAME
        if plain != word:  # an accent makes another word of it: `Sơn` is nobody's `son`
            return Kind.UNKNOWN
        return Kind.PLAIN if self._is_derived(word) else Kind.UNKNOWN

    def is_jargon(self, word: str) -> bool:
        """Whether a word in lower case stands in the lists of a trade only, and in none of everyday English."""
        return word in self._jargon

    def is_plain_code(self, token: str) -> bool:
        """Whether a token that mixes cases or digits is made of known and short pieces only: `getUserById`, `sha256`."""
        if len(token) > 80 or not token.isascii():
            return False
        if _ORDINAL.fullmatch(token):
            return True
        pieces = _CAMEL_PIECE.findall(token)
        if sum(map(len, pieces)) != len(token) or len(pieces) > 12:
            return False
        known = 0
        for piece in pieces:
            if piece.isdigit():
                if len(piece) > 4:
                    return False
                continue
            kind = self.kind(piece.lower())
            if kind is Kind.NAME or (kind is Kind.OFTEN_NAME and piece[0].isupper() and not piece.isupper()):
                return False
            if kind is Kind.UNKNOWN and len(piece) > 2:
                return False
            known += kind is not Kind.UNKNOWN and len(piece) > 2
        mixed = not token.isalpha()
        return known > 0 or (mixed and len(token) <= 5)

    def _is_derived(self, word: str) -> bool:
        """Whether a word is made of a vocabulary word by an English prefix or ending."""
        if not word.isascii() or not word.isalpha() or len(word) < 6:
            return False
        for ending, instead in _ENDINGS if word.endswith(_ANY_ENDING) else ():
            if word.endswith(ending):
                stem = word[: len(word) - len(ending)]
                if len(stem) >= 3 and any(self._is_stem(stem + tail) for tail in instead):
                    return True
                if len(stem) >= 4 and stem[-1] == stem[-2] and ending in _DOUBLING and self._is_stem(stem[:-1]):
                    return True
        return word.startswith(_PREFIXES) and any(
            word.startswith(prefix) and self._is_stem(word[len(prefix) :]) for prefix in _PREFIXES
        )

    def _is_stem(self, word: str) -> bool:
        return len(word) >= 4 and word in self._words and word not in self._also_names and word not in self._names_first


_ENDINGS = (
    ("ies", ("y",)),
    ("ied", ("y",)),
    ("es", ("", "e")),
    ("s", ("",)),
    ("ed", ("", "e")),
    ("ing", ("", "e")),
    ("ings", ("", "e")),
    ("ly", ("", "le")),
    ("able", ("", "e")),
    ("less", ("",)),
    ("ness", ("",)),
    ("like", ("",)),
    ("wise", ("",)),
    ("ize", ("", "e", "y")),
    ("ized", ("", "e", "y")),
    ("izing", ("", "e", "y")),
    ("ise", ("", "e", "y")),
    ("ised", ("", "e", "y")),
    ("ising", ("", "e", "y")),
    ("ization", ("", "e", "y")),
    ("ability", ("", "e")),
)
_DOUBLING = frozenset({"ed", "ing", "able"})
_PREFIXES = tuple(
    """un re non pre mis over under sub super multi inter anti auto co counter cyber de dis fore hyper in macro meta micro
    mid mini mono nano out poly post pseudo self semi tele trans ultra up down back hand head web data cross""".split()
)
_ANY_ENDING = tuple(ending for ending, _ in _ENDINGS)


def _folded(word: str) -> str:
    """Without accents: `josé` is `jose`. Letters of other scripts stay."""
    if word.isascii():
        return word
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)).translate(_STROKES)


_STROKES = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ı": "i"})


@cache
def lexicon() -> Lexicon:
    """The lexicon of the package's own lists, loaded when first needed."""
    return Lexicon.load(resources.files("evalforge.core.privacy").joinpath("words"))


def _listed(*files: Traversable) -> set[str]:
    return set(" ".join(map(_text, files)).split())


def _text(file: Traversable) -> str:
    raw = file.read_bytes()
    text = (gzip.decompress(raw) if file.name.endswith(".gz") else raw).decode("utf-8")
    return _COMMENT.sub("", text) if "#" in text else text


_COMMENT = re.compile("^#.*", re.MULTILINE)
