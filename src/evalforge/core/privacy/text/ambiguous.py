"""Words that stand in a dictionary and are names, too: which of the two they are here."""

from __future__ import annotations

from evalforge.core.privacy.text import word_tables as table
from evalforge.core.privacy.text.lexicon import Kind
from evalforge.core.privacy.text.neighbours import Neighbours
from evalforge.core.privacy.text.words import NO_WORD, Shape, Word


def names_someone(n: Neighbours, index: int) -> bool:
    """Whether a word that is often a name is one here: by its case, its place in the sentence and its neighbours."""
    word = n.word(index)
    previous, following = n.base_before(index), n.base_after(index)
    at_after = n.after(index)
    after = n.word(at_after) if at_after is not None else NO_WORD
    if word.shape is Shape.LOWER:
        return _names_in_lower_case(n, index, word, previous, following, after)
    if word.base in table.MONTHS and (
        previous in table.DATE_WORDS
        or previous.isdigit()
        or following[:1].isdigit()
        or following in table.MONTHS
        or previous in table.MONTHS
    ):
        return False
    if word.shape is Shape.UPPER:
        beside = after.shape is Shape.UPPER and after.kind >= Kind.OFTEN_NAME and after.base not in table.EVERYDAY
        if word.base in table.EVERYDAY:
            beside = beside and (n.opens_sentence(index) or not _is_shouting(n, n.before(index)))
        return beside or (previous in table.GREETINGS and n.next_char(index) in table.STOPS_AFTER)
    possessive = n.words[index].lower().endswith("'s")
    if possessive and previous not in table.ARTICLES:
        return True
    if after.shape is Shape.TITLE and at_after is not None and n.is_joined(index, at_after):
        if after.kind >= Kind.OFTEN_NAME and after.base not in table.NEVER_BESIDE:
            return True
        if after.kind is Kind.SOMETIMES_NAME and after.base not in table.NEVER_BESIDE and word.base not in table.EVERYDAY:
            return True
        if len(after.base) == 1 and after.base != "i" and n.next_char(at_after) == ".":
            return True
    if n.opens_sentence(index):
        if word.base in table.EVERYDAY and following in ("i", "you", "we", "it", "they", "the", "a", "this"):
            return False
        char = n.next_char(index)
        if char in ",:\n)\"'|" or (char == "." and _stands_alone(n, index)):
            return True
        if following in table.AFTER_SUBJECT or (following == "here" and word.base not in table.EVERYDAY):
            return True
        return following in ("and", "or", "&") and is_name_like(n, n.after(at_after) if at_after is not None else None)
    if previous in table.ARTICLES:
        return (
            following in table.SPEECH
            or following in ("family", "household", "couple")
            or (previous == "that" and following in table.AFTER_SUBJECT | table.MODALS)
        )
    return not _is_heading(n, index)


def _names_in_lower_case(n: Neighbours, index: int, word: Word, previous: str, following: str, after: Word) -> bool:
    if word.base in table.EVERYDAY:
        return is_cued_everyday(n, index)
    if previous in table.BEFORE_NAME_SURELY:
        return True
    before = n.before(index)
    if (
        before is not None
        and n.words[before] in table.EVERYDAY
        and n.is_joined(before, index)
        and is_cued_everyday(n, before)
    ):
        return True
    if previous in table.ARTICLES:
        return False
    if following in table.SPEECH and following not in (
        "called",
        "calls",
        "stated",
        "requested",
        "received",
        "ordered",
        "paid",
        "works",
        "left",
    ):
        return previous in table.BEFORE_NAME or n.opens_sentence(index)
    if (
        after.kind >= Kind.SOMETIMES_NAME
        and after.shape is Shape.LOWER
        and after.base not in table.EVERYDAY
        and n.is_joined(index, n.after(index))
    ):
        return after.kind is Kind.NAME or after.kind is Kind.OFTEN_NAME
    if n.words[index].endswith("'s") and (previous in table.BEFORE_NAME or previous in table.BY_LINES):
        return True
    if word.base in table.SURELY_GIVEN:
        ends = n.next_char(index) in ".!?\n" and word.base not in table.MONTHS
        return previous in ("with", "met", "from") or (ends and previous in ("to", "by", "for", "of"))
    return _is_value_of_name(n, index)


def _is_value_of_name(n: Neighbours, index: int) -> bool:
    """Whether a word stands alone in quotation marks behind one that says that it is a name: `name - value 'frank'`."""
    start = n.start(index)
    lead = n.text[max(0, start - 26) : start].lower()
    quoted = n.words[index].startswith("'") or lead[-1:] in ("'", '"')
    closed = n.words[index].endswith("'") or n.next_char(index) in "'\""
    return quoted and closed and "name" in lead and "filename" not in lead


def is_cued_everyday(n: Neighbours, index: int) -> bool:
    """Whether an everyday word, often a name, stands between a naming word and a surname: `im will turner`."""
    word, after = n.word(index), n.after(index)
    if word.kind is not Kind.OFTEN_NAME or after is None or not n.is_joined(index, after):
        return False
    surname = n.word(after)
    surely = surname.kind >= Kind.OFTEN_NAME and surname.base not in table.EVERYDAY and surname.base not in table.CUES
    return surely and n.base_before(index) in table.BEFORE_FULL_NAME


def _is_shouting(n: Neighbours, index: int | None) -> bool:
    return index is not None and n.word(index).shape is Shape.UPPER


def is_name_like(n: Neighbours, index: int | None) -> bool:
    """Whether there is a word, with a capital, that is a name or often one, or unknown."""
    if index is None:
        return False
    word = n.word(index)
    return word.shape is Shape.TITLE and word.kind >= Kind.OFTEN_NAME


def _stands_alone(n: Neighbours, index: int) -> bool:
    after = n.end(index) + 1
    return after >= len(n.text) or n.text[after] == "\n"


def _is_heading(n: Neighbours, index: int) -> bool:
    """Whether the words on both sides are plain words with a capital: `Mark As Read`."""
    before, after = n.before(index), n.after(index)
    sides = [n.word(at) for at in (before, after) if at is not None]
    return bool(sides) and all(side.shape is Shape.TITLE and side.kind is Kind.PLAIN for side in sides) and len(sides) == 2


def is_shouted_name(n: Neighbours, index: int) -> bool:
    """Whether short unknown capitals stand beside a name, or among plain words in capitals on both sides."""
    sides = [n.word(at) for at in (n.before(index), n.after(index)) if at is not None]
    if any(side.kind is Kind.NAME and side.shape is not Shape.LOWER for side in sides) and len(n.word(index).base) > 1:
        return True
    return len(sides) == 2 and all(side.shape is Shape.UPPER and side.base in table.EVERYDAY for side in sides)


def is_short_code(n: Neighbours, index: int) -> bool:
    """Whether an unknown word is a short piece of code: `fmt` in `%fmt`, `tx` in `tx_id`."""
    word = n.word(index)
    if len(word.base) > 3 or not word.base.isascii():
        return False
    start, end = n.start(index), n.end(index)
    before = n.text[start - 1] if start else " "
    after = n.text[end] if end < len(n.text) else " "
    return len(word.base) == 1 or before in table.CODE_BESIDE or (after in table.CODE_BESIDE and after != ".")
