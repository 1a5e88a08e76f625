"""The sandbox's query engine: a hit and a miss for each construct, on one span of each source."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalforge.sandbox.fields import ApmFields, LlmObsFields
from evalforge.sandbox.matching import MANY, compile_query
from evalforge.sandbox.memory import Store
from evalforge.sandbox.query import And, Field, Literally, Not, Or, QueryError, parse
from evalforge.sandbox.spans import Span
from tests.examples import examples

LLM_OBS: dict[str, Any] = {
    "span_id": "2622305684663452078",
    "trace_id": "6b03dc78000000003d53c950006270ff",
    "parent_id": "undefined",
    "name": "generate answer",
    "status": "error",
    "span_kind": "llm",
    "ml_app": "support-bot",
    "model_name": "gpt-4o-mini",
    "duration": 6_000_000_000.0,
    "start_ns": 1795415160838728626,
    "tags": [
        "env:Production",
        "version:",
        "ticket:T-77",
        "source:a",
        "source:b",
        "url:http://x/y",
        "quality_score:0.2",
        "compute",
    ],
    "metadata": {
        "quality_score": 0.31,
        "quoted": "0.31",
        "llm_obs": {"guardrails": {"failed": True}},
        "http.status_code": 503,
        "labels": ["red", "green"],
        "note": 'say "hi" \\ bye',
        "empty": "",
        "nothing": None,
        "star": "a*b",
        "negative": -3,
    },
    "metrics": {"toxicity_score": 0.91},
    "input": {"value": "Where is my refund? I'm Maria López."},
    "output": {"messages": [{"role": "assistant", "content": "Refunded twice."}, {"role": "tool"}]},
    "evaluation": {
        "hallucination": {"value": "hallucination found", "assessment": "fail", "status": "OK"},
        "quality_score": {"value": 0.31, "assessment": "fail"},
        "helpfulness-check": {"value": 2},
        "is_helpful": {"value": False, "assessment": "pass"},
        "rubric": {"value": {"tone": 3}, "assessment": "fail", "eval_metric_type": "json"},
    },
}
UNEXPORTED = {"error": {"type": "PaymentDeclinedError", "message": "declined"}, "session_id": "s-1"}

APM: dict[str, Any] = {
    "service": "Support-api",
    "env": "staging",
    "resource_name": "POST /chat",
    "operation_name": "fastapi.request",
    "type": "web",
    "trace_id": "9997924668816634474",
    "span_id": "4647064937805173511",
    "start_timestamp": "2026-11-23T06:26:00.828Z",
    "tags": ["space_name:space_1", "compute"],
    "custom": {
        "http": {"status_code": "429", "method": "POST"},
        "duration": 17_402_852,
        "retries": "3",
        "llmobs_trace_id": "6b03dc78000000003d53c950006270ff",
        "llm_obs": {"quality_score": 0.31, "guardrails": {"failed": "true"}},
        "error": {"message": "card was declined"},
    },
}

llm_obs_span = Span({"id": "1", "type": "span", "attributes": LLM_OBS}, (0, 1), UNEXPORTED)
apm_span = Span({"id": "AY", "type": "spans", "attributes": APM}, (0, 1))

LLM_OBS_ROWS = [
    # construct, hit, miss
    ("attribute", "@status:error", "@status:ok"),
    ("attributes keep their case", "@status:error", "@status:Error"),
    ("quoted value", '@name:"generate answer"', '@name:"generate  answer"'),
    ("escaped space", r"@name:generate\ answer", r"@name:generate\ answe"),
    ("escaped quote and backslash", r'@meta.metadata.note:"say \"hi\" \\ bye"', r'@meta.metadata.note:"say \"hi\" bye"'),
    ("empty value", '@meta.metadata.empty:""', '@meta.metadata.note:""'),
    ("ids with @", "@trace_id:6b03dc78000000003d53c950006270ff", "@trace_id:6b03"),
    ("ids without @", "trace_id:6b03dc78000000003d53c950006270ff", "span_id:1"),
    ("root", "@parent_id:undefined", "@parent_id:0"),
    ("ml_app as attribute", "@ml_app:support-bot", "@ml_app:support"),
    ("kind", "@meta.span.kind:llm", "@meta.span.kind:agent"),
    ("model", "@meta.model_name:gpt-4o-mini", "@meta.model_name:gpt-4o"),
    ("error type, which is not exported", "@meta.error.type:PaymentDeclinedError", "@meta.error.type:Timeout"),
    ("session", "@session_id:s-1", "@session_id:s-2"),
    ("unknown attribute", "-@no_such:*", "@no_such:*"),
    ("tags have no case", "ENV:production", "env:staging"),
    ("a tag's empty value", 'version:""', 'env:""'),
    ("a repeated tag", "source:b", "source:c"),
    ("a colon in a tag's value", 'url:"http://x/y"', 'url:"http"'),
    ("a tag without a colon", 'compute:""', "compute:x"),
    ("tag exists", "ticket:*", "tickets:*"),
    ("tag wildcard", "ticket:t-*", "ticket:x-*"),
    ("status as a tag finds nothing", "-status:error", "status:error"),
    ("and", "@status:error AND env:production", "@status:error AND env:staging"),
    ("implicit and", "@status:error env:production", "@status:ok env:production"),
    ("or", "@status:ok OR env:production", "@status:ok OR env:staging"),
    ("and binds tighter than or", "@status:error OR @status:ok @status:ok", "@status:ok @status:ok OR @status:ok"),
    ("parentheses", "(@status:ok OR @status:error) env:production", "(@status:ok OR @status:error) env:staging"),
    ("minus", "-@status:ok", "-@status:error"),
    ("NOT", "NOT @status:ok", "NOT @status:error"),
    ("minus before parentheses", "-(@status:ok env:production)", "-(@status:error env:production)"),
    ("two negations", "--@status:error", "--@status:ok"),
    ("value group", "@status:(ok OR error)", "@status:(ok OR warn)"),
    ("negation in a group", "@status:(-ok)", "@status:(-error)"),
    ("tag group", "env:(Staging OR Production)", "env:(staging OR dev)"),
    ("wildcard", "@meta.model_name:gpt-*", "@meta.model_name:claude-*"),
    ("wildcard inside", "@meta.model_name:g*mini", "@meta.model_name:g*maxi"),
    ("one character", "@meta.model_name:gpt-4?-mini", "@meta.model_name:gpt-?-mini"),
    ("no wildcard in quotes", '@meta.metadata.star:"a*b"', '@meta.model_name:"gpt-*"'),
    ("no escaped wildcard", r"@meta.metadata.star:a\*b", r"@meta.model_name:gpt-\*"),
    ("exists", "@meta.metadata.quality_score:*", "@meta.metadata.nothing:*"),
    ("does not exist", "-@meta.metadata.nothing:*", "-@meta.metadata.quality_score:*"),
    ("an object is no value", "-@meta.metadata.llm_obs:*", "@meta.metadata.llm_obs:*"),
    ("nested metadata", "@meta.metadata.llm_obs.guardrails.failed:true", "@meta.metadata.llm_obs.guardrails.failed:false"),
    ("dotted metadata", "@meta.metadata.http.status_code:[400 TO 599]", "@meta.metadata.http.status_code:[400 TO 502]"),
    ("list in metadata", "@meta.metadata.labels:green", "@meta.metadata.labels:blue"),
    ("number by value", "@meta.metadata.quality_score:0.310", "@meta.metadata.quality_score:0.3"),
    ("less", "@meta.metadata.quality_score:<0.5", "@meta.metadata.quality_score:<0.31"),
    ("less or equal", "@meta.metadata.quality_score:<=0.31", "@meta.metadata.quality_score:<=0.3"),
    ("greater", "@metrics.toxicity_score:>0.9", "@metrics.toxicity_score:>0.91"),
    ("greater or equal", "@metrics.toxicity_score:>=0.91", "@metrics.toxicity_score:>=0.92"),
    ("negative number", "@meta.metadata.negative:<-2", "@meta.metadata.negative:<-3"),
    ("negative value", "@meta.metadata.negative:-3", "@meta.metadata.negative:-4"),
    ("range includes both ends", "@meta.metadata.quality_score:[0.31 TO 0.31]", "@meta.metadata.quality_score:[0.32 TO 1]"),
    ("open range", "@meta.metadata.quality_score:[* TO 0.5]", "@meta.metadata.quality_score:[0.5 TO *]"),
    ("no range over text", "@meta.metadata.quoted:0.31", "@meta.metadata.quoted:<0.5"),
    ("no range over booleans", "@evaluation.is_helpful.value:false", "@evaluation.is_helpful.value:<1"),
    ("no range over tags", "quality_score:0.2", "quality_score:<0.5"),
    ("duration in units", "@duration:>5s", "@duration:>7s"),
    ("duration in nanoseconds", "@duration:>=6000000000", "@duration:<1h @duration:>6001ms"),
    ("evaluation value", '@evaluation.hallucination.value:"hallucination found"', "@evaluation.hallucination.value:found"),
    ("evaluation assessment", "@evaluation.hallucination.assessment:fail", "@evaluation.hallucination.assessment:pass"),
    ("evaluation status", "@evaluation.hallucination.status:OK", "@evaluation.quality_score.status:*"),
    ("evaluation score", "@evaluation.quality_score.value:<0.5", "@evaluation.quality_score.value:<0.2"),
    ("evaluator with a hyphen", "@evaluation.helpfulness-check.value:2", "@evaluation.helpfulness-check.value:3"),
    ("evaluation presence", "@evaluation.is_helpful.value:*", "@evaluation.unknown.value:*"),
    ("no wildcard over evaluators", "-@evaluation.*.assessment:fail", "@evaluation.*.assessment:fail"),
    ("no part of an evaluator's name", "-@evaluation.halluc*.assessment:fail", "@evaluation.halluc?nation.assessment:*"),
    ("json is not indexed by value", "@evaluation.rubric.assessment:fail", "@evaluation.rubric.value:*"),
    ("other parts are not indexed", "-@evaluation.rubric.eval_metric_type:*", "@evaluation.rubric.eval_metric_type:json"),
    ("old form, managed", '@evaluations.hallucination:"hallucination found"', "@evaluations.quality_score:0.31"),
    ("old form, custom", "@evaluations.custom.quality_score:<0.5", "@evaluations.custom.unknown:*"),
    (
        "old form, assessment",
        "@evaluations.assessment.custom.quality_score:fail",
        "@evaluations.assessment.custom.is_helpful:fail",
    ),
    ("free word without case", "REFUND", "refunds"),
    ("free phrase", '"where is my refund"', '"my where"'),
    ("free word in messages", "refunded", "assistant"),
    ("free wildcard", "lópe*", "lope*"),
    ("free words are all wanted", "refund twice", "refund thrice"),
    ("lower-case operators are words", "where and refund OR where", "where and refund"),
    ("everything", "*", "-*"),
    ("nothing asked", "", "NOT *"),
]

APM_ROWS = [
    ("reserved word", "service:Support-api", "service:other"),
    ("reserved words keep their case", "env:staging", "env:Staging"),
    ("resource", 'resource_name:"POST /chat"', "resource_name:POST"),
    ("operation", "operation_name:fastapi*", "operation_name:flask*"),
    ("type", "type:web", "type:llm"),
    ("status of a good span", "status:ok", "status:error"),
    ("ids", "trace_id:9997924668816634474 span_id:4647064937805173511", "trace_id:1"),
    ("custom", "@llmobs_trace_id:*", "@llmobs_parent_id:*"),
    ("nested custom", "@http.method:POST", "@http.method:GET"),
    ("status code in quotes is a number", "@http.status_code:[400 TO 599]", "@http.status_code:>=430"),
    ("status code by text", "@http.status_code:429", "@http.status_code:42"),
    ("other numbers in quotes are text", "@retries:3", "@retries:>2"),
    ("number", "@llm_obs.quality_score:<0.5", "@llm_obs.quality_score:>0.5"),
    ("duration", "@duration:>17ms", "@duration:>18ms"),
    ("boolean as text", "@llm_obs.guardrails.failed:true", "@llm_obs.guardrails.failed:false"),
    ("tag", "space_name:Space_1", "space_name:space_2"),
    ("free text", "declined", "accepted"),
    ("reserved words need no @", "-@service:*", "@service:Support-api"),
]


@pytest.mark.parametrize(("query", "wanted"), [(r[i], i == 1) for r in LLM_OBS_ROWS for i in (1, 2)])
def test_llm_obs(query: str, wanted: bool) -> None:
    assert compile_query(query, LlmObsFields())(llm_obs_span) is wanted


@pytest.mark.parametrize(("query", "wanted"), [(r[i], i == 1) for r in APM_ROWS for i in (1, 2)])
def test_apm(query: str, wanted: bool) -> None:
    assert compile_query(query, ApmFields())(apm_span) is wanted


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("(", "expected a value"),
        ("(@a:b", "never closed"),
        ("@a:b)", "unexpected"),
        ("()", "expected a value"),
        ("@a:", "ends where a value should follow"),
        ("@a: b", "directly"),
        (":b", "name is missing"),
        ("@:b", "name is missing"),
        ('@a:"b', "never closed"),
        ("@a:b\\", "ends with a backslash"),
        ('@a:"b"c', "must follow the value"),
        ("@a:b:c", "expected a value"),
        ("@a:http://x", "expected a value"),
        ("@a:[1 TO", "must be quoted"),
        ("@a:[1,2]", "must be quoted"),
        ("@a:x=1", "must be quoted"),
        ("AND @a:b", "expected a value"),
        ("@a:b OR", "expected a value"),
        ("@a:b AND OR @c:d", "expected a value"),
        ("NOT", "expected a value"),
        ("-", "expected a value"),
        ("@a:(b @c:d)", "expected a value"),
        ("@a:()", "expected a value"),
        ("<5", "needs a field"),
        ("@a:<x", "no number"),
        ("@a:>5s", "no number"),
        ("@a:[1 TO x]", "no number"),
        ("@a:<nan", "no number"),
        ("@a:<>5", "must be quoted"),
        ("-" * 5000 + "x", "nests deeper"),
        ("(" * 5000, "nests deeper"),
    ],
)
def test_what_is_no_query(query: str, why: str) -> None:
    with pytest.raises(QueryError, match=why):
        compile_query(query, LlmObsFields())


def test_the_tree() -> None:
    a, b, c = (Field(name, name != "c", Literally("1")) for name in "abc")
    assert parse("@a:1 -@b:1 OR c:1") == Or((And((a, Not(b))), c))


def test_a_pattern_of_many_stars_is_quick_on_a_text_that_almost_fits() -> None:
    span = Span({"attributes": {"name": "a" * 5000}}, (0, 1))
    assert not compile_query("@name:" + "*a" * 30 + "*b", LlmObsFields())(span)


@given(st.text(alphabet=st.sampled_from('@ab:.-*?"\\()[]<>=TONRAD 019'), max_size=40) | st.text())
@example("@a:[1 TO 1e999]")
@example('-"')
def test_any_text_is_a_query_or_a_query_error(text: str) -> None:
    for fields, span in ((LlmObsFields(), llm_obs_span), (ApmFields(), apm_span)):
        try:
            holds = compile_query(text, fields)
        except QueryError:
            continue
        assert holds(span) in (True, False)
        assert holds(Span("not even an object", (0, 1))) in (True, False)


quoted = st.text().map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')


@given(st.text(), quoted)
def test_a_quoted_value_finds_exactly_itself(value: str, other: str) -> None:
    written = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    span = Span({"attributes": {"name": value}}, (0, 1))
    assert compile_query(f"@name:{written}", LlmObsFields())(span)
    assert compile_query(f"@name:{other}", LlmObsFields())(span) is (other == written)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
odd_attributes = st.fixed_dictionaries(
    dict.fromkeys(("tags", "metadata", "metrics", "evaluation", "input", "output", "custom", "status", "name"), json)
)


@given(odd_attributes)
def test_any_span_can_be_searched(attributes: dict[str, Any]) -> None:
    span = Span({"attributes": attributes}, (0, 1))
    for rows, fields in ((LLM_OBS_ROWS, LlmObsFields()), (APM_ROWS, ApmFields())):
        for _, hit, miss in rows:
            compile_query(hit, fields)(span)
            compile_query(miss, fields)(span)


# --- the shape of a span is a shortcut, never an answer ----------------------------------------------------------------

OTHERS = " OR ".join(f"@metrics.no_such_{number}:>1" for number in range(MANY))


@pytest.mark.parametrize(
    ("rows", "fields", "span"),
    [(LLM_OBS_ROWS, LlmObsFields(), llm_obs_span), (APM_ROWS, ApmFields(), apm_span)],
    ids=["llm_obs", "apm"],
)
def test_one_alternative_of_many_matches_as_it_does_alone(rows: list[tuple[str, ...]], fields: Any, span: Span) -> None:
    for query in (query for row in rows for query in row[1:] if query):
        assert compile_query(f"({query}) OR {OTHERS}", fields)(span) is compile_query(query, fields)(span), query


NAMES = st.sampled_from(["a", "b.c", "c", "b", "toxicity", "custom.a", "a.value", "status", "TRUE", "x:y"])
VALUES = st.sampled_from(["fail", "pass", "true", "1", "error", True, 1, 0.5, None, "", ["fail"], {"c": "fail"}])
NESTED = st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES))
VERDICTS = st.dictionaries(NAMES, st.dictionaries(st.sampled_from(["value", "assessment", "status", "c"]), VALUES) | VALUES)
FIELDS = st.sampled_from(
    "a b.c x\\:y @status @a @b.c @c @metrics.a @metrics.b.c @meta.metadata.b.c @meta.metadata.status @evaluation.a.value "
    "@evaluation.a.assessment @evaluation.b.c.assessment @evaluation.a.status @evaluations.toxicity @evaluations.custom.a "
    "@evaluations.custom.custom.a @evaluations.assessment.custom.b.c @evaluation.a @name status".split()
)
ASKED = st.sampled_from(["*", "fail", "TRUE", "true", "1", ">0", "[0 TO 1]", "f*", "error", "(fail OR 1)", '""'])


@examples(60)
@given(
    attributes=st.fixed_dictionaries(
        {
            "tags": st.lists(st.builds("{}:{}".format, NAMES, VALUES) | NAMES),
            "metadata": NESTED,
            "metrics": NESTED,
            "custom": NESTED,
            "evaluation": VERDICTS,
            "status": VALUES,
        }
    ),
    field=FIELDS,
    asked=ASKED,
)
def test_the_shape_of_any_span_never_changes_the_answer(attributes: dict[str, Any], field: str, asked: str) -> None:
    span = Span({"attributes": attributes}, (0, 1))
    for fields in (LlmObsFields(), ApmFields()):
        alone = compile_query(f"{field}:{asked}", fields)(span)
        assert compile_query(f"{field}:{asked} OR {OTHERS}", fields)(span) is alone
        assert compile_query(f"({field}:{asked} @span_id:*) OR {OTHERS}", fields)(span) is False
        assert compile_query(f"-{field}:{asked} OR {OTHERS}", fields)(span) is not alone


def test_the_shape_follows_an_evaluation_that_comes_late() -> None:
    store = Store()
    store.add_llm_obs([{"span_id": "1"}])
    matches = compile_query(f"@evaluation.tone.assessment:fail OR {OTHERS}", LlmObsFields())
    (span,) = store.between("llm_obs", 0, 10**19)
    assert not matches(span)
    store.add_evaluation("1", "tone", {"assessment": "fail"})
    assert matches(span)
