"""Texts to scrub: the files under tests/data, and names set into sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parent / "data"


def lines(name: str) -> list[str]:
    """The lines of a file under tests/data/prose, `\\n` in them read as line breaks."""
    text = (DATA / "prose" / f"{name}.txt").read_text("utf-8")
    return [
        line.replace("\\n", "\n").replace("\\t", "\t") for line in text.splitlines() if line and not line.startswith("# ")
    ]


def names() -> Iterator[tuple[str, str, str]]:
    """Culture, first word and last word(s) of each name in names.txt."""
    for line in lines("names"):
        culture, _, people = line.partition(": ")
        for person in people.split("; "):
            given, _, family = person.strip().partition(" ")
            yield culture, given, family


def sentence(frame: str, given: str, family: str) -> str:
    """A sentence of frames.txt with a name in it."""
    full = f"{given} {family}".strip()
    return frame.format(full=full, given=given, family=family or given, lower=full.lower(), upper=full.upper())
