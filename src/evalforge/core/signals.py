"""The rules: which spans are failures, and why. One table, read by the judge here and by every source's query.

`find_signals` is the only judge of a span; a source's query may narrow what is fetched, it never decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from itertools import product
from operator import itemgetter
from typing import Literal

from evalforge.core.span import Evaluation, Json, Span


class Severity(IntEnum):
    """How bad, greater is worse. Stored and shown by `label`."""

    MEDIUM = 1
    HIGH = 2
    CRITICAL = 3

    @property
    def label(self) -> str:
        """The lower-case name: "medium", "high" or "critical"."""
        return self.name.lower()


class FailureType(StrEnum):
    """The kinds of failure, in the row order of the signal table: the earlier one wins among equal severities."""

    GUARDRAIL_FAILURE = "guardrail_failure"
    PROMPT_INJECTION = "prompt_injection"
    TOXICITY = "toxicity"
    HALLUCINATION = "hallucination"
    HTTP_ERROR = "http_error"
    QUALITY_DEGRADATION = "quality_degradation"
    EVALUATION_FAILURE = "evaluation_failure"
    EXECUTION_ERROR = "execution_error"

    @property
    def row(self) -> int:
        """The row in the signal table, 0 first."""
        return _ROW_OF[self]


_ROW_OF = {failure_type: row for row, failure_type in enumerate(FailureType)}

Comparison = Literal["<", ">=", "is", "assessment is", "status is"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The scores, from 0 to 1, of one application; None where it has no own and the general one applies."""

    quality: float | None = None
    toxicity: float | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The settings that the rules read: two scores from 0 to 1, and evaluator names that never make a failure.

    `applications` holds what single applications have instead of the two scores, by name in `str.casefold` form.
    """

    quality: float = 0.5
    toxicity: float = 0.7
    ignored_evaluations: frozenset[str] = frozenset()
    applications: Mapping[str, Limits] = field(default_factory=dict)

    def of(self, application: str | None) -> Thresholds:
        """What applies to an application, whose name is compared without case: its own scores, else the general ones."""
        own = self.applications.get(application.casefold()) if application and self.applications else None
        if own is None:
            return self
        quality = self.quality if own.quality is None else own.quality
        toxicity = self.toxicity if own.toxicity is None else own.toxicity
        return replace(self, quality=quality, toxicity=toxicity, applications={})

    def loosest(self) -> Thresholds:
        """The scores under which everything fails that fails under those of any application."""
        every = [self, *map(self.of, self.applications)]
        return replace(
            self,
            quality=max(one.quality for one in every),
            toxicity=min(one.toxicity for one in every),
            applications={},
        )


@dataclass(frozen=True, slots=True)
class Signal:
    """One reason why a span is a failure: at `place` the value `observed` met `comparison` with `threshold`.

    `place` is a dotted path such as `evaluation.hallucination`, `metadata.llm_obs.quality_score`, `tags.toxicity_score`
    or `status`. `observed` is raw until the sanitizer has looked at it.
    """

    type: FailureType
    severity: Severity
    span_id: str
    place: str
    observed: Json
    threshold: float | bool | str | None
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Bound:
    """A numeric limit: a value is failing when `value <op> limit`. `limit` is a number or the name of a threshold."""

    op: Literal["<", ">="]
    limit: float | Literal["quality", "toxicity"]

    def limit_in(self, thresholds: Thresholds) -> float:
        """The number that applies under these thresholds."""
        if self.limit == "quality":
            return thresholds.quality
        if self.limit == "toxicity":
            return thresholds.toxicity
        return float(self.limit)

    def is_met(self, number: float, limit: float) -> bool:
        """Whether `number` is on the failing side of `limit`."""
        return number < limit if self.op == "<" else number >= limit


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the signal table.

    A value found under one of `names` (see `SPELLINGS`) is failing when it is true and `truth` is set, when it is one of
    `labels` (compared case-folded, `_` and `-` as spaces), or when it meets `bound`. An evaluation under one of the names
    with assessment "fail" is failing whatever its value.
    """

    type: FailureType
    names: tuple[str, ...]
    severity: Severity
    truth: bool = False
    labels: frozenset[str] = field(default_factory=frozenset)
    bound: Bound | None = None


RULES: tuple[Rule, ...] = (
    Rule(FailureType.GUARDRAIL_FAILURE, ("guardrails.failed",), Severity.CRITICAL, truth=True),
    Rule(
        FailureType.PROMPT_INJECTION,
        ("prompt_injection",),
        Severity.CRITICAL,
        truth=True,
        labels=frozenset(
            {
                "found",
                "detected",
                "injection found",
                "injection detected",
                "prompt injection",
                "prompt injection found",
                "prompt injection detected",
                "jailbreak",
                "jailbreak attack",
            }
        ),
    ),
    Rule(
        FailureType.TOXICITY,
        ("toxicity_score", "toxicity", "input_toxicity", "output_toxicity"),
        Severity.HIGH,
        truth=True,
        labels=frozenset({"toxic", "toxicity found", "harassment", "hate", "self harm"}),
        bound=Bound(">=", "toxicity"),
    ),
    Rule(
        FailureType.HALLUCINATION,
        ("hallucination",),
        Severity.HIGH,
        truth=True,
        labels=frozenset(
            {
                "found",
                "detected",
                "hallucination",
                "hallucinated",
                "hallucination found",
                "hallucination detected",
                "contradiction",
                "unsupported claim",
            }
        ),
    ),
    Rule(FailureType.HTTP_ERROR, ("http.status_code",), Severity.MEDIUM, bound=Bound(">=", 400)),
    Rule(FailureType.QUALITY_DEGRADATION, ("quality_score",), Severity.MEDIUM, bound=Bound("<", "quality")),
    Rule(
        FailureType.EVALUATION_FAILURE,
        ("failure_to_answer",),
        Severity.MEDIUM,
        labels=frozenset({"failed to answer"}),
    ),
    Rule(
        FailureType.EVALUATION_FAILURE,
        ("language_mismatch",),
        Severity.MEDIUM,
        labels=frozenset({"mismatched"}),
    ),
    Rule(
        FailureType.EVALUATION_FAILURE,
        ("topic_relevancy",),
        Severity.MEDIUM,
        labels=frozenset({"irrelevant"}),
    ),
)
"""The signal table but for its two rows that look at no name: any evaluation with assessment "fail" that no rule here
claims is an `evaluation_failure`, and a span with status "error" is an `execution_error`.

Labels: Datadog's documented failing values, and the plain spellings people use for them.
Source: https://docs.datadoghq.com/llm_observability/evaluations/managed_evaluations/
"""

PREFIXES = ("", "llm_obs.", "llm_obs.evaluations.")
"""What may stand before a name: `quality_score` is also looked for as `llm_obs.quality_score`, and so on."""


def spellings(name: str) -> tuple[str, ...]:
    """Every key under which `name` is looked for, dotted: bare and behind each of `PREFIXES`."""
    return tuple(prefix + name for prefix in PREFIXES)


def _dotted_spellings() -> dict[str, tuple[str, Rule]]:
    return {path: (name, rule) for rule in RULES for name in rule.names for path in spellings(name)}


DOTTED_SPELLINGS = _dotted_spellings()
"""The name and the rule behind each key that is looked for in metadata, metrics and attributes."""

SPELLINGS = DOTTED_SPELLINGS | {path.replace(".", "_"): row for path, row in DOTTED_SPELLINGS.items()}
"""The same for tags and evaluator names, where dots may have become underscores.

Source: Datadog's agentless intake replaces the dots in tag keys; evaluator names may hold no dot.
"""

_BRANCHES = frozenset(path[:dot] for path in DOTTED_SPELLINGS for dot in range(len(path)) if path[dot] == ".")
_LOOKED_FOR = _BRANCHES.union(DOTTED_SPELLINGS)
_beginning_of = itemgetter(slice(4))


def _beginnings(keys: Iterable[str]) -> frozenset[str]:
    """What text may begin with that is one of these keys when it is in lower case."""
    begun: set[str] = set()
    for beginning in map(_beginning_of, keys):
        # Of all letters that are not ASCII's own, one alone has its lower case there: the sign for kelvin.
        ways = ({letter, letter.upper(), "\u212a"} if letter == "k" else {letter, letter.upper()} for letter in beginning)
        begun.update(map("".join, product(*ways)))
    return frozenset(begun)


_TAG_BEGINNINGS = _beginnings(SPELLINGS)
_LONGEST_LABEL = max(len(label) for rule in RULES for label in rule.labels)
_WORDS_OF_TRUTH = {"true": True, "false": False}


def find_signals(span: Span, thresholds: Thresholds) -> tuple[Signal, ...]:
    """Every reason why `span` is a failure, the most severe first; empty when it is healthy.

    Looks at the span's status, its evaluations, and at the named values in metadata, metrics, tags and attributes
    (nested or dotted). Numbers may be strings, booleans may be words; NaN, infinities and nonsense are no signal.
    The span's application decides which scores apply.
    """
    if thresholds.applications:
        thresholds = thresholds.of(span.application)
    found: list[Signal] = []
    for place, values in (
        ("metadata", span.metadata),
        ("metrics", span.metrics),
        ("attributes", span.attributes),
    ):
        if values and not _LOOKED_FOR.isdisjoint(values):
            for name, rule, path, value in _named_values(values):
                signal = _of_named_value(name, rule, f"{place}.{path}", value, span, thresholds)
                if signal is not None:
                    found.append(signal)
    if not span.is_plain:
        found.extend(_beyond_named_values(span, thresholds))
    if len(found) > 1:
        found.sort(key=rank, reverse=True)
    return tuple(found)


def _beyond_named_values(span: Span, thresholds: Thresholds) -> Iterator[Signal]:
    """The signals of what `Span.is_plain` speaks of: status, evaluations, tags."""
    if span.status == "error":
        yield _signal(FailureType.EXECUTION_ERROR, Severity.MEDIUM, span, "status", "error", "error", "status is")
    for evaluation in span.evaluations:
        yield from _of_evaluation(evaluation, span, thresholds)
    for key, value in span.tags:
        row = SPELLINGS.get(key.lower())
        if row is not None:
            name, rule = row
            signal = _of_named_value(name, rule, f"tags.{key.lower()}", value, span, thresholds)
            if signal is not None:
                yield signal


def is_plain_evaluation(name: str, assessment: Json) -> bool:
    """Whether no rule fires on an evaluation with this name and assessment, whatever else it says and whatever thresholds.

    False where only a closer look tells. `assessment` is as received, of any type.
    """
    row = SPELLINGS.get(name)
    if not isinstance(assessment, str):
        return row is None
    verdict = assessment.lower()
    return verdict != "fail" if row is None else verdict == "pass" and row[1].bound is None


def are_plain_tags(tags: Json) -> bool:
    """Whether no rule fires on these tags, whatever their values: a list of `key:value` whose keys no rule looks for.

    False where only a closer look tells: at a key that a rule looks for, and at any other form of tags.
    """
    if tags is None:
        return True
    if type(tags) is not list:
        return False
    try:
        if _TAG_BEGINNINGS.isdisjoint(map(_beginning_of, tags)):
            return True
        # Such as `language:python`, which begins as `language_mismatch` does and is on every span that ddtrace sends.
        return all(tag.partition(":")[0].lower() not in SPELLINGS for tag in tags if _beginning_of(tag) in _TAG_BEGINNINGS)
    except (TypeError, LookupError):  # something among them is no text
        return False


def rank(signal: Signal) -> tuple[int, int, str, str, str, str, str]:
    """A total order of signals, the greatest the worst: severity, then row of the table, then what tells them apart."""
    return (
        int(signal.severity),
        -signal.type.row,
        signal.span_id,
        signal.place,
        signal.comparison,
        repr(signal.observed),
        repr(signal.threshold),
    )


def quality_scores(span: Span) -> Iterator[float]:
    """Every finite number that the span carries under `quality_score`, in whatever place."""
    for evaluation in span.evaluations:
        row = SPELLINGS.get(evaluation.name)
        if row is not None and row[0] == "quality_score" and not _is_no_verdict(evaluation):
            yield from _finite(evaluation.value)
    for _, value in _values_named("quality_score", span):
        yield from _finite(value)


def http_status_codes(span: Span) -> Iterator[int]:
    """Every HTTP status code (100 to 999) that the span carries, in whatever place."""
    for _, value in _values_named("http.status_code", span):
        for number in _finite(value):
            if _is_status_code(number):
                yield int(number)


def number_of(value: Json) -> float | None:
    """`value` as a finite number, where it is one or a string that spells one; booleans are no numbers."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    if isinstance(value, str) and 0 < len(value) <= 40 and value.isascii() and "_" not in value:
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def _values_named(wanted: str, span: Span) -> Iterator[tuple[str, Json]]:
    for values in (span.metadata, span.metrics, span.attributes):
        for name, _, path, value in _named_values(values):
            if name == wanted:
                yield path, value
    for key, value in span.tags:
        row = SPELLINGS.get(key.lower())
        if row is not None and row[0] == wanted:
            yield key, value


def _named_values(values: Mapping[str, Json]) -> Iterator[tuple[str, Rule, str, Json]]:
    """(name, rule, path, value) of each value in the mapping that a rule looks for, nested or dotted."""
    for key, value in values.items():
        if key in _LOOKED_FOR:
            yield from _below(key, value)


def _below(path: str, value: Json) -> Iterator[tuple[str, Rule, str, Json]]:
    row = DOTTED_SPELLINGS.get(path)
    if row is not None:
        yield row[0], row[1], path, value
    if path in _BRANCHES and isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str):
                # Depth is bounded by the longest spelling: a path that is no branch ends the walk.
                yield from _below(f"{path}.{key}", inner)


def _of_evaluation(evaluation: Evaluation, span: Span, thresholds: Thresholds) -> Iterator[Signal]:
    if evaluation.name in thresholds.ignored_evaluations or _is_no_verdict(evaluation):
        return
    place = f"evaluation.{evaluation.name}"
    assessment = evaluation.assessment.lower() if isinstance(evaluation.assessment, str) else None
    row = SPELLINGS.get(evaluation.name)
    if assessment == "fail":
        failure_type = row[1].type if row else FailureType.EVALUATION_FAILURE
        severity = row[1].severity if row else Severity.MEDIUM
        if row and row[1].bound:
            number = number_of(evaluation.value)
            if number is not None:
                severity = _severity(row[1], number, row[1].bound.limit_in(thresholds))
        yield _signal(failure_type, severity, span, place, evaluation.value, "fail", "assessment is")
    if row is not None:
        name, rule = row
        signal = _of_named_value(name, rule, place, evaluation.value, span, thresholds)
        if signal is None:
            return
        is_number = rule.bound is not None and signal.comparison == rule.bound.op
        if assessment == "pass" and not is_number:
            return
        if not is_number and evaluation.value_kind == "score" and not isinstance(evaluation.value, bool):
            return  # a bare score of 1 does not say in which direction it counts
        yield signal


def _is_no_verdict(evaluation: Evaluation) -> bool:
    return isinstance(evaluation.status, str) and evaluation.status.upper() == "ERROR"


def _of_named_value(name: str, rule: Rule, place: str, value: Json, span: Span, thresholds: Thresholds) -> Signal | None:
    if value is None or name in thresholds.ignored_evaluations:
        return None
    if rule.bound is not None:
        number = number_of(value)
        if number is not None:
            limit = rule.bound.limit_in(thresholds)
            if not rule.bound.is_met(number, limit):
                return None
            if rule.type is FailureType.HTTP_ERROR:
                if not _is_status_code(number):
                    return None
                number = int(number)
            return _signal(rule.type, _severity(rule, number, limit), span, place, number, limit, rule.bound.op)
    if rule.truth and _is_true(value):
        return _signal(rule.type, rule.severity, span, place, True, True, "is")
    if isinstance(value, str) and rule.labels:
        label = normal_label(value)
        if label in rule.labels:
            return _signal(rule.type, rule.severity, span, place, label, label, "is")
    return None


def _severity(rule: Rule, number: float, limit: float) -> Severity:
    if rule.type is FailureType.HTTP_ERROR:
        return Severity.HIGH if number >= 500 else Severity.MEDIUM
    if rule.type is FailureType.QUALITY_DEGRADATION:
        return Severity.HIGH if number < limit / 2 else Severity.MEDIUM
    return rule.severity


def normal_label(value: str) -> str:
    """A label as the table spells it: case-folded, `_` and `-` as spaces, single spaces; "" when too long to be one."""
    if len(value) > 2 * _LONGEST_LABEL:
        return ""
    return " ".join(value.casefold().replace("_", " ").replace("-", " ").split())


def _is_true(value: Json) -> bool:
    if isinstance(value, str):
        return _WORDS_OF_TRUTH.get(value.strip().lower(), False) or value.strip() == "1"
    return value is True or (isinstance(value, (int, float)) and value == 1)


def _is_status_code(number: float) -> bool:
    return 100 <= number <= 999 and number == int(number)


def _finite(value: Json) -> Iterator[float]:
    number = number_of(value)
    if number is not None:
        yield number


def _signal(
    failure_type: FailureType,
    severity: Severity,
    span: Span,
    place: str,
    observed: Json,
    threshold: float | bool | str | None,
    comparison: Comparison,
) -> Signal:
    return Signal(failure_type, severity, span.span_id, place, observed, threshold, comparison)
