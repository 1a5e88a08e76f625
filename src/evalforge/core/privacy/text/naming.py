"""Reads a text for names and unknown words: `Reader.runs` says where somebody or something unknown is named."""

from __future__ import annotations

from dataclasses import dataclass

from evalforge.core.privacy.text import word_tables as table
from evalforge.core.privacy.text.ambiguous import is_cued_everyday, is_short_code, is_shouted_name, names_someone
from evalforge.core.privacy.text.codes import is_commit
from evalforge.core.privacy.text.cues import leads_nowhere, named_by_cue
from evalforge.core.privacy.text.full_names import family_before, full_name_at, written_names
from evalforge.core.privacy.text.lexicon import Kind, Lexicon
from evalforge.core.privacy.text.neighbours import Neighbours
from evalforge.core.privacy.text.tokens import Tokens
from evalforge.core.privacy.text.words import Shape, Word, is_caseless

_MAX_RUN = 8
"""Words in one person's name, particles and initials included."""
_NO_GIVEN_NAMES = table.CUES | table.TITLES | table.NEVER_BESIDE | table.EVERYDAY | table.MONTHS | table.ARTICLES
"""With a capital and before a name, these are no part of it."""
_MAX_UNKNOWN = 64
"""Unknown words in a row that become one placeholder."""


@dataclass(frozen=True, slots=True)
class Run:
    """`text[start:end]` names a person (`parts`: the name in lower case, without titles and initials), or is unknown."""

    start: int
    end: int
    parts: tuple[str, ...]
    is_person: bool


class Reader:
    """One reading of one text, from its first word to its last."""

    def __init__(self, tokens: Tokens, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._n = Neighbours(tokens, lexicon)
        self._free = 0  # the first word that belongs to no run yet
        self._runs: list[Run] = []

    def runs(self, written_in: bytes | None) -> list[Run]:
        """The runs in order of place, none overlapping. `written_in`: the text in ASCII, if `WRITTEN` may match in it."""
        written = written_names(self._n, written_in) if written_in is not None else {}
        odd = self._lexicon.odd_among(self._n.words)
        for index in sorted({*odd, *written}) if written else odd:
            if index < self._free:
                continue
            if index in written:
                self._take_person(index, written[index])
            else:
                self._look(index)
        return self._runs

    def _look(self, index: int) -> None:
        """Looks closer at one word that is not plainly fine."""
        n = self._n
        token = n.words[index]
        if token.isdigit():
            if len(token) <= 4 and token.isascii():
                self._lexicon.remember(token)
            return
        cue = token.lower()
        if cue in self._lexicon.mere_cues and leads_nowhere(n, index, cue):
            return
        word = n.word(index)
        kind, shape = word.kind, word.shape
        is_cue = word.base in table.CUES
        if is_cue:
            for named in named_by_cue(n, index):
                if named.first >= self._free and named.last is not None:
                    self._take(named.first, named.last, is_person=True)
                elif named.first >= self._free:
                    self._take_person(named.first)
            if index < self._free:
                return
        last = full_name_at(n, index) if kind is Kind.OFTEN_NAME or word.base in table.GIVEN_TOO else None
        if last is not None:
            self._take_person(index, last)
        elif kind <= Kind.SOMETIMES_NAME:
            if word.base in table.GIVEN_TOO:
                before = n.base_before(index)
                spoken_of = before in table.BEFORE_GIVEN or (before == "that" and n.base_after(index) in table.AFTER_SUBJECT)
                if word.shape is Shape.TITLE and kind > Kind.PLAIN and spoken_of and word.base not in table.EVERYDAY:
                    self._take_person(index)
                else:
                    self._take_listed(index)
            elif not is_cue:
                self._lexicon.remember(token)
        elif kind is Kind.OFTEN_NAME:
            if names_someone(n, index):
                self._take_person(index)
        elif kind is Kind.NAME:
            self._take_person(index)
        elif shape is Shape.UPPER and len(word.base) <= 5 and word.base.isascii() and word.base.isalpha():
            if is_shouted_name(n, index):  # else an acronym
                self._take_person(index)
        elif not is_short_code(n, index) and not is_commit(
            token, n.text[max(0, n.start(index) - 16) : n.start(index)].lower()
        ):
            self._take_unknown(index, word)

    def _take_listed(self, index: int) -> None:
        """Takes `Waters, Crystal`: a surname, a comma, and a word that is a given name, too."""
        n = self._n
        surname = family_before(n, index) if n.word(index).shape is Shape.TITLE and n.word(index).kind > Kind.PLAIN else None
        beyond = n.after(index)
        alone = not (n.is_joined(index, beyond) and n.is_capital(beyond))
        if surname is not None and surname >= self._free and alone:
            self._take(surname, index, is_person=True)

    def _take_person(self, index: int, to: int | None = None) -> None:
        """Takes a name with the parts that stand beside it. `to`: the last word that is known to belong to it."""
        n = self._n
        seed = n.word(index)
        lower = seed.shape is Shape.LOWER
        first = index
        last = index if to is None else to
        while first > 0 and last - first < _MAX_RUN:
            previous = first - 1 if n.words[first - 1] else first - 2
            if previous < self._free or not n.words[previous] or not n.is_joined(previous, first):
                break
            leads = not lower and n.words[previous].lower() in table.LEADING_PARTICLES
            tight = n.text[n.end(previous)] in "_.-"
            if (
                not leads
                and not self._is_part(previous, lower=lower, after=False, tight=tight)
                and not (first == index and self._leads_name(previous, seed))
            ):
                break
            first = previous
        while last + 1 < len(n.words) and last - first < _MAX_RUN:
            after = n.after(last)
            if after is None or not n.is_joined(last, after):
                break
            tight = n.text[n.end(last)] in "_-"
            if n.text[n.end(last)] == "." and not n.is_initial(last) and not lower:
                break
            if n.is_particle(after) and self._bridges(after, lower=lower):
                last = after
                continue
            if n.words[last].lower().endswith("'s"):
                break
            if lower and self._ends_chain(after, last):
                last = after
                break
            if not self._is_part(after, lower=lower, after=True, tight=tight, lone=first == last):
                break
            last = after
        if first == last and seed.shape is Shape.TITLE and n.text[n.end(last) : n.end(last) + 2] == ", ":
            given = n.after(last)
            if given is not None and self._is_given_after(first, given):
                half = n.after(given) if n.next_char(given) == "-" else None  # `Seo, Sang-woo`
                last = half if half is not None and n.is_joined(given, half) else given
        beyond = n.after(last)
        alone = seed.shape is Shape.TITLE and not (n.is_joined(last, beyond) and n.is_capital(beyond))
        listed = family_before(n, first) if alone else None
        if listed is not None and listed >= self._free:
            first = listed
        elif first == last and seed.shape is Shape.TITLE and n.next_char(last) in '\n,;|)".':
            before = n.before(first)
            if before is not None and before >= self._free and n.text[n.end(before) : n.start(first)] == ", ":
                surname = n.word(before)
                if (
                    surname.shape is Shape.TITLE
                    and Kind.PLAIN < surname.kind < Kind.NAME
                    and surname.base not in table.EVERYDAY
                    and n.opens_sentence(before)
                ):
                    self._take(before, before, is_person=True)
        self._take(first, last, is_person=True)

    def _is_given_after(self, family: int, given: int) -> bool:
        """Whether a given name stands behind a surname that somebody is introduced by: `my name is Long, Summer`."""
        n = self._n
        word = n.word(given)
        return (
            n.base_before(family) in ("is", "name", "cc", "bcc")
            and word.shape is Shape.TITLE
            and (word.kind in (Kind.OFTEN_NAME, Kind.NAME) or word.base in table.GIVEN_TOO)
        )

    def _leads_name(self, index: int, seed: Word) -> bool:
        """Whether a vocabulary word with a capital begins a name: `Django Reinhardt`, not `Contact Reinhardt`."""
        n = self._n
        word = n.word(index)
        if word.shape is not seed.shape or word.kind is not Kind.PLAIN or not word.base.isalpha() or len(word.base) < 3:
            return False
        if word.shape is not Shape.TITLE:
            return False
        if n.text[n.end(index)] not in " _" or word.base in _NO_GIVEN_NAMES or word.base in table.PLACE_STARTS:
            return False
        if self._lexicon.is_jargon(word.base):
            return seed.kind in (Kind.NAME, Kind.OFTEN_NAME)
        return seed.kind is Kind.NAME and not n.opens_sentence(index)

    def _ends_chain(self, index: int, last: int) -> bool:
        """Whether a word in lower case stands behind two particles: `brink` in `van der brink`."""
        n = self._n
        before = n.before(last)
        chained = before is not None and n.is_particle(last) and n.is_particle(before)
        return chained and n.word(index).shape is Shape.LOWER and n.word(index).base not in table.EVERYDAY

    def _bridges(self, index: int, *, lower: bool) -> bool:
        """Whether a particle is followed, at most two particles on, by another part of the name."""
        n = self._n
        before = n.before(index)
        chained = before is not None and n.is_particle(before)
        for _ in range(3):
            after = n.after(index)
            if after is None or not n.is_joined(index, after):
                return False
            if not n.is_particle(after) or n.word(after).kind >= Kind.NAME:
                word = n.word(after)
                if word.base in table.NEVER_BESIDE and not (word.shape is Shape.TITLE and n.text[n.start(after) - 1] == "-"):
                    return False
                surely = word.kind >= Kind.SOMETIMES_NAME or (chained and word.base not in table.EVERYDAY)  # `van der brink`
                return word.shape in (Shape.TITLE, Shape.UPPER) or (lower and surely)
            index, chained = after, True
        return False

    def _is_part(self, index: int, *, lower: bool, after: bool, tight: bool, lone: bool = False) -> bool:
        """Whether a word beside a name belongs to it."""
        n = self._n
        word = n.word(index)
        if tight and after and word.shape is Shape.TITLE and n.text[n.start(index) - 1] == "-" and word.base.isalpha():
            return word.base not in table.NEVER_BESIDE or n.base_before(index) in table.PARTICLES
        if after and n.is_initial(index) and n.next_char(index) == "." and n.is_capital(n.after(index)):
            return True
        if word.base.isdigit() or (
            word.base in table.NEVER_BESIDE and not (word.kind is Kind.OFTEN_NAME and after and word.shape is Shape.TITLE)
        ):
            return False
        if n.is_initial(index) and word.base not in ("i", "a"):
            return after or n.next_char(index) in ". "
        if tight and after and word.shape is Shape.LOWER and word.kind is not Kind.UNKNOWN and not lower:
            return len(word.base) <= 5 and n.text[n.start(index) - 1] == "-" and word.base not in table.AFTER_HYPHEN
        if word.kind >= Kind.NAME:
            if word.shape is Shape.LOWER:
                return lower or word.kind is Kind.NAME or tight
            return word.shape is not Shape.UPPER or len(word.base) > 1
        if word.shape is Shape.LOWER:
            if tight and lower and n.text[n.start(index) - 1 if after else n.end(index)] == "-":
                return word.base not in table.EVERYDAY and len(word.base) <= 5
            if not after and word.base in table.EVERYDAY:
                return lower and is_cued_everyday(n, index)
            if not lower or word.base in table.EVERYDAY or word.base in table.CUES:
                return False
            if word.kind is Kind.OFTEN_NAME:
                return True
            if after and n.next_char(index) == "-" and len(word.base) <= 4:
                return n.word(n.after(index) or 0).kind is not Kind.PLAIN or len(n.base_after(index)) <= 4
            if word.kind is not Kind.SOMETIMES_NAME:
                return False
            if after and (n.next_char(index) in table.STOPS_AFTER or n.next_char(index) == ":"):
                return True
            at = n.before(index)
            if after and at is not None and n.opens_sentence(at) and n.base_after(index) in table.AFTER_SUBJECT:
                return n.word(at).kind is Kind.NAME
            return n.base_before(at if after and at is not None else index) in table.BEFORE_FULL_NAME
        if word.shape is Shape.MIXED:
            return False
        if not after:
            if word.kind is Kind.PLAIN or word.base in table.TITLES:
                return False
            return not (n.opens_sentence(index) and word.base in table.EVERYDAY)
        if word.kind is not Kind.PLAIN:
            return word.base not in table.NEVER_BESIDE or word.kind is Kind.OFTEN_NAME
        if not lone or lower or word.shape is Shape.UPPER or word.base in table.CUES:
            return False
        beyond = n.after(index)
        return not (n.is_capital(beyond) and n.word(beyond or 0).kind is Kind.PLAIN)

    def _take_unknown(self, index: int, word: Word) -> None:
        """Takes an unknown word, with the unknown words beside it; a name among them makes them a person."""
        n = self._n
        if word.shape is Shape.TITLE and not is_caseless(n.words[index]):
            self._take_person(index)
            return
        if word.shape is Shape.UPPER and self._is_beside_name(index):
            self._take_person(index)
            return
        last = index
        while last - index < _MAX_UNKNOWN:
            after = n.after(last)
            if after is None or not n.is_joined(last, after):
                break
            beside = n.word(after)
            if n.words[after] in table.LEADING_PARTICLES and word.shape is Shape.LOWER and self._bridges(after, lower=True):
                self._take_person(index)
                return
            if beside.kind is Kind.NAME and beside.shape is word.shape:
                self._take_person(after)
                return
            if (
                beside.shape is Shape.LOWER is word.shape
                and beside.base not in table.EVERYDAY
                and (
                    beside.kind is Kind.OFTEN_NAME
                    or (beside.kind is Kind.SOMETIMES_NAME and n.base_before(index) in table.BEFORE_FULL_NAME)
                )
            ):
                self._take(index, after, is_person=True)
                return
            if beside.kind is not Kind.UNKNOWN or beside.shape is not word.shape or is_short_code(n, after):
                break
            last = after
        before = n.before(index)
        if before is not None and before >= self._free and word.shape is Shape.LOWER and self._is_first_half(before, index):
            self._take_person(before, index)
            return
        person = before is not None and n.words[before].lower() in table.INTRODUCED and word.shape is Shape.LOWER
        self._take(index, last, is_person=person)

    def _is_first_half(self, index: int, last: int) -> bool:
        """Whether a short word with a capital and a hyphen stand before an unknown word: `by Ha-neul`, not `Non-xyz`."""
        n = self._n
        word = n.word(index)
        if n.text[n.end(index) : n.start(last)] != "-" or word.shape is not Shape.TITLE or not word.base.isalpha():
            return False
        return word.base in table.SYLLABLES or (len(word.base) <= 6 and not n.opens_sentence(index))

    def _is_beside_name(self, index: int) -> bool:
        """Whether a word in capitals has another beside it that may be a name."""
        n = self._n
        before, after = n.before(index), n.after(index)
        joined = [at for at in (before,) if at is not None and n.is_joined(at, index)]
        joined += [at for at in (after,) if n.is_joined(index, at) and at is not None]
        sides = [n.word(at) for at in joined]
        return any(
            side.shape is Shape.UPPER and side.kind is not Kind.PLAIN and side.base not in table.EVERYDAY for side in sides
        )

    def _take(self, first: int, last: int, *, is_person: bool) -> None:
        n = self._n
        start, end = n.start(first), n.end(last)
        while end > start and n.text[end - 1] == "'":
            end -= 1
        while start < end and n.text[start] == "'":
            start += 1
        bases = [n.word(at).base for at in range(first, last + 1) if n.words[at]]
        if n.text[end - 2 : end].lower() == "'s" and is_person:
            end -= 2
        if is_person:
            named = tuple(
                base for base in bases if len(base) > 1 and base not in table.PARTICLES and base not in table.TITLES
            )
            many = len(named) > 1 or any(n.word(at).kind is not Kind.UNKNOWN for at in range(first, last + 1) if n.words[at])
            self._runs.append(Run(start, end, named or tuple(bases), many))
        else:
            self._runs.append(Run(start, end, (" ".join(bases),), False))
        self._free = last + 1
