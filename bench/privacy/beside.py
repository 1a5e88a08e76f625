"""Ourselves and the peers on one sample of the corpus: what each leaves, what each loses, and how fast it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from bench.privacy.case import Case
from bench.privacy.needles import leaves
from bench.privacy.peers import PEERS, Peer, payload_of
from bench.privacy.scorer import EMPTY, Score, count, score
from bench.privacy.speed import MODES, Speed, once, sanitizing


@dataclass(frozen=True, slots=True)
class Column:
    """One tool's column in the table; without a score it could not be run, and `remark` says why."""

    title: str
    remark: str
    score: Score | None = None
    speed: Speed | None = None


def ours(cases: Sequence[Case]) -> Column:
    """This repository's own column."""
    allowed = list(MODES)[-1]
    return Column(
        "EvalForge",
        "the settings of each group; speed with input and output allow-listed",
        score(cases),
        sanitizing(cases)[allowed],
    )


def theirs(cases: Sequence[Case]) -> list[Column]:
    """A column for each peer that is installed; the others say that they are not."""
    return [_column(peer, cases) for peer in PEERS]


def _column(peer: Peer, cases: Sequence[Case]) -> Column:
    try:
        redact = peer.load()
        title = peer.title
    except (ImportError, OSError) as error:
        return Column(peer.name, f"not measured: {type(error).__name__} when it was loaded (pip install '.[bench]')")
    found = Score()
    schema = list(leaves(EMPTY.item))
    kept = []
    speed = once([orjson.dumps(case.item) for case in cases], cases, lambda case: kept.append(redact(case.item)))
    for case, item in zip(cases, kept, strict=True):
        count(found, case, item, payload_of(item), schema)
    return Column(title, peer.configuration, found, speed)
