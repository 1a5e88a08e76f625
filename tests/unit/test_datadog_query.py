"""The query: every place that the signal table looks at, quoting, scope, digests and the healthy words."""

from __future__ import annotations

from typing import Any

import pytest

from evalforge.core.signals import DOTTED_SPELLINGS, RULES, SPELLINGS, Limits, Thresholds, find_signals
from evalforge.core.span import Evaluation, Span
from evalforge.sources.datadog.query import (
    ASKED_EVALUATORS,
    HEALTHY_LABELS,
    HEALTHY_WORDS,
    MANAGED_EVALUATORS,
    Scope,
    evaluated_query,
    evaluation_entries,
    failure_query,
    is_queryable,
    learned_query,
    quoted,
    scope_query,
    settings_digest,
)

SOURCES = ("llm_obs", "apm")


def span(source: str = "llm_obs", **fields: Any) -> Span:
    named: dict[str, Any] = {
        "parent_id": None,
        "name": "n",
        "kind": "llm",
        "status": "ok",
        "start_ns": 1,
        "duration_ns": 1,
        **fields,
    }
    return Span(source, "t", "llm_obs", "s", **named)


def query(source: str, *learned: str, scope: Scope = Scope(apm=""), thresholds: Thresholds = Thresholds()) -> str:  # noqa: B008 - frozen
    return failure_query(source, scope, thresholds, learned)


@pytest.mark.parametrize("path", DOTTED_SPELLINGS)
def test_every_spelling_is_asked_for_in_every_place(path: str) -> None:
    llm_obs, apm = query("llm_obs"), query("apm")
    _, rule = DOTTED_SPELLINGS[path]
    assert f"(@meta.metadata.{path}:* -" in llm_obs
    assert f"@evaluation.{path}.assessment:fail" in llm_obs
    assert f"@evaluation.{path}.value:*" in llm_obs
    assert (f"@metrics.{path}:" in llm_obs) is bool(rule.bound or rule.truth)
    assert f"(@{path}:* -" in apm


@pytest.mark.parametrize("path", SPELLINGS)
def test_every_spelling_is_asked_for_among_tags(path: str) -> None:
    for source in SOURCES:
        assert f" OR {path}:" in query(source)
        assert query(source).count("(") == query(source).count(")")


@pytest.mark.parametrize("name", [name for rule in RULES for name in rule.names])
def test_plain_names_are_also_asked_for_in_the_old_syntax(name: str) -> None:
    for clause in (f"@evaluations.{name}:", f"@evaluations.custom.{name}:", f"@evaluations.assessment.custom.{name}:fail"):
        assert clause in query("llm_obs")


def test_an_evaluator_of_the_table_under_an_odd_spelling_is_asked_for_once_it_is_learned() -> None:
    odd = sorted(SPELLINGS.keys() - ASKED_EVALUATORS)
    assert odd
    for name in odd:
        assert f"@evaluation.{name}." not in query("llm_obs")
        assert f"@evaluation.{name}.value:*" in query("llm_obs", f"evaluation.{name}")


def test_status_and_managed_evaluators_are_asked_for() -> None:
    assert query("llm_obs").startswith("@status:error OR ")
    assert query("apm").startswith("status:error OR ")
    for name in MANAGED_EVALUATORS:
        assert f"@evaluation.{name}.assessment:fail" in query("llm_obs")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.names[0])
@pytest.mark.parametrize("word", [*HEALTHY_LABELS, "none", "not found", "No hallucination", "not toxic", "NO"])
def test_no_healthy_word_is_a_failure_anywhere(rule: Any, word: str) -> None:
    word = word.replace("*", "")
    for name in rule.names:
        assert find_signals(span(evaluations=(Evaluation(name, word),)), Thresholds()) == ()
        assert find_signals(span(metadata={name: word}, attributes={name: word}), Thresholds()) == ()
    assert not any(label.startswith("no") for label in rule.labels)


def test_thresholds_are_in_the_query_digit_for_digit() -> None:
    text = query("llm_obs", thresholds=Thresholds(quality=0.1 + 0.2, toxicity=1e-7))
    assert "@metrics.quality_score:<0.30000000000000004 " in text
    assert "@metrics.toxicity_score:>=0.0000001 " in text
    assert "e-" not in text


def test_the_loosest_thresholds_of_all_applications_are_in_the_query() -> None:
    own = {"shop": Limits(quality=0.8), "chat": Limits(quality=0.1, toxicity=0.25)}
    text = query("llm_obs", thresholds=Thresholds(applications=own))
    assert text == query("llm_obs", thresholds=Thresholds(quality=0.8, toxicity=0.25))


def test_ignored_evaluators_are_not_asked_for() -> None:
    text = query("llm_obs", thresholds=Thresholds(ignored_evaluations=frozenset({"toxicity", "tool_selection"})))
    assert ".toxicity" not in text.replace("toxicity_score", "")
    assert "tool_selection" not in text
    assert "@evaluation.hallucination.value" in text


@pytest.mark.parametrize(
    ("name", "clause"),
    [
        ("tone", "@evaluation.tone.assessment:fail"),
        ("helpfulness-check", "@evaluation.helpfulness-check.assessment:fail"),
        ("tone check", r"@evaluation.tone\ check.assessment:fail"),
        ('a"b\\c(d):e', r"@evaluation.a\"b\\c\(d\)\:e.assessment:fail"),
        ("größe", r"@evaluation.gr\ö\ße.assessment:fail"),
    ],
)
def test_learned_names_are_escaped(name: str, clause: str) -> None:
    assert is_queryable(name)
    for text in (query("llm_obs", f"evaluation.{name}"), learned_query("llm_obs", Scope(), [f"evaluation.{name}"])):
        assert clause in text


@pytest.mark.parametrize("name", ["", "a*", "a?", "a\nb", "\x00", "\ud800", "x" * 201, "\u202e"])
def test_what_no_query_can_ask_for_is_left_out(name: str) -> None:
    assert not is_queryable(name)
    assert query("llm_obs", f"evaluation.{name}", f"any:metadata.{name}") == query("llm_obs")


@pytest.mark.parametrize(
    ("source", "entry", "clause"),
    [
        ("llm_obs", "any:status", "(@status:* -@status:ok)"),
        ("apm", "any:status", "-status:ok"),
        ("llm_obs", "any:metadata.llm_obs.quality_score", "@meta.metadata.llm_obs.quality_score:*"),
        ("llm_obs", "any:metrics.quality_score", "@metrics.quality_score:*"),
        ("llm_obs", "any:tags.http.status_code", "http.status_code:*"),
        ("apm", "any:tags.http.status_code", "http.status_code:*"),
        ("apm", "any:attributes.http.status_code", "@http.status_code:*"),
        ("llm_obs", "any:evaluation.tone", "@evaluation.tone.value:*"),
    ],
)
def test_a_learned_place_is_asked_for_by_existence(source: str, entry: str, clause: str) -> None:
    assert learned_query(source, Scope(apm=""), [entry]).split(" OR ").count(clause) == 1


def test_a_gap_or_a_foreign_place_adds_nothing() -> None:
    for source in SOURCES:
        assert query(source, "gap:evaluation.x", "whatever", "any:", "any:output.x", "") == query(source)
    assert query("apm", "evaluation.tone") == query("apm")


def test_late_evaluations_are_asked_for_by_every_evaluator_and_by_nothing_else() -> None:
    thresholds = Thresholds(quality=0.3, applications={"shop": Limits(quality=0.8)})
    entries = [*evaluation_entries(thresholds), "evaluation.tone", "any:evaluation.odd", "evaluation.a*"]
    text = evaluated_query(Scope(envs=("prod",)), thresholds, entries)
    assert text.startswith('env:("prod") AND (@evaluation.')
    for name in (*ASKED_EVALUATORS, "tone"):
        assert text.count(f"@evaluation.{name}.assessment:fail") == 1
    assert "@evaluation.odd.value:*" in text
    assert "-@evaluation.quality_score.value:>=0.8" in text
    for foreign in ("@status", "@meta", "@metrics", "OR quality_score:", "OR llm_obs.quality_score:"):
        assert foreign in query("llm_obs")
        assert foreign not in text
    assert len(text) < 12_000


def test_ignored_evaluators_are_not_asked_for_when_they_are_late() -> None:
    thresholds = Thresholds(ignored_evaluations=frozenset({"toxicity", "tool_selection"}))
    entries = evaluation_entries(thresholds)
    assert entries
    assert not {"evaluation.toxicity", "evaluation.llm_obs.toxicity", "evaluation.tool_selection"} & set(entries)


# -- scope ----------------------------------------------------------------------------------------------------------------


def test_scope_stands_before_the_failures_in_parentheses() -> None:
    scope = Scope(ml_apps=("Bot", 'a "b" \\'), envs=("prod",), apm="@llmobs_trace_id:*")
    apps = r'("Bot" OR "a \"b\" \\")'
    assert scope_query("llm_obs", scope) == f'(@ml_app:{apps} OR ml_app:{apps}) AND env:("prod")'
    assert scope_query("apm", scope) == '(@llmobs_trace_id:*) AND env:("prod")'
    for source in SOURCES:
        assert query(source, scope=scope) == f"{scope_query(source, scope)} AND ({query(source)})"


@pytest.mark.parametrize("apm", ["", "*", "  "])
def test_no_scope_is_no_query(apm: str) -> None:
    assert [scope_query(source, Scope(apm=apm)) for source in SOURCES] == ["", ""]


def test_quoting_takes_a_value_literally() -> None:
    assert quoted('a"b\\c*') == r'"a\"b\\c*"'


@pytest.mark.parametrize(
    ("scope", "fields", "wanted"),
    [
        (Scope(), {}, True),
        (Scope(), {"kind": "experiment"}, False),
        (Scope(ml_apps=("Bot",)), {"application": "bOT"}, True),
        (Scope(ml_apps=("Bot",)), {"application": "other"}, False),
        (Scope(ml_apps=("Bot",)), {}, False),
        (Scope(ml_apps=("Bot",)), {"source": "apm"}, True),
        (Scope(ml_apps=("Bot",)), {"source": "apm", "application": "other"}, False),
        (Scope(envs=("PROD", "dev")), {"env": "prod"}, True),
        (Scope(envs=("prod",)), {"env": "staging"}, False),
        (Scope(envs=("prod",)), {"source": "apm"}, False),
    ],
)
def test_what_is_in_scope(scope: Scope, fields: dict[str, Any], wanted: bool) -> None:
    assert scope.contains(span(**fields)) is wanted


# -- digest ---------------------------------------------------------------------------------------------------------------


def test_the_digest_tells_any_two_settings_apart() -> None:
    digests = [
        settings_digest(source, mode, scope, thresholds, names)
        for source in SOURCES
        for mode in ("auto", "query", "scan")
        for scope in (Scope(), Scope(envs=("prod",)))
        for thresholds in (Thresholds(), Thresholds(quality=0.4), Thresholds(ignored_evaluations=frozenset({"x"})))
        for names in ([], ["tone"])
    ]
    own = [
        Thresholds(quality, 0.7, frozenset(), applications)
        for quality in (0.5, 0.4)
        for applications in ({"a": Limits(0.8)}, {"a": Limits(0.8), "b": Limits(0.3)}, {"b": Limits(0.8)})
    ]
    told = {settings_digest("llm_obs", "auto", Scope(), thresholds, []) for thresholds in own}
    assert len(told | set(digests)) == len(set(digests)) + len(own), "though the query is the same for all six"
    same = {settings_digest("apm", "auto", Scope(), Thresholds(), names) for names in ([], ["tone"])}
    assert len(set(digests)) == len(digests) - 3 * 2 * 3, "APM has no evaluations, so names change nothing there"
    assert len(same) == 1


def test_the_query_stays_short() -> None:
    """Datadog does not say how long one may be; it must not grow unseen."""
    assert set(HEALTHY_WORDS) < set(HEALTHY_LABELS)
    assert len(query("llm_obs")) < 18_000
    assert len(query("apm")) < 6_000
