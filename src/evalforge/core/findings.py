"""What a look at a real Datadog or Firestore finds, in words that may be shown to anybody.

A finding is made of our own words, of numbers, and of words that a list here or at its caller names. Nothing that came over
a wire is ever copied into one: what is not on a list is counted, or called `another`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from evalforge.core.span import Json


class Verdict(StrEnum):
    """How what was seen stands to what we had assumed."""

    AS_ASSUMED = "as assumed"
    OTHERWISE = "otherwise"
    SEEN = "seen"
    """There was nothing to assume; this is what is there."""
    NOT_SEEN = "not seen"
    """Nothing was there that could tell, or it was not asked."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: its stable name (`llm_obs.order`), what we had assumed, and what was seen.

    `details` are numbers, lists and mappings of the same made words, for machines.
    """

    name: str
    assumed: str
    verdict: Verdict
    seen: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, with at most `requests` requests, and may fail alone. `ask` gives its findings, or raises."""

    name: str
    assumed: str
    requests: int
    ask: Callable[[], Awaitable[Sequence[Finding]]]


class NoFindingError(Exception):
    """A question found nothing out; the message says why, in our own words, and may be shown to anybody.

    `verdict` is FAILED, or NOT_SEEN where nothing went wrong.
    """

    def __init__(self, why: str, verdict: Verdict = Verdict.FAILED) -> None:
        super().__init__(why)
        self.verdict = verdict


def judged(name: str, assumed: str, is_so: bool | None, seen: str, **details: Any) -> Finding:
    """A finding that agrees with what was assumed, or does not; None: nothing was there that could tell."""
    verdict = {True: Verdict.AS_ASSUMED, False: Verdict.OTHERWISE, None: Verdict.NOT_SEEN}[is_so]
    return Finding(name, assumed, verdict, seen, details)


def known_word(value: Json, words: Collection[str]) -> str:
    """`value` if it is one of `words`, else what it is instead, without a letter of it."""
    if isinstance(value, str):
        return value if value in words else "another"
    return type_of(value)


def type_of(value: Json) -> str:
    """The JSON type of a value: `str`, `int`, `float`, `bool`, `null`, `list`, `object`."""
    if value is None:
        return "null"
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (list, "list")):
        if isinstance(value, kind):
            return name
    return "object"


def counted_words(words: Iterable[str]) -> dict[str, int]:
    """How often each word occurs, the most frequent first."""
    return dict(sorted(Counter(words).items(), key=lambda entry: (-entry[1], entry[0])))


def told_counts(counts: Mapping[str, int], nothing: str = "none") -> str:
    """`32 hex 48, decimal 2`."""
    return ", ".join(f"{word} {count}" for word, count in counts.items()) or nothing


_PARTS = frozenset(
    "llm obs llmobs observability span spans event events public search list api apm logs log export experiments "
    "rate limit v1 v2 read query agent".split()
)


def masked_name(name: str) -> str:
    """A name in which only well-known parts can be read: `llm_obs_public_search_api`, `?_search`."""
    parts = re.split(r"[_\-.]", name.lower())[:12]
    return "_".join(part if part in _PARTS else "?" for part in parts)
