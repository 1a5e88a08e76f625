"""Naming cues: after `my name is`, `Dear`, `Mr` or a sign-off stands a name, whatever word it is."""

from __future__ import annotations

from dataclasses import dataclass

from evalforge.core.privacy.text import word_tables as table
from evalforge.core.privacy.text.ambiguous import is_name_like
from evalforge.core.privacy.text.lexicon import Kind
from evalforge.core.privacy.text.neighbours import Neighbours
from evalforge.core.privacy.text.tokens import COVERED
from evalforge.core.privacy.text.words import Shape, Word

_LEADS_FAR = frozenset({"name", "names", "name's"}) | table.STRICT_TITLES
_MAX_SIGNATURE = 4


@dataclass(frozen=True, slots=True)
class Named:
    """The word `first` is a name. `last`, where set: the name is exactly the words up to that one."""

    first: int
    last: int | None = None


def named_by_cue(n: Neighbours, index: int) -> list[Named]:
    """Who is named beside a word that is a cue. Most cues name nobody, which is found out by words alone, quickly."""
    token = n.words[index].lower()
    cue = token if token in table.CUES else n.word(index).base
    if leads_nowhere(n, index, cue):
        return []
    named: list[Named] = []
    if cue in table.SPEECH:
        before = n.before(index)
        if before is not None and _is_subject(n, before):
            named.append(Named(before))
    if cue in ("name", "names", "name's"):
        return named + _after_name(n, index, cue)
    if cue in table.SIGN_OFFS:
        signed = _signature(n, index)
        if signed:
            return named + signed
    at = n.after(index)
    if at is not None and _is_named_next(n, index, cue, at):
        named.append(Named(at))
    return named


def _is_named_next(n: Neighbours, index: int, cue: str, at: int) -> bool:
    """Whether the word at `at`, the next one after the cue, is a name."""
    gap = n.text[n.end(index) : n.start(at)]
    if cue in table.TITLES and gap in (" ", ". ", "."):
        return _is_titled(n, index, cue, at)
    if cue in table.GREETINGS and gap in (" ", ", ", "  "):
        return _is_greeted(n, cue, at)
    if cue in table.ROLES and gap in (" ", ", ", ": ", " - "):
        return _has_role(n, at)
    if gap == " " and (cue in table.CALLS or (cue == "me" and n.base_before(index) in ("call", "calls"))):
        return _is_called(n, at)
    if gap == " " and (cue in ("im", "i'm") or (cue == "am" and n.base_before(index) == "i")):
        return _introduces_self(n, at)
    return False


def _is_titled(n: Neighbours, index: int, cue: str, at: int) -> bool:
    """`Mr Black`, `mr black`, `General Grant`; not `General Public License`."""
    word = n.word(at)
    if _has_capital(word):
        if _is_never_name(word) or (
            cue in table.TITLES_OF_NOBODY and word.kind is Kind.SOMETIMES_NAME and n.is_capital(n.after(at))
        ):
            return False
        return word.kind is not Kind.PLAIN or (n.is_capital(index) and cue not in table.TITLES_OF_NOBODY)
    if word.base in table.EVERYDAY:
        return False
    return cue in table.STRICT_TITLES or (cue == "dr" and Kind.PLAIN < word.kind < Kind.NAME)


def _is_greeted(n: Neighbours, cue: str, at: int) -> bool:
    """`Hi Mark`, `hi will,`; not `Hi there`, `thanks may I`."""
    word = n.word(at)
    everyday = word.base in table.EVERYDAY
    ends = n.next_char(at) in table.STOPS_AFTER or word.base in table.CUES
    if word.kind is Kind.SOMETIMES_NAME:
        return _has_capital(word) and ends and not _is_never_name(word)
    if word.kind is not Kind.OFTEN_NAME or cue in ("sorry", "welcome"):
        return False
    if everyday and not _has_capital(word):
        return n.next_char(at) in ",.!\n"
    return ends or (not everyday and cue in ("hi", "hello", "hey", "dear", "hiya"))


def _has_role(n: Neighbours, at: int) -> bool:
    """`patient Price`, `my wife rose`; not `Customer Service`."""
    word = n.word(at)
    if not Kind.PLAIN < word.kind < Kind.NAME:
        return False
    if not _has_capital(word):
        speaks = n.base_after(at) in table.SPEECH - {"left", "requests"}  # `the customer hope asked`
        return word.kind is Kind.OFTEN_NAME and (word.base not in table.EVERYDAY or speaks)
    beyond = n.after(at)
    is_heading = beyond is not None and n.is_capital(beyond) and n.word(beyond).kind is Kind.PLAIN
    return not is_heading and not _is_never_name(word)


def _is_called(n: Neighbours, at: int) -> bool:
    """`a boy named Chase`, `call me may`; not `call me later`."""
    word = n.word(at)
    if word.base in table.NEVER_BESIDE | table.EVERYDAY:
        return word.kind is Kind.OFTEN_NAME and _has_capital(word)
    return word.kind is Kind.OFTEN_NAME or (_has_capital(word) and word.kind is not Kind.PLAIN)


def _introduces_self(n: Neighbours, at: int) -> bool:
    """`I'm Grace`, `im mark from sales`; not `i'm happy`."""
    word = n.word(at)
    if word.shape is Shape.TITLE and Kind.PLAIN < word.kind < Kind.NAME and not _is_never_name(word):
        return True
    ends = n.next_char(at) in table.STOPS_AFTER or n.base_after(at) in table.AFTER_INTRODUCTION
    return word.kind is Kind.OFTEN_NAME and ends and word.base not in table.FEELINGS


def _has_capital(word: Word) -> bool:
    return word.shape is not Shape.LOWER


def _is_never_name(word: Word) -> bool:
    return word.base in table.NEVER_BESIDE and word.base not in table.NAMES_WHEN_CUED


def leads_nowhere(n: Neighbours, index: int, cue: str) -> bool:
    """Whether the word beside a cue is plain and in lower case, so that nobody can be named. Quick: no places are needed."""
    if cue in _LEADS_FAR:
        return False
    at = index - 1 if cue in table.SPEECH else index + 1
    if not 0 <= at < len(n.words):
        return True
    beside = n.words[at]
    if cue in table.SPEECH and cue not in table.CALLS:
        return not beside[:1].isupper() and beside != ""
    return n.lexicon.is_fine(beside) and beside.islower() and beside not in n.lexicon.everyday_names


def _after_name(n: Neighbours, index: int, cue: str) -> list[Named]:
    """`my name is mark`, `Name: Mark Hill`, `name's may`."""
    at = n.after(index)
    if at is None:
        return []
    gap = n.text[n.end(index) : n.start(at)]
    linked = any(char in gap for char in ":=") or cue == "name's"
    owned = n.base_before(index) in table.OWNERS
    if gap.strip(" :=-\"'\t") != "":
        return []
    if n.words[at].lower() in ("is", "was", "s", "being"):
        linked = True
        following = n.after(at)
        if following is None:
            return []
        at = following
    elif not linked and not (cue == "names" and owned):
        return []
    word = n.word(at)
    if word.base in table.STRICT_TITLES:
        titled = n.after(at)
        return [Named(titled)] if titled is not None and n.is_capital(titled) else []
    if word.base in table.NOT_NAMED or word.base in (
        "the",
        "a",
        "an",
        "and",
        "or",
        "to",
        "of",
        "my",
        "your",
        "is",
        "it",
        "that",
        "what",
        "in",
    ):
        return []
    titled = word.shape in (Shape.TITLE, Shape.UPPER)
    owns = owned and (word.kind is not Kind.PLAIN or titled or word.base not in table.EVERYDAY)
    often = word.kind is Kind.OFTEN_NAME and (titled or word.base not in table.EVERYDAY)
    full = word.kind is Kind.SOMETIMES_NAME and titled and is_name_like(n, n.after(at))
    return [Named(at)] if owns or often or full else []


def _signature(n: Neighbours, index: int) -> list[Named]:
    """`Best regards,` and the words with a capital on the next line, or after the comma at the text's end."""
    end = n.end(index)
    lead = n.text[end : end + 6]
    stripped = lead.lstrip(" ,.!-\u2014\t\r")
    if not stripped.startswith("\n") and "," not in lead[: len(lead) - len(stripped)]:
        return []
    line: list[int] = []
    for at in range(index + 1, min(index + 14, len(n.words))):
        if not n.words[at]:
            continue
        if line and "\n" in n.text[n.end(line[-1]) : n.start(at)]:
            break
        if COVERED in n.text[(n.end(line[-1]) if line else end) : n.start(at)]:
            return []
        line.append(at)
        if len(line) > _MAX_SIGNATURE:
            return []
    words = [n.word(at) for at in line]
    if not words or any(word.base in table.NOT_SIGNED or word.base.isdigit() for word in words):
        return []
    if not all(word.shape is Shape.TITLE or word.base in table.PARTICLES for word in words):
        lone = len(words) == 1 and words[0].kind is Kind.OFTEN_NAME and "\n" in stripped[:1]
        if not lone:
            return []
    if all(word.kind is Kind.PLAIN for word in words) and (len(words) != 2 or "\n" not in stripped[:1]):
        return []
    if any(word.base in table.EVERYDAY and word.kind is not Kind.OFTEN_NAME for word in words):
        return []
    return [Named(line[0], line[-1])]


def _is_subject(n: Neighbours, index: int) -> bool:
    """Whether the word before a verb of speech is somebody: sometimes a name, with a capital, and no everyday word."""
    word = n.word(index)
    return (
        word.shape is Shape.TITLE
        and word.kind in (Kind.SOMETIMES_NAME, Kind.OFTEN_NAME)
        and word.base not in table.EVERYDAY
        and n.base_before(index) not in table.ARTICLES
        and not n.base_before(index)[-1:].isdigit()
        and n.text[n.end(index) : n.end(index) + 1] == " "
    )
