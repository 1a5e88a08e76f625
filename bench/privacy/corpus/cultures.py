"""Given names and family names of many cultures as they are written in Latin letters, from general knowledge.

Few of them stand in any list of names from the United States. `texts/cultures.txt` has a row for each culture: given names,
then family names.
"""

from __future__ import annotations

from pathlib import Path

GIVEN: dict[str, tuple[str, ...]] = {}
FAMILY: dict[str, tuple[str, ...]] = {}
_PARTICLES = frozenset({"van", "de", "De", "Le", "Te", "Ó", "Ní"})


def _families(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for word in text.split():
        if found and found[-1].split()[-1] in _PARTICLES:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return tuple(found)


for _row in (Path(__file__).parent / "texts" / "cultures.txt").read_text("utf-8").splitlines():
    _culture, _, _names = _row.partition(": ")
    _given, _, _family = _names.partition(" | ")
    GIVEN[_culture] = tuple(_given.split())
    FAMILY[_culture] = _families(_family)

DICTIONARY_NAMES = (
    "Grace Church|Mark Stone|Rose Field|Will Banks|Hope Winters|Hunter Brooks|Faith Bishop|Chase Rivers|Summer "
    "Hill|Drew Wells|"
    "Dawn Porter|Jack Frost|Bill Cook|Joy Carpenter|Rich Page|Iris Marsh|Miles Park|Ivy Woods|Pat Baker|Skip Young|"
    "Crystal Waters|Dean Fisher|Sandy Beach|Amber Fox|Frank Bell|Penny Short|Gene Archer|Olive Green|Reed Butler|Daisy Lake"
).split("|")
"""Names whose every word is an ordinary English word."""
