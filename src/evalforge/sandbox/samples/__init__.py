"""Sample traces that a reader finds believable: three applications over a day, a good fifth of their runs failing.

The same seed and end give the same samples, to the byte. People are invented; their data is planted wherever careless
applications leave it, and `planted` and `expected_failures` tell tests what must not be kept and what must be found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import orjson

from evalforge.sandbox.memory import Store
from evalforge.sandbox.samples.docs_assistant import DOCS_ASSISTANT
from evalforge.sandbox.samples.faults import BREAKDOWNS, FAULTS, HARMLESS, Fault, fail_evaluator, plant
from evalforge.sandbox.samples.ops_copilot import OPS_COPILOT
from evalforge.sandbox.samples.people import facts_of, people
from evalforge.sandbox.samples.support_bot import SUPPORT_BOT
from evalforge.sandbox.samples.trace import MS, Trace, build
from evalforge.sandbox.spans import Json

DEFAULT_SEED = 7
DEFAULT_TRACES = 300

APPS = (SUPPORT_BOT, DOCS_ASSISTANT, OPS_COPILOT)

_PERIOD = timedelta(hours=24)
_LONGEST = timedelta(minutes=2)
_FAILING_SHARE = 0.24


@dataclass(frozen=True, slots=True)
class Samples:
    """Spans to load, and what is known about them.

    `llm_obs` are whole items, with `unexported` beside the attributes where Datadog can search more than it exports; `apm`
    are whole items. `expected` maps the LLM Observability trace id of each failing trace to the names of its signal types.
    `planted` are the personal strings in them (tags carry them in lower case). `users` maps each trace id to its user's id.
    """

    llm_obs: tuple[Json, ...]
    apm: tuple[Json, ...]
    expected: Mapping[str, frozenset[str]]
    planted: tuple[str, ...]
    users: Mapping[str, str]


def generate(seed: int = DEFAULT_SEED, end: datetime | None = None, traces: int = DEFAULT_TRACES) -> Samples:
    """Return the samples of the 24 hours before `end`, which is an aware time, now if None."""
    return _generate(seed, datetime.now(UTC) if end is None else end, traces)


def planted(seed: int = DEFAULT_SEED, end: datetime | None = None, traces: int = DEFAULT_TRACES) -> tuple[str, ...]:
    """Return every personal string in the samples. Look for them without case: Datadog stores tags in lower case."""
    return generate(seed, end, traces).planted


def expected_failures(
    seed: int = DEFAULT_SEED, end: datetime | None = None, traces: int = DEFAULT_TRACES
) -> Mapping[str, frozenset[str]]:
    """Return the signal types of each failing trace by its LLM Observability trace id."""
    return generate(seed, end, traces).expected


def load(store: Store, *, seed: int = DEFAULT_SEED, end: datetime | None = None, traces: int = DEFAULT_TRACES) -> Samples:
    """Put the samples into a store, and return them."""
    samples = generate(seed, end, traces)
    store.add_llm_obs(samples.llm_obs)
    store.add_apm(samples.apm)
    return samples


@lru_cache(maxsize=4)
def _generate(seed: int, end: datetime, traces: int) -> Samples:
    rng = random.Random(seed)
    everybody = people(rng)
    made: list[Trace] = []
    starts = sorted(rng.uniform(_LONGEST.total_seconds(), _PERIOD.total_seconds()) for _ in range(traces))
    for ago_s in reversed(starts):
        app = rng.choices(APPS, (5, 3, 2))[0]
        person = rng.choice(everybody)
        start_ns = int((end - timedelta(seconds=ago_s)).timestamp() * 1e6) * 1000
        made.append(build(app, rng.choice(app.scenarios), person, facts_of(rng, person), start_ns, rng))
    _spoil(made, rng)
    return Samples(
        llm_obs=tuple(_item(trace, span) for trace in made for span in trace.spans),
        apm=tuple(item for trace in made for item in trace.apm),
        expected={trace.trace_id: frozenset(trace.signals) for trace in made if trace.signals},
        planted=_planted(made),
        users={trace.trace_id: trace.person.user_id for trace in made},
    )


def _spoil(made: list[Trace], rng: random.Random) -> None:
    """Make a share of the traces fail, row after row of the table, and give the others what only looks like failing."""
    failing = rng.sample(made, round(len(made) * _FAILING_SHARE))
    spoilers = [*(_planting(fault) for fault in rng.sample(FAULTS, len(FAULTS))), *BREAKDOWNS, *BREAKDOWNS, *BREAKDOWNS]
    for number, trace in enumerate(failing):
        spoilers[number % len(spoilers)](trace)
        if number % 5 == 0:  # trouble seldom comes alone
            spoilers[(number * 7 + 3) % len(spoilers)](trace)
    failed = {trace.trace_id for trace in failing}
    healthy = [trace for trace in made if trace.trace_id not in failed]
    for number, trace in enumerate(healthy):
        plant(trace, HARMLESS[number % len(HARMLESS)])
        plant(trace, HARMLESS[(number * 5 + 1) % len(HARMLESS)])
        if number % 40 == 7:
            fail_evaluator(trace)
        if number % 30 == 4:
            _send_milliseconds(trace)
        if number % 60 == 11:
            _make_experiment(trace)


def _planting(fault: Fault) -> Callable[[Trace], None]:
    return lambda trace: plant(trace, fault)


def _make_experiment(trace: Trace) -> None:
    """Turn a trace into an offline experiment, which fails on purpose and is nobody's production failure."""
    trace.spans = [trace.answer]
    trace.apm = []
    trace.answer |= {"span_kind": "experiment", "parent_id": "undefined"}
    plant(trace, Fault("", "evaluation", "policy_compliance", "violates refund policy", "fail"))


def _send_milliseconds(trace: Trace) -> None:
    """Start every span in milliseconds, as senders do who follow the example in Datadog's documentation."""
    for span in trace.spans:
        span["start_ns"] //= MS


def _item(trace: Trace, span: dict[str, Json]) -> Json:
    item: dict[str, Json] = {"id": span["span_id"], "type": "span", "attributes": span}
    if span["span_id"] in trace.errors:
        item["unexported"] = {"error": trace.errors[span["span_id"]]}
    return item


def _planted(made: list[Trace]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for trace in made:
        written = orjson.dumps([trace.spans, trace.apm, trace.errors]).decode()
        # In JSON inside JSON a quote or a backslash would be escaped twice; no person's data has one.
        found |= dict.fromkeys(secret for secret in trace.person.secrets if secret in written)
    return tuple(found)
