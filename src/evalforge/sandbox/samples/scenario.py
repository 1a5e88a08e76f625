"""What one sample conversation is about: a template whose `{placeholders}` a person and the facts of the day fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evalforge.sandbox.spans import Json


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that users ask, what the application did about it, and how it goes wrong.

    `documents` are (name, text) pairs that retrieval finds. `bad` is the answer of a run that failed, `verdict` what a judge
    wrote about it, `error` an exception, its type before the first colon.
    """

    topic: str
    ask: str
    tool: str
    arguments: Mapping[str, Json]
    result: Mapping[str, Json]
    documents: tuple[tuple[str, str], ...]
    good: str
    bad: str
    verdict: str
    error: str


@dataclass(frozen=True, slots=True)
class App:
    """One application: who it says it is, its span names from the root down, and what it is asked."""

    ml_app: str
    service: str
    team: str
    route: str
    model: str
    provider: str
    system: str
    root: str
    agent: str
    retrieval: str
    answer: str
    scenarios: tuple[Scenario, ...]


def filled(template: Json, facts: Mapping[str, str]) -> Json:
    """Return a copy of a JSON template with every placeholder in its strings filled."""
    if isinstance(template, str):
        return template.format_map(facts)
    if isinstance(template, Mapping):
        return {key: filled(value, facts) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [filled(value, facts) for value in template]
    return template
