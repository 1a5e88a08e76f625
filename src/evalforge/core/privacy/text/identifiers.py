"""`find_identifiers`: everything in a text that has a shape of its own, from e-mail addresses to vendors' keys.

One scan by RE2 tells which detectors have anything to do; only those look closer. Linear in the length of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import re2

from evalforge.core.privacy.text import (
    assignments,
    broken,
    codes,
    contacts,
    national,
    network,
    numbers,
    paths,
    records,
    secrets,
    spelled,
    tables,
    told,
)
from evalforge.core.privacy.text.detector import Detector, Match, View, finder, options, uncounted
from evalforge.core.privacy.text.findings import Finding

DETECTORS: tuple[Detector, ...] = (
    *secrets.DETECTORS,
    *network.DETECTORS,
    *contacts.DETECTORS,
    *national.DETECTORS,
    *codes.SURE,
    *paths.DETECTORS,
    *numbers.DETECTORS,
    *spelled.DETECTORS,
    *tables.DETECTORS,
    *assignments.DETECTORS,
    *told.DETECTORS,
    *records.DETECTORS,
    *codes.DETECTORS,
)
"""All detectors, the surest first: where two find the same place, the earlier one says what it is."""

_BREAKABLE = frozenset(
    detector.name for detector in (*network.DETECTORS, *contacts.DETECTORS, *national.DETECTORS, *numbers.DETECTORS)
)
"""What is also looked for where a line break parts it."""

_MARK = re2.compile(rb"\[(?:redacted[:a-z ]{0,20}[0-9]*|[A-Z]{2,8}_[1-9][0-9]{0,4})\]", options())


_ALWAYS = ""
"""A gate that is open for every text: a set says nothing of its own failure but that no gate is open."""
_SET_MEMORY = 16 << 20
_SECRETS = frozenset(detector.name for detector in secrets.DETECTORS)
_COMMON = frozenset("record short_record token pair email email_loose host number table paper".split())
"""Those whose gates most texts open, or leave half open to their end."""


def _sets_of_gates(names: Mapping[str, str]) -> list[list[str]]:
    """Gates in few sets, by the name of a detector each: a set costs a scan, but gates multiply each other's states.

    All in one set outgrow any memory, and RE2 begins anew in every text. Those of secrets hardly begin to match in prose, so
    many of them go together; those that are open in one text and not in the next go apart from the rest.
    """
    secret = [gate for gate, name in names.items() if name in _SECRETS]
    common = [gate for gate, name in names.items() if name in _COMMON]
    rest = [gate for gate, name in names.items() if name not in _SECRETS | _COMMON]
    return [secret, common, rest[::2], rest[1::2]]


@cache
def _gates() -> tuple[tuple[Any, tuple[tuple[int, ...], ...]], ...]:
    """The gates in sets, each with the ranks of the detectors that its gates open."""
    ranks_by_gate: dict[str, tuple[int, ...]] = {}
    for rank, detector in enumerate(DETECTORS):
        gate = uncounted(detector.gate or detector.pattern)
        ranks_by_gate[gate] = (*ranks_by_gate.get(gate, ()), rank)
    sets = []
    for some in _sets_of_gates({gate: DETECTORS[ranks[0]].name for gate, ranks in ranks_by_gate.items()}):
        gate_set = re2.Set.SearchSet(options(_SET_MEMORY))
        for gate in (_ALWAYS, *some):
            gate_set.Add(gate.encode("latin-1"))
        gate_set.Compile()
        sets.append((gate_set, ((), *map(ranks_by_gate.__getitem__, some))))
    return tuple(sets)


@cache
def _finder(rank: int) -> Callable[[bytes], Iterator[Match]]:
    """A detector's finder, made when its gate opens for the first time: most never do."""
    return finder(DETECTORS[rank])


def find_identifiers(text: str) -> list[Finding]:
    """What must not be stored of a text in plain form, the surest first; places may overlap (see `findings.settled`).

    Placeholders that stand in the text are left alone.

    Raises:
        MemoryError: RE2 had too little memory to say what stands in the text.
    """
    view = View.of(text)
    found = _found_in(view)
    if "\n" in text:
        found = [*_over_breaks(view), *found]
    if found and "[" in text:
        return list(_around_marks(view, found))
    return found


def _found_in(view: View, only: frozenset[str] | None = None) -> list[Finding]:
    ranks: list[int] = []
    for gate_set, opens in _gates():
        hits = gate_set.Match(view.shadow)
        if not hits:
            raise MemoryError("the gates ran out of memory")
        for gate in hits:
            ranks += opens[gate]
    found: list[Finding] = []
    for rank in sorted(ranks):
        detector = DETECTORS[rank]
        if only is None or detector.name in only:
            for match in _finder(rank)(view.shadow):
                found.extend(detector.check(view, match))
    return found


def _over_breaks(view: View) -> Iterator[Finding]:
    """What stands on two lines, by the places of both halves."""
    for joined, middle, begin, behind in broken.joined_at_breaks(view):
        for finding in broken.parted(joined, middle, _found_in(joined, _BREAKABLE)):
            yield Finding(begin - middle + finding.start, behind - middle + finding.end, finding.kind, finding.identity)


def _around_marks(view: View, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings without the placeholders in them: what stands left and right of one goes by itself."""
    marks = [mark.span() for mark in _MARK.finditer(view.shadow)]
    for finding in findings:
        at, whole = finding.start, True
        for start, end in marks:
            if start < finding.end and end > finding.start:
                whole = False
                if at < start and any(map(str.isalnum, view.plain[at:start])):
                    yield view.found(at, start, finding.kind)
                at = max(at, end)
        if whole:
            yield finding
        elif at < finding.end and any(map(str.isalnum, view.plain[at : finding.end])):
            yield view.found(at, finding.end, finding.kind)
