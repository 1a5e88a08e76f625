"""The plan of one reading: its few steps, how a checkpoint spells them, and what is learned on the way. Pure.

`look` reads the window whole as long as that is cheap. `slice` reads a random piece without a query, to see what the query
would miss. `query` reads the window through the query, `again` once more through what was learned meanwhile. `scan` reads
it whole because that was asked for, or because no query will do.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from evalforge.core.signals import Thresholds
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.sources.datadog.query import ANY, ASKED_EVALUATORS, MAX_NAMES, NAME, is_queryable

StepKind = Literal["look", "slice", "query", "again", "scan"]

SMALL_WINDOW_SPANS = 5000
"""A window that seems to hold no more is read whole: that costs a few requests and misses nothing."""

MAX_SLICE_FAILURES = 10_000

SLICE_PAGES = 1.9
"""A slice ends after about so many full pages: where spans lie dense two of them are sample enough."""

GAP = "gap:"
"""What an open gap begins with among the learned of an unfinished checkpoint."""

_STEP = re.compile(r"([a-z]{1,9}):([0-9]{1,6}):([0-9]{1,6})(?:@([0-9]{1,15}))?(~?)")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a reading. Its query is built from `learned[first:count]`.

    `from_ms` is where it goes on without a cursor, or began when its cursor had died; `was_partial` that Datadog's answers
    stayed incomplete before.
    """

    kind: StepKind
    first: int = 0
    count: int = 0
    from_ms: int | None = None
    was_partial: bool = False

    def __str__(self) -> str:
        at = "" if self.from_ms is None else f"@{self.from_ms}"
        return f"{self.kind}:{self.first}:{self.count}{at}{'~' if self.was_partial else ''}"


def parse_step(text: str) -> Step | None:
    """The step that `str` spelled, None when the text is none."""
    found = _STEP.fullmatch(text)
    if found is None:
        return None
    first, count = int(found[2]), int(found[3])
    for kind in get_args(StepKind):
        if kind == found[1] and first <= count:
            return Step(kind, first, count, int(found[4]) if found[4] else None, bool(found[5]))
    return None


class Learned:
    """What was found on spans that the query did not know: evaluator names, places, open gaps; in order, only growing.

    Names that the query knows anyway (the signal table's, Datadog's own, the settings') are not learned, nor ignored ones,
    since they never make a failure.
    """

    def __init__(self, entries: Iterable[str], known: Iterable[str], thresholds: Thresholds) -> None:
        self._entries = list(dict.fromkeys(entries))
        self._known = {*self._entries, *(NAME + name for name in known)}
        self._names = sum(entry.startswith(NAME) for entry in self._known)
        self._has_met_any = False
        self._ignored = thresholds.ignored_evaluations

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[str, ...]:
        """Everything learned, the earliest first."""
        return tuple(self._entries)

    @property
    def lasting(self) -> tuple[str, ...]:
        """What later windows should know: all but the gaps."""
        return lasting(self._entries)

    @property
    def gaps(self) -> list[str]:
        """The places whose failures a query still misses."""
        return [entry.removeprefix(GAP) for entry in self._entries if entry.startswith(GAP)]

    @property
    def overflows(self) -> bool:
        """Whether there are too many names for a query."""
        return self._names > MAX_NAMES

    @property
    def knows_evaluations(self) -> bool:
        """Whether spans seem to be evaluated at all: one was met, or a name was learned or set."""
        return self._has_met_any or self._names > 0

    def add(self, entry: str) -> bool:
        """Adds one entry and tells whether it is new."""
        if entry in self._known:
            return False
        self._known.add(entry)
        self._entries.append(entry)
        self._names += entry.startswith(NAME)
        return True

    def add_names(self, spans: Iterable[Span]) -> list[str]:
        """Adds the evaluator names on `spans` and gives the new ones as places; a name that cannot be asked for is a gap."""
        new = []
        for span in spans:
            for evaluation in span.evaluations:
                self._has_met_any = True
                name = evaluation.name
                if name in ASKED_EVALUATORS or name in self._ignored or self.overflows:
                    continue
                if not is_queryable(name):
                    self.add(GAP + shown_place(NAME + name))
                elif self.add(NAME + name):
                    new.append(NAME + name)
        return new

    def add_gaps(self, places: Iterable[str]) -> None:
        """Adds an open gap for each place, or for what was to find its failures."""
        for place in places:
            self.add(GAP + shown_place(place.removeprefix(ANY)))


def lasting(entries: Iterable[str]) -> tuple[str, ...]:
    """What was learned for good: a gap belongs to the reading that found it."""
    return tuple(entry for entry in entries if not entry.startswith(GAP))


def shown_place(place: str) -> str:
    """A place as a report may show it: a name that is no plain one is told by a digest."""
    kind, dot, path = place.partition(".")
    if not dot or (is_queryable(path) and path.isascii()):
        return place
    return f"{kind}.unprintable-{hashlib.sha256(path.encode(errors='replace')).hexdigest()[:8]}"


def existence_of(place: str) -> str:
    """The entry that asks for everything that carries this place."""
    return ANY + place


def next_to_learn(place: str, known: Collection[str]) -> str | None:
    """What the query could learn to find more of what fails at this place: an evaluator's name, then mere existence.

    None when `known` (learned entries, and `evaluation.NAME` for names that are set) has it all, or no query can ask for it.
    """
    kind, _, path = place.partition(".")
    if place != "status" and not is_queryable(path):
        return None
    is_name = kind == "evaluation" and path not in ASKED_EVALUATORS
    entries = [place, existence_of(place)] if is_name else [existence_of(place)]
    return next((entry for entry in entries if entry not in known), None)


def is_small(read_count: int, read_from_ms: int, read_to_ms: int, window: Window) -> bool:
    """Whether the whole window seems to hold no more than 5000 spans, given how many lay between two of its instants."""
    covered_ms = read_to_ms - read_from_ms
    if covered_ms <= 0:
        return False
    rest = read_count / covered_ms * max(0, window.to_ms - read_to_ms)
    return read_count + rest <= SMALL_WINDOW_SPANS


def random_slice(window: Window, length_ms: int, rng: random.Random) -> Window:
    """A piece of the window of that length, anywhere in it; the window itself when it is no longer."""
    if length_ms >= window.duration_ms:
        return window
    from_ms = rng.randint(window.from_ms, window.to_ms - length_ms)
    return Window(from_ms, from_ms + length_ms)


def spread_starts(window: Window, count: int, rng: random.Random) -> list[Window]:
    """From a random instant in each of `count` equal parts of the window to the end of that part; the parts in any order."""
    count = min(count, window.duration_ms)
    edges = [window.from_ms + window.duration_ms * part // count for part in range(count + 1)]
    pieces = [Window(rng.randrange(begin, end), end) for begin, end in pairwise(edges)]
    rng.shuffle(pieces)
    return pieces
