"""Judges every case as ingestion does, and counts: what leaked, what was lost, whose hash is wrong."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from bench.privacy.case import PROFILES, Case, Kept, Planted
from bench.privacy.corpus.drafts import Draft
from bench.privacy.needles import Search, folded_text, leaves, views_of
from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.privacy import KeyRing
from evalforge.core.span import Span
from evalforge.ingest import Judge
from evalforge.sources.datadog.spans import PARSERS

SALT = "bench-0nly-kZ8vQ2mX7pL4wR9tB6nJ3hG5yT"
FETCHED_AT = datetime(2026, 11, 24, tzinfo=UTC)
_WORDS = re.compile(r"[^\W\d_]{2,}")


def judges_for(profiles: Mapping[str, Mapping[str, str]]) -> dict[str, Judge]:
    """A judge for each profile, as the settings of that profile make it."""
    base = {"DATADOG_API_KEY": "bench", "DATADOG_APP_KEY": "bench", "CAPTURE_STORE": "sqlite:///bench.db", "PII_SALT": SALT}
    ring = ring_of_bench()
    return {name: bootstrap.judge_of(Settings.from_environment(base | dict(more)), ring) for name, more in profiles.items()}


def ring_of_bench() -> KeyRing:
    """The key ring under which users are hashed here."""
    return KeyRing((SALT.encode(),))


def span_of(case: Case) -> Span:
    """The case's item as its source's parser reads it."""
    span = PARSERS[case.source](case.item)
    assert isinstance(span, Span), span
    return span


def document_of(case: Case, judge: Judge) -> dict[str, Any]:
    """What would be stored of the case."""
    capture = judge.capture(span_of(case), FETCHED_AT)
    assert capture is not None, "every case fails"
    return capture.to_document()


@dataclass(frozen=True, slots=True)
class Leak:
    """A planted value that can be found in what was stored, and the part that was found."""

    group: str
    profile: str
    planted: Planted
    found: str
    around: str

    def line(self) -> str:
        """One line for people."""
        about = f"{self.group:14} {self.planted.kind:12} {self.planted.form:22} in {self.planted.carrier}"
        return f"LEAK  {about}: {self.planted.value!r} by {self.found!r} … {self.around!r}"


@dataclass(frozen=True, slots=True)
class Loss:
    """A harmless value that did not survive."""

    kept: Kept
    stored: Any

    def line(self) -> str:
        """One line for people."""
        path = ".".join(map(str, self.kept.path))
        return f"LOST  {self.kept.what:22} {path} = {self.kept.value!r} became {self.stored!r}"


@dataclass(slots=True)
class Score:
    """Counts by whatever the report wants to group by; a leak or loss is kept whole for the list of misses."""

    planted: Counter[tuple[str, str]] = field(default_factory=Counter)
    leaked: Counter[tuple[str, str]] = field(default_factory=Counter)
    forms: Counter[tuple[str, str]] = field(default_factory=Counter)
    leaked_forms: Counter[tuple[str, str]] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    words: Counter[tuple[str, str]] = field(default_factory=Counter)
    words_kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    users: int = 0
    users_right: int = 0
    leaks: list[Leak] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    removed_words: Counter[tuple[str, str]] = field(default_factory=Counter)
    unstable: int = 0

    def recall(self, group: str, kinds: Iterable[str] | None = None) -> float | None:
        """The share of planted values of a group (and kinds) that did not leak; None when nothing was planted."""
        wanted = None if kinds is None else frozenset(kinds)
        keys = [key for key in self.planted if key[0] == group and (wanted is None or key[1] in wanted)]
        total = sum(self.planted[key] for key in keys)
        return None if not total else 1 - sum(self.leaked[key] for key in keys) / total


def score(cases: Iterable[Case]) -> Score:
    """Every case judged under the settings of its profile."""
    found = Score()
    by_profile = judges_for(PROFILES)
    ring = ring_of_bench()
    schema = list(leaves(document_of(EMPTY, by_profile[EMPTY.profile])))
    for case in cases:
        judge = by_profile[case.profile]
        document = document_of(case, judge)
        if document_of(case, judge) != document:
            found.unstable += 1
        count(found, case, document, document["trace_payload"], schema)
        if case.user_id is not None:
            found.users += 1
            found.users_right += document["user_hash"] == ring.user_hash(case.user_id)
    return found


EMPTY = Draft(random.Random(0), "empty").case()
"""A span with nothing planted: what every span and every document says."""


def count(
    found: Score, case: Case, document: Mapping[str, Any], payload: Mapping[str, Any], schema: Iterable[str] = ()
) -> None:
    """Adds one case to a score: leaks searched in `document`, what survived in `payload`.

    `schema` are the words that every document has: a part of a value that is one of them tells nothing.
    """
    if case.planted:
        views = views_of(leaves(document), case.own_ids)
        search = Search(views, views_of((*schema, *_harmless(case)), case.own_ids))
        for planted in case.planted:
            found.planted[case.group, planted.kind] += 1
            found.forms[case.group, planted.form] += 1
            hit = search.hit(planted.kind, planted.value)
            if hit is not None:
                found.leaked[case.group, planted.kind] += 1
                found.leaked_forms[case.group, planted.form] += 1
                at = views.text.find(hit)
                around = views.text[max(0, at - 40) : at + len(hit) + 40] if at >= 0 else ""
                found.leaks.append(Leak(case.group, case.profile, planted, hit, around.replace("\n", " | ")))
    for kept in case.kept:
        found.kept[kept.what] += 1
        stored = at_path(payload, kept.path)
        if not same(stored, kept.value):
            found.lost[kept.what] += 1
            found.losses.append(Loss(kept, stored))
    for text in case.texts:
        stored = at_path(payload, text.path)
        wanted = Counter(_WORDS.findall(folded_text(text.harmless)))
        have = Counter(_WORDS.findall(folded_text(stored))) if isinstance(stored, str) else Counter[str]()
        label = (case.group, text.kind)
        found.words[label] += wanted.total()
        found.words_kept[label] += (wanted & have).total()
        for word, times in (wanted - have).items():
            found.removed_words[label[1], word] += times


def _harmless(case: Case) -> Iterator[str]:
    """The span's text with everything that was planted cut out."""
    text = orjson.dumps(case.item).decode()
    spelled = {planted.spelled for planted in case.planted} | {planted.value for planted in case.planted}
    for one in sorted(spelled, key=len, reverse=True):
        for form in (one, orjson.dumps(one).decode()[1:-1], one.lower()):
            text = text.replace(form, " ")
    yield text
    yield from (one.harmless for one in case.texts)


def at_path(payload: Any, path: tuple[str | int, ...]) -> Any:
    """What stands at a path; keys are compared by their letters and digits, and a dotted key may stand for nested ones."""
    if not path:
        return payload
    if isinstance(path[0], int):
        inside = isinstance(payload, list) and path[0] < len(payload)
        return at_path(payload[path[0]], path[1:]) if inside else None
    if not isinstance(payload, Mapping):
        return None
    if path[0] in payload:
        return at_path(payload[path[0]], path[1:])
    by_letters = {_letters(key): value for key, value in payload.items()}
    return at_path(by_letters[_letters(path[0])], path[1:]) if _letters(path[0]) in by_letters else None


def _letters(key: str) -> str:
    return re.sub("[^a-z0-9]", "", key.lower())


def same(stored: Any, value: Any) -> bool:
    """Whether the stored value still says what the harmless one said."""
    if stored is None:
        return False
    if isinstance(stored, list) and not isinstance(value, list):
        return any(same(one, value) for one in stored)
    if isinstance(value, list):
        return isinstance(stored, list) and len(stored) == len(value) and all(map(same, stored, value))
    if isinstance(value, (int, float)) and isinstance(stored, (int, float)):
        return float(stored) == float(value)
    return str(stored).casefold() == str(value).casefold()


def by_kind(score: Score, group: str) -> dict[str, tuple[int, int]]:
    """Planted and leaked values of a group by kind."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for (name, kind), planted in score.planted.items():
        if name == group:
            found[kind] = (planted, score.leaked[name, kind])
    return dict(sorted(found.items()))
