"""A span before and after sanitizing, leaf by leaf, with the rule that decided.

The sanitizer itself runs, watched; nothing is decided here. Each leaf of the raw span is looked up in what was heard and in
the finished payload, so an explanation can be wrong about a rule's name, never about what is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from evalforge.core.privacy import marks
from evalforge.core.privacy.fields import FIELDS
from evalforge.core.privacy.identity import USER_ID_PLACES, user_id_in
from evalforge.core.privacy.keys import MAX_KEY_LENGTH, is_storable_key, normal_key
from evalforge.core.privacy.neighbours import ALONE, TraceContext
from evalforge.core.privacy.sanitize import Sanitizer
from evalforge.core.privacy.sanitized import SanitizedSpan
from evalforge.core.privacy.telling import Told, kept_rule, removed_rule
from evalforge.core.privacy.text.findings import MARK
from evalforge.core.privacy.user_ids import normal_user_id
from evalforge.core.privacy.watching import EXTRA, Path, Recorder, is_container, repeated
from evalforge.core.signals import Signal
from evalforge.core.span import Evaluation, Json, Span

MAX_LEAF_DEPTH = 60
"""A container that lies deeper is shown as one leaf."""

HEAD = ("name", "span_kind", "status", "ml_app", "service", "env", "model_provider", "model_name", "start_ns", "duration")
IDS = ("trace_id", "span_id", "parent_id", "apm_trace_id")
SECTIONS = ("evaluation", "error", "input", "output", "tool_definitions", "tags", "metadata", "metrics", "attributes", EXTRA)
"""The reading order of a span after its head."""


class Outcome(StrEnum):
    """What became of a leaf: stored as it is, as a keyed hash, without what is personal, as a placeholder, or not at all."""

    KEPT = "kept"
    HASHED = "hashed"
    SCRUBBED = "scrubbed"
    CLOSED = "closed"
    DROPPED = "dropped"


class _Nothing:
    """Stands for a leaf of which nothing is stored; null is a value."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING = _Nothing()


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one leaf. `before` is raw and personal, and so may be `path` and `rule`; `after`, `stored_path` and
    `stored_rule` hold nothing that may not be stored. `after` is `NOTHING` where nothing is.
    """

    section: str
    path: str = field(repr=False)
    stored_path: str
    before: Json = field(repr=False)
    after: Any
    outcome: Outcome
    rule: str = field(repr=False)
    stored_rule: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A span before and after: every leaf once, in reading order, and the signals that fired, as they are stored."""

    decisions: tuple[Decision, ...]
    sanitized: SanitizedSpan
    signals: tuple[Signal, ...]

    @property
    def totals(self) -> dict[str, int]:
        """How many leaves came out in which way; every outcome is named."""
        counts = Counter(decision.outcome for decision in self.decisions)
        return {outcome.value: counts[outcome] for outcome in Outcome}


def explain(sanitizer: Sanitizer, span: Span, signals: tuple[Signal, ...], trace: TraceContext = ALONE) -> Explanation:
    """Sanitizes a span and tells what became of each of its leaves.

    Raises:
        SkippableError: as `Sanitizer.sanitize` does.
    """
    recorder = Recorder()
    sanitized = sanitizer.sanitize(span, signals, trace, recorder.make_tally)
    finder = _Finder(recorder, sanitized, span, sanitizer)
    decisions = tuple(finder.decision(path, value) for path, value in leaves(span))
    return Explanation(decisions, sanitized, sanitized.signals)


# -- the raw span ---------------------------------------------------------------------------------------------------------


def leaves(span: Span) -> Iterator[tuple[Path, Json]]:
    """Every leaf of a span once, in reading order: scalars, empty containers, and what lies too deep to be taken apart."""
    for name, value in _head(span):
        if value is not None:
            yield (name,), value
    for section in SECTIONS:
        if section == "tags":
            met: Counter[Any] = Counter()
            for key, value in span.tags:
                yield ("tags", repeated(key, met)), value
        elif section == "evaluation":
            for n, evaluation in enumerate(span.evaluations):
                body = evaluation.body if evaluation.body else {"value": evaluation.value}
                yield from _leaves_in(("evaluation", n), body)
        else:
            value = getattr(span, section)
            if value is not None and not (value in ({}, ()) and section in ("metadata", "metrics", "attributes", EXTRA)):
                yield from _leaves_in((section,), value)


def _head(span: Span) -> Iterator[tuple[str, Json]]:
    yield from (("trace_id", span.trace_id), ("span_id", span.span_id))
    yield from (("parent_id", span.parent_id), ("apm_trace_id", span.apm_trace_id))
    yield from (("name", span.name), ("span_kind", span.kind), ("status", span.status))
    yield from (("ml_app", span.application), ("service", span.service), ("env", span.env))
    yield from (("model_provider", span.model_provider), ("model_name", span.model_name))
    yield from (("start_ns", span.received_start), ("duration", span.received_duration))


def _leaves_in(path: Path, value: Json) -> Iterator[tuple[Path, Json]]:
    waiting: list[tuple[Path, Json]] = [(path, value)]
    while waiting:
        at, found = waiting.pop()
        if not is_container(found) or not found or len(at) > MAX_LEAF_DEPTH:
            yield at, found
        elif isinstance(found, Mapping):
            waiting.extend(((*at, key), inner) for key, inner in reversed(list(found.items())))
        else:
            waiting.extend(((*at, n), inner) for n, inner in reversed(list(enumerate(found))))


# -- what became of a leaf ------------------------------------------------------------------------------------------------


class _Finder:
    """Looks leaves up in what was heard and in the finished payload."""

    def __init__(self, recorder: Recorder, sanitized: SanitizedSpan, span: Span, sanitizer: Sanitizer) -> None:
        self._heard = recorder
        self._payload = sanitized.payload
        self._sanitized = sanitized
        self._span = span
        self._places = _places_in(recorder.payload)
        self._inside = {path[:n] for path in recorder.scrubbed for n in range(1, len(path) + 1)}
        self._evaluators = _stored_evaluators(span.evaluations, sanitized.payload.get("evaluation"))
        self._at_the_end = recorder.counted.get((), [])
        self._policy = sanitizer.policy
        policy = recorder.tally.policy if recorder.tally is not None else sanitizer.policy
        self._is_nobodys = sanitizer.policy.names_fields and not policy.names_fields
        self._user_id = normal_user_id(_unless_broken(span)) if sanitized.user_hash else None

    def decision(self, path: Path, before: Json) -> Decision:
        """What became of the leaf at `path`."""
        after = self._after(path, before)
        outcome = self._outcome(path, before, after)
        told = self._told(path, before, after, outcome)
        shown = [self._shown(path, n) for n in range(len(path))]
        stored = [self._stored_component(path, n) for n in range(len(path))]
        rule, stored_rule = (
            kept_rule(told, key) if outcome in (Outcome.KEPT, Outcome.SCRUBBED) else removed_rule(told, key)
            for key in (_key_at(told.at, shown), _key_at(told.at, stored))
        )
        return Decision(
            section="head" if len(path) == 1 and path[0] in (*HEAD, *IDS) else str(path[0]),
            path=_dotted(shown),
            stored_path=_dotted(stored),
            before=before,
            after=after,
            outcome=outcome,
            rule=rule,
            stored_rule=stored_rule,
        )

    def _after(self, path: Path, before: Json) -> Any:
        if path[0] == "apm_trace_id":
            return self._sanitized.apm_trace_id if self._sanitized.apm_trace_id is not None else NOTHING
        if len(path) == 1 and path[0] in (*HEAD, *IDS):
            return self._payload.get(path[0], NOTHING)
        for n in range(len(path), 0, -1):
            link = self._heard.produced.get(path[:n])
            if link is None:
                continue
            container, keys = link
            place = self._places.get(id(container))
            if place is None:
                continue  # the container itself was replaced
            if not keys:
                return NOTHING
            return self._of_tag(path, before, _at(_at(self._payload, (*place, keys[0])), path[n:]))
        return NOTHING

    @staticmethod
    def _of_tag(path: Path, before: Json, after: Any) -> Any:
        """A key that came with several values has them as one list: each value is looked for in it."""
        if path[0] != "tags" or after is NOTHING:
            return after
        found = after if isinstance(after, list) else [after]
        if before in found:
            return before
        marked = [one for one in found if isinstance(one, str) and (marks.is_mark(one) or MARK.search(one))]
        return marked[0] if marked else NOTHING

    def _outcome(self, path: Path, before: Json, after: Any) -> Outcome:
        if path[0] in IDS and after is not NOTHING and after != before and str(after).startswith(("t_", "s_")):
            return Outcome.HASHED
        is_gone = after is NOTHING or (isinstance(after, str) and marks.is_mark(after) and after != before)
        may_name = self._user_id is not None and is_gone and path[0] in USER_ID_PLACES and not is_container(before)
        if may_name and normal_user_id(before) == self._user_id:
            return Outcome.HASHED
        if after is NOTHING:
            return Outcome.DROPPED
        if is_gone:
            return Outcome.CLOSED
        if _same(before, after):
            return Outcome.KEPT
        return Outcome.SCRUBBED

    def _told(self, path: Path, before: Json, after: Any, outcome: Outcome) -> Told:
        at = next((path[:n] for n in range(len(path), 0, -1) if self._said(path[:n])), ())
        kinds = [kind for kind in self._heard.counted.get(at, []) if kind != "key"]
        rule_at = next((path[:n] for n in range(len(path), 0, -1) if path[:n] in self._heard.rules), ())
        return Told(
            path=path,
            at=at or path,
            before=before,
            after=after,
            is_hashed=outcome is Outcome.HASHED,
            kinds=kinds,
            last_steps=[kind for kind in ("echo", "second_net", "limit") if kind in self._at_the_end],
            key_rule=self._heard.rules.get(rule_at),
            is_scrubbed=path in self._inside,
            scrubbed_as=self._heard.scrubbed.get(path),
            is_open=any(path[:n] in self._heard.opened for n in range(1, len(path) + 1)),
            is_key_replaced="key" in self._heard.counted.get(path, []),
            is_nobodys=self._is_nobodys,
            explanations=self._policy.explanations.value,
            user_hash=self._sanitized.user_hash,
        )

    def _said(self, path: Path) -> bool:
        return any(kind != "key" for kind in self._heard.counted.get(path, ()))

    # -- names

    def _shown(self, path: Path, n: int) -> Any:
        if path[0] == "evaluation" and n == 1:
            return self._span.evaluations[path[1]].name
        component = path[n]
        return component[0] if isinstance(component, tuple) else component

    def _stored_component(self, path: Path, n: int) -> Any:
        if path[0] == "evaluation" and n == 1:
            return self._evaluators.get(self._span.evaluations[path[1]].name, "[evaluator]")
        component = self._shown(path, n)
        if n == 0 or isinstance(component, int):
            return component
        return component if isinstance(component, str) and _is_harmless_key(component) else "[key]"


def _key_at(at: Path, shown: list[Any]) -> str:
    """The key at which a rule held, with the one above it where the section has one: `user.email`."""
    names = [str(one) for one in shown[1 : len(at)] if not isinstance(one, int)]
    return ".".join(names[-2:]) or str(shown[0])


def _unless_broken(span: Span) -> Json:
    try:
        return user_id_in(span)
    except Exception:  # noqa: BLE001 - as in the sanitizer: such a span names nobody
        return None


def _stored_evaluators(found: tuple[Evaluation, ...], stored: Any) -> dict[str, str]:
    """Each raw evaluator name with the one that is stored: they are in the same order, each distinct one once."""
    distinct = list(dict.fromkeys(evaluation.name for evaluation in found))
    names = list(stored) if isinstance(stored, Mapping) and len(stored) == len(distinct) else []
    return dict(zip(distinct, map(str, names), strict=False))


def _is_harmless_key(key: str) -> bool:
    return len(key) <= MAX_KEY_LENGTH and (is_storable_key(key) or normal_key(key) in FIELDS)


def _places_in(payload: Mapping[str, Any]) -> dict[int, Path]:
    """The path of each container of the payload, by identity, as it stands when everything is in place."""
    places: dict[int, Path] = {id(payload): ()}
    waiting: list[tuple[Path, Any]] = [((), payload)]
    while waiting:
        path, found = waiting.pop()
        entries = found.items() if isinstance(found, Mapping) else enumerate(found)
        for key, inner in entries:
            if isinstance(inner, (dict, list)):
                places[id(inner)] = (*path, key)
                waiting.append(((*path, key), inner))
    return places


def _at(found: Any, path: Path) -> Any:
    """What stands at a path, by names; the placeholder that stands for everything below it; or `NOTHING`."""
    for n, component in enumerate(path):
        key = component[0] if isinstance(component, tuple) else component
        if isinstance(found, Mapping):
            if key in found:
                found = found[key]
            elif path[n:] == ("function", "name") and "name" in found:
                found = found["name"]  # a tool's definition, as OpenAI spells it
                break
            else:
                return NOTHING
        elif isinstance(found, list):
            if not isinstance(key, int) or key >= len(found):
                return NOTHING
            found = found[key]
        elif isinstance(found, str) and (marks.is_mark(found) or MARK.search(found)):
            return found
        else:
            return NOTHING
    return found


def _same(before: Json, after: Any) -> bool:
    if isinstance(before, bool) != isinstance(after, bool):
        return False
    return bool(before == after) or (not is_container(before) and str(before) == str(after))


def _dotted(components: list[Any]) -> str:
    text = ""
    for component in components:
        if isinstance(component, int):
            text += f"[{component}]"
        else:
            text += f".{component}" if text else str(component)
    return text
