"""Whatever thresholds applications have of their own: what the rules call a failure, the query finds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.signals import DOTTED_SPELLINGS, Limits, Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.sandbox import spans as sandbox
from evalforge.sandbox.fields import ApmFields, LlmObsFields
from evalforge.sandbox.matching import compile_query
from evalforge.sources.datadog.query import ASKED_EVALUATORS, Scope, failure_query
from evalforge.sources.datadog.spans import parse_apm, parse_llm_obs
from tests.examples import examples

SCORES = st.sampled_from([0.0, 1e-7, 0.1 + 0.2, 0.5, 0.7, 1.0]) | st.floats(0, 1)
NAMES = ["shop", "Shop", "SHOP", "chat", "straße", "STRASSE", "a b"]
LIMITS = st.builds(Limits, st.none() | SCORES, st.none() | SCORES)
OWN = st.dictionaries(st.sampled_from(sorted({name.casefold() for name in NAMES})), LIMITS)
THRESHOLDS = st.builds(Thresholds, SCORES, SCORES, st.just(frozenset()), OWN)
NUMBERS = SCORES | st.floats(-2, 2)
VALUES = NUMBERS | NUMBERS.map(repr) | st.sampled_from([True, False, "toxic", "True", 0, 1])
PATHS = st.sampled_from(
    sorted(path for path, (_, rule) in DOTTED_SPELLINGS.items() if rule.bound and isinstance(rule.bound.limit, str))
)
ASSESSMENTS = st.sampled_from([None, "pass", "fail"])


def near(thresholds: Thresholds) -> st.SearchStrategy[Any]:
    """Values, most of all the scores themselves."""
    own = [score for one in thresholds.applications.values() for score in (one.quality, one.toxicity) if score is not None]
    return st.sampled_from([thresholds.quality, thresholds.toxicity, *own]) | VALUES


def nested(path: str, value: Any) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    return {head: nested(rest, value) if rest else value}


def evaluation(path: str, value: Any, assessment: str | None) -> dict[str, Any]:
    return {path: {"value": value} | ({"assessment": assessment} if assessment else {})}


@st.composite
def judged_items(draw: st.DrawFn) -> tuple[Thresholds, dict[str, Any], dict[str, Any]]:
    """Thresholds, and one value in some place of an LLM Observability span and of an APM span."""
    thresholds = draw(THRESHOLDS)
    path, value, application = draw(PATHS), draw(near(thresholds)), draw(st.sampled_from([None, "other", *NAMES]))
    app: dict[str, Any] = {} if application is None else draw(st.sampled_from([{"ml_app": application}, {}]))
    tags = [f"ml_app:{application}"] if application is not None and not app else []
    places: list[dict[str, Any]] = [
        {"metadata": {path: value}},
        {"metadata": nested(path, value)},
        {"tags": [*tags, f"{path}:{value}"]},
    ]
    if not isinstance(value, str):
        places.append({"metrics": {path: float(value)}})
    if path in ASKED_EVALUATORS:
        places.append({"evaluation": evaluation(path, value, draw(ASSESSMENTS))})
    ids = {"trace_id": "1", "span_id": "2", "name": "n", "status": "ok"}
    llm_obs = {"attributes": ids | {"tags": tags} | app | draw(st.sampled_from(places))}
    custom = draw(st.sampled_from([{path: value}, nested(path, value)]))
    return thresholds, llm_obs, {"attributes": ids | {"custom": custom, "tags": tags}}


@examples(120)
@given(judged_items())
def test_what_fails_under_any_thresholds_is_asked_for(judged: tuple[Thresholds, dict[str, Any], dict[str, Any]]) -> None:
    thresholds, llm_obs, apm = judged
    for name, parse, item, fields in (
        ("llm_obs", parse_llm_obs, sandbox.llm_obs_item(llm_obs)[0], LlmObsFields()),
        ("apm", parse_apm, sandbox.apm_item(apm)[0], ApmFields()),
    ):
        span = parse(item)
        assert isinstance(span, Span)
        if find_signals(span, thresholds):
            query = failure_query(name, Scope(apm=""), thresholds, ())
            assert compile_query(query, fields)(sandbox.Span(item, (0, 0))), (span.application, query)


@given(THRESHOLDS, st.none() | st.sampled_from([*NAMES, "other"]))
def test_the_loosest_scores_are_no_stricter_than_any(thresholds: Thresholds, application: str | None) -> None:
    own, loosest = thresholds.of(application), thresholds.loosest()
    assert own.quality <= loosest.quality
    assert own.toxicity >= loosest.toxicity
    assert loosest.applications == {}
    assert own.of(application) == own
