"""From the signal table to Datadog's search syntax: which spans could be failures, so that only those are fetched.

The query never decides; `core.signals` does, on what comes back. So it may fetch too much but must not miss, and it asks
for each value that the rules look at as *present and not provably healthy*: `(@f:* -@f:>=0.5)` rather than `@f:<0.5`. A
number matches either way. But a score that was sent as the text "0.31" (no range finds it), a label in another case or
spelling, and the word "True" are found by the first form only, while a healthy number or `false` still costs nothing.
Metrics are always numbers, so a range does. Tags are never numbers and their keys repeat, so any value may hide behind a
healthy one: they are asked for by existence alone, except HTTP status codes, whose first digit tells (healthy spans commonly
carry 200).

There is no wildcard over evaluator names: each name is a clause, in today's syntax (`@evaluation.NAME…`) and in the one
before it (`@evaluations…`, the table's plain names only). Names beyond the table are given: from the settings, or learned
from spans.

Datadog does not say how long a query may be, so this one is kept short: nothing is asked for twice, a space means AND.

Source: https://docs.datadoghq.com/llm_observability/monitoring/querying/ and
https://docs.datadoghq.com/tracing/trace_explorer/query_syntax/
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from evalforge.core.ports import Reach
from evalforge.core.signals import DOTTED_SPELLINGS, RULES, SPELLINGS, FailureType, Rule, Thresholds
from evalforge.core.span import Span

MAX_NAMES = 300
"""Beyond so many evaluator names a query is no narrower than none, and may be refused: the window is scanned."""

NAME = "evaluation."
"""What an evaluator's name begins with among the learned: `evaluation.tone`."""

ANY = "any:"
"""What a place begins with among the learned where only existence finds its failures: `any:metadata.quality_score`."""

_MAX_NAME_LENGTH = 200
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_ATTRIBUTE_PLACES = {
    "llm_obs": {"metadata": "@meta.metadata.", "metrics": "@metrics."},
    "apm": {"attributes": "@"},
}
_STATUS_CLAUSES = {
    "llm_obs": ("@status:error",),
    # The two error fields find a span that was exported without its status.
    "apm": ("status:error", "@error.message:*", "@error.type:*"),
}
_NOT_OK = {"llm_obs": "(@status:* -@status:ok)", "apm": "-status:ok"}

MANAGED_EVALUATORS = (
    "goal_completeness",
    "input_sentiment",
    "output_sentiment",
    "tool_argument_correctness",
    "tool_selection",
)
"""Datadog's own evaluators beyond the signal table's: always asked for by assessment.

Source: https://docs.datadoghq.com/llm_observability/evaluations/managed_evaluations/
"""

PLAIN_EVALUATORS = frozenset(
    spelling for rule in RULES for name in rule.names for spelling in (name, name.replace(".", "_"))
)
"""The signal table's own evaluator names, without a prefix."""

ASKED_EVALUATORS = PLAIN_EVALUATORS | DOTTED_SPELLINGS.keys() | frozenset(MANAGED_EVALUATORS)
"""Every evaluator name that a query asks for without being told."""

HEALTHY_WORDS = ("false", "no*")
"""What is healthy under every name, `no…` ("none", "not found", "no hallucination") included."""

HEALTHY_LABELS = (*HEALTHY_WORDS, "answered", "matched", "pass", "relevant", "safe")
"""What is healthy as the value of an evaluation that goes by its plain name."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which spans count at all: applications, environments (empty: all), and a query that APM spans must match ("": all)."""

    ml_apps: tuple[str, ...] = ()
    envs: tuple[str, ...] = ()
    apm: str = "@llmobs_trace_id:*"

    def contains(self, span: Span) -> bool:
        """Whether `span` is of a wanted application and environment and no experiment, compared without case.

        APM's entry spans do not tell their application: where it is unknown they count, since they were asked for by `apm`.
        """
        if span.kind == "experiment":
            return False
        if self.ml_apps and not (span.source == "apm" and span.application is None):
            wanted = {name.casefold() for name in self.ml_apps}
            if (span.application or "").casefold() not in wanted:
                return False
        return not self.envs or (span.env or "").casefold() in {env.casefold() for env in self.envs}


def scope_query(source: str, scope: Scope) -> str:
    """The query for every span in scope; "" when there is no limit.

    An application is asked for as attribute (exact) and as tag (Datadog keeps tags in lower case).
    """
    parts = []
    if source == "apm" and scope.apm.strip() not in ("", "*"):
        parts.append(f"({scope.apm.strip()})")
    if source == "llm_obs" and scope.ml_apps:
        apps = _one_of(scope.ml_apps)
        parts.append(f"(@ml_app:{apps} OR ml_app:{apps})")
    if scope.envs:
        parts.append(f"env:{_one_of(scope.envs)}")
    return " AND ".join(parts)


def failure_query(source: str, scope: Scope, thresholds: Thresholds, learned: Iterable[str]) -> str:
    """The query for every span in scope that the rules might call a failure.

    `learned` are evaluator names (`evaluation.NAME`) and places that are asked for by existence (`any:PLACE`). Where
    applications have thresholds of their own the loosest of all is asked for: names of applications are compared without
    case by the rules, and a query cannot.
    """
    thresholds = thresholds.loosest()
    names = [NAME + name for name in MANAGED_EVALUATORS if name not in thresholds.ignored_evaluations]
    clauses = [*_STATUS_CLAUSES[source], *_table_clauses(source, thresholds), *_learned_clauses(source, [*names, *learned])]
    return _scoped(source, scope, clauses)


def learned_query(source: str, scope: Scope, learned: Iterable[str]) -> str:
    """The query for what the entries of `learned` add to `failure_query`; at least one must be `is_queryable`."""
    return _scoped(source, scope, list(_learned_clauses(source, learned)))


def evaluation_entries(thresholds: Thresholds) -> list[str]:
    """The evaluators that are asked for without being told, as `evaluation.NAME`: the signal table's and Datadog's own."""
    table = [
        path
        for path, (name, _) in SPELLINGS.items()
        if path in ASKED_EVALUATORS and thresholds.ignored_evaluations.isdisjoint((name, path))
    ]
    managed = [name for name in MANAGED_EVALUATORS if name not in thresholds.ignored_evaluations]
    return [NAME + name for name in (*table, *managed)]


def evaluated_query(scope: Scope, thresholds: Thresholds, entries: Iterable[str]) -> str:
    """The query for every LLM Observability span in scope that one of these evaluators could make a failure.

    `entries` are at least one of `evaluation_entries`, or of what was learned of evaluators: they that are `is_queryable`.
    """
    thresholds = thresholds.loosest()
    clauses: list[str] = []
    for entry in entries:
        path = entry.removeprefix(NAME)
        if entry.startswith(NAME) and path in SPELLINGS and path in ASKED_EVALUATORS:
            clauses += _evaluation_clauses(path, SPELLINGS[path][1], thresholds)
        else:
            clauses += _learned_clauses("llm_obs", [entry])
    return _scoped("llm_obs", scope, clauses)


def settings_digest(
    source: str,
    mode: str,
    scope: Scope,
    thresholds: Thresholds,
    evaluations: Sequence[str],
    reach: Reach = "all",
) -> str:
    """16 hex digits that change when the settings change what is fetched or how it is judged; no two reaches share one."""
    query = failure_query(source, scope, thresholds, [NAME + name for name in evaluations])
    parts = [mode, query, "\0".join(sorted(thresholds.ignored_evaluations))]
    if thresholds.applications:  # the query tells the loosest scores only
        own = sorted((name, limits.quality, limits.toxicity) for name, limits in thresholds.applications.items())
        parts.append(repr((thresholds.quality, thresholds.toxicity, own)))
    if reach != "all":
        parts.append(reach)
    return hashlib.sha256("\1".join(parts).encode(errors="replace")).hexdigest()[:16]


def is_queryable(name: str) -> bool:
    """Whether a query can ask for an evaluator of this name: printable, 1 to 200 characters, no wildcard."""
    return 0 < len(name) <= _MAX_NAME_LENGTH and name.isprintable() and not ("*" in name or "?" in name)


def quoted(value: str) -> str:
    """`value` as one quoted term, taken literally."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _scoped(source: str, scope: Scope, clauses: Sequence[str]) -> str:
    limit = scope_query(source, scope)
    either = " OR ".join(dict.fromkeys(clauses))
    return f"{limit} AND ({either})" if limit else either


def _one_of(values: Sequence[str]) -> str:
    return "(" + " OR ".join(quoted(value) for value in values) + ")"


def _table_clauses(source: str, thresholds: Thresholds) -> Iterator[str]:
    for path, (name, rule) in SPELLINGS.items():
        if name in thresholds.ignored_evaluations:
            continue
        if path in DOTTED_SPELLINGS:
            for place, prefix in _ATTRIBUTE_PLACES[source].items():
                if place != "metrics":
                    numbers = _healthy_numbers(rule, thresholds) if rule.bound else ()
                    yield _suspicious(prefix + path, numbers, () if rule.bound else ("0", *HEALTHY_WORDS))
                elif rule.bound or rule.truth:
                    yield prefix + path + _failing_numbers(rule, thresholds)
        yield f"{path}:(4* OR 5* OR 6* OR 7* OR 8* OR 9*)" if rule.type is FailureType.HTTP_ERROR else f"{path}:*"
        if source == "llm_obs" and path in ASKED_EVALUATORS and path not in thresholds.ignored_evaluations:
            yield from _evaluation_clauses(path, rule, thresholds)


def _evaluation_clauses(path: str, rule: Rule, thresholds: Thresholds) -> Iterator[str]:
    assessment, value = f"@evaluation.{path}.assessment", f"@evaluation.{path}.value"
    yield f"{assessment}:fail"
    if path not in PLAIN_EVALUATORS:
        yield f"{value}:*"
        return
    # A pass overrules labels, never a numeric threshold.
    passes = () if rule.bound else (f"-{assessment}:pass",)
    yield _suspicious(value, _healthy_numbers(rule, thresholds), HEALTHY_LABELS, passes)
    yield f"@evaluations.assessment.custom.{path}:fail"
    failing = [quoted(label) for label in sorted(rule.labels)] + ["true"] * rule.truth
    for old in (f"@evaluations.{path}", f"@evaluations.custom.{path}"):
        if failing:
            yield f"{old}:({' OR '.join(failing)})"
        if rule.bound:
            yield old + _failing_numbers(rule, thresholds)


def _failing_numbers(rule: Rule, thresholds: Thresholds) -> str:
    """The numbers under a rule's name that are a failure, as what follows the field: beyond its bound, or 1 for true."""
    if rule.bound is None:
        return ":[1 TO 1]"
    return f":{rule.bound.op}{_decimal(rule.bound.limit_in(thresholds))}"


def _healthy_numbers(rule: Rule, thresholds: Thresholds) -> tuple[str, ...]:
    """The numbers under a rule's name that are no failure, as what follows the colon."""
    if rule.bound is not None:
        return (f"{'>=' if rule.bound.op == '<' else '<'}{_decimal(rule.bound.limit_in(thresholds))}",)
    # Without a bound one number alone can be failing: 1, where it means true.
    return ("<1", ">1") if rule.truth else ("<1", ">=1")


def _suspicious(field: str, numbers: Sequence[str], words: Sequence[str], passes: Sequence[str] = ()) -> str:
    """Present and not provably healthy."""
    healthy = [f"-{field}:{number}" for number in numbers]
    if words:
        healthy.append(f"-{field}:({' OR '.join(words)})")
    return f"({' '.join([f'{field}:*', *healthy, *passes])})"


def _learned_clauses(source: str, learned: Iterable[str]) -> Iterator[str]:
    for entry in learned:
        place = entry.removeprefix(ANY)
        kind, _, path = place.partition(".")
        if place == "status" and entry.startswith(ANY):
            yield _NOT_OK[source]
        elif not is_queryable(path):
            continue
        elif kind == "evaluation" and source == "llm_obs":
            name = _escaped(path)
            if entry.startswith(ANY):
                yield from (
                    f"@evaluation.{name}.assessment:*",
                    f"@evaluation.{name}.value:*",
                    f"@evaluations.custom.{name}:*",
                )
            else:
                yield from (f"@evaluation.{name}.assessment:fail", f"@evaluations.assessment.custom.{name}:fail")
                if path in SPELLINGS:
                    yield f"@evaluation.{name}.value:*"
        elif kind == "tags":
            yield f"{_escaped(path)}:*"
        elif kind in _ATTRIBUTE_PLACES[source]:
            yield f"{_ATTRIBUTE_PLACES[source][kind]}{_escaped(path)}:*"


def _escaped(name: str) -> str:
    return "".join(character if character in _PLAIN else f"\\{character}" for character in name)


def _decimal(number: float) -> str:
    """Every digit of `number`, without an exponent."""
    return format(Decimal(repr(number)), "f")
