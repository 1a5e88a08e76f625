"""`python -m bench privacy`: makes the corpus, scores it, measures peers and speed, and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson

from bench.privacy import beside, report, speed
from bench.privacy.case import Case
from bench.privacy.corpus import clean, conversations, encoded, named, prose, spellings, structured
from bench.privacy.scorer import score

SEED = 4
PEER_SHARE = 0.1
"""Of the corpus: Presidio reads about a tenth of a megabyte per second."""
GROUPS: dict[str, tuple[Callable[[random.Random, int], Iterator[Case]], int]] = {
    "specified": (named.cases, 480),
    "spellings": (spellings.cases, 1_000),
    "encoded": (encoded.cases, 840),
    "prose": (prose.cases, 1_200),
    "conversations": (conversations.cases, 320),
    "identifiers": (structured.cases, 1_260),
    "clean": (clean.cases, 600),
}
"""Each group with the number of its spans in a full run."""
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- privacy measured -->", "<!-- end privacy measured -->"


def corpus(seed: int, share: float, groups: Sequence[str] = tuple(GROUPS)) -> list[Case]:
    """The corpus of that seed; `share` of the full number of spans of each group."""
    found: list[Case] = []
    for name in groups:
        make, count = GROUPS[name]
        found.extend(make(random.Random(f"{seed} {name}"), max(1, round(count * share))))
    return found


def speeds(cases: Sequence[Case]) -> list[str]:
    """The tables of speed."""
    size = sum(len(orjson.dumps(case.item)) for case in cases) / len(cases) / 1000
    return report.speed_table(speed.sanitizing(cases), speed.growth(), len(cases), size)


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench privacy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the corpus; prints the misses, writes no page")
    parser.add_argument("--no-peers", action="store_true", help="leave out the other tools")
    parser.add_argument("--speed", action="store_true", help="with --quick or --group: the timings too")
    parser.add_argument("--group", action="append", choices=tuple(GROUPS), help="this group only; several may be given")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--share", type=float, help="of the corpus; 1 is all of it")
    parser.add_argument("--misses", type=Path, help="a file for the list of leaks and losses")
    given = parser.parse_args(arguments)
    is_partial = given.quick or given.group
    share = given.share or (0.25 if given.quick else 1.0)
    cases = corpus(given.seed, share, given.group or tuple(GROUPS))
    found = score(cases)
    missed = report.misses(found)
    if given.misses:
        given.misses.write_text("\n".join(missed) + "\n", "utf-8")
    lines = [f"{report.machine()}; {len(cases):,} spans, {found.planted.total():,} planted values, seed {given.seed}.", ""]
    lines += [*report.figures(found), *report.by_kind_table(found, forms=bool(is_partial))]
    if not given.no_peers:
        sample = corpus(given.seed, PEER_SHARE * share, given.group or tuple(GROUPS))
        lines += ["", *report.peers_table([beside.ours(sample), *beside.theirs(sample)], len(sample))]
    if given.speed or not is_partial:
        lines += ["", *speeds(corpus(given.seed, 0.2 * share))]
    if is_partial:
        print("\n".join(missed))
    print("\n".join(lines))
    if not is_partial:
        text = PAGE.read_text("utf-8")
        head, _, rest = text.partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}", "utf-8")
        print(f"written to docs/{PAGE.name}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
